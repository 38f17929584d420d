//! One table of the kernel, kept as wanted.
//!
//! Remembers what it wrote last, so that a change costs what changed. After an error it assumes nothing and puts the
//! whole table in place.

use std::time::{Duration, Instant};

use super::batch::Batch;
use super::change::{Change, whole};
use super::error::NftError;
use super::socket::Nft;
use super::table::Table;

/// The owner of one table.
#[derive(Debug)]
pub struct Program {
    nft: Nft,
    current: Option<Table>,
}

/// What bringing a table in line took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    pub change: Change,
    /// Messages and bytes of the transaction.
    pub messages: usize,
    pub bytes: usize,
    /// From the call to the kernel's answer.
    pub elapsed: Duration,
}

impl Program {
    /// Takes over whatever table there is with the first [`Program::apply`].
    pub fn new(nft: Nft) -> Self {
        Self { nft, current: None }
    }

    /// Makes the kernel's table hold exactly `wanted`, in one transaction.
    ///
    /// Chains that do not change keep their counters, sets that do not change are not touched.
    pub fn apply(&mut self, wanted: Table) -> Result<Applied, NftError> {
        let start = Instant::now();
        let mut batch = Batch::new();
        let change = match self.current.take() {
            Some(current) => batch.change(&current, &wanted),
            None => {
                batch.replace(&wanted);
                Change { replaced: true, ..whole(&wanted) }
            }
        };
        let (messages, bytes) = (batch.messages(), batch.bytes());
        self.nft.send(batch)?;
        self.current = Some(wanted);
        Ok(Applied { change, messages, bytes, elapsed: start.elapsed() })
    }

    /// Deletes the table, if this owner ever wrote it.
    pub fn remove(&mut self) -> Result<(), NftError> {
        let Some(current) = self.current.take() else {
            return Ok(());
        };
        let mut batch = Batch::new();
        batch.delete_table(current.family, &current.name);
        self.nft.send(batch)
    }

    /// Forgets what was written, so that the next [`Program::apply`] puts the whole table in place.
    pub fn distrust(&mut self) {
        self.current = None;
    }

    /// The table as last written.
    pub fn current(&self) -> Option<&Table> {
        self.current.as_ref()
    }

    /// The connection, for reading counters back.
    pub fn nft(&mut self) -> &mut Nft {
        &mut self.nft
    }
}
