//! Owns what a ledger file says when it is read: its owner and what is still there. It must not write.

use std::fs;
use std::path::Path;

use super::{Entry, LedgerError, Owner, Record, Resource};

/// A ledger as read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    pub owner: Owner,
    /// The run says that nothing is left.
    pub closed: bool,
    /// In the order of the intents.
    outstanding: Vec<Resource>,
    /// Bytes up to the end of the last whole record; what follows was cut off by a crash.
    pub(super) whole_bytes: u64,
    /// Whether the last whole record lacks its line end.
    pub(super) lacks_newline: bool,
}

impl History {
    /// Reads the ledger at `path`. A last line that was cut off is left out: its write never returned, so nothing
    /// was done on the strength of it.
    ///
    /// # Errors
    /// When the file cannot be read, has a broken line before the last, or does not begin with its owner.
    pub fn read(path: &Path) -> Result<Self, LedgerError> {
        let bytes = fs::read(path).map_err(LedgerError::io("read", path))?;
        Self::parse(path, &bytes)
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, LedgerError> {
        let mut owner = None;
        let mut closed = false;
        let mut outstanding = Vec::new();
        let mut whole_bytes = 0;
        let mut lacks_newline = false;
        for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let ended = line.ends_with(b"\n");
            let record = match serde_json::from_slice::<Entry>(line) {
                Ok(entry) => entry.record,
                Err(_) if !ended => break,
                Err(source) => {
                    return Err(LedgerError::Corrupt { path: path.to_owned(), line: index + 1, source });
                }
            };
            whole_bytes += line.len() as u64;
            lacks_newline = !ended;
            match record {
                Record::Owner(of) if owner.is_none() => owner = Some(of),
                Record::Owner(_) => {}
                Record::Intent(resource) | Record::Created(resource) => note(&mut outstanding, resource),
                Record::Destroyed(key) => outstanding.retain(|resource: &Resource| resource.key != key),
                Record::Closed {} => closed = true,
            }
        }
        let owner = owner.ok_or_else(|| LedgerError::NoOwner { path: path.to_owned() })?;
        Ok(Self { owner, closed, outstanding, whole_bytes, lacks_newline })
    }

    /// What exists or may exist, in the order in which to destroy it: the newest first.
    pub fn outstanding(&self) -> impl Iterator<Item = &Resource> {
        self.outstanding.iter().rev()
    }
}

/// Adds a thing, or what more is known of it, keeping its place.
pub(super) fn note(outstanding: &mut Vec<Resource>, resource: Resource) {
    match outstanding.iter_mut().find(|known| known.key == resource.key) {
        Some(known) => known.details.extend(resource.details),
        None => outstanding.push(resource),
    }
}
