//! Bringing the kernel's table in line with a compiled ruleset.

use cknet_kernel::nft::{Applied, Nft, NftError, Program};

use super::compile::Ruleset;

/// The owner of the table `kube-proxy` of one network namespace.
///
/// Sends only what changed; the first time and after an error the whole table, in one transaction.
#[derive(Debug)]
pub struct Programmer {
    program: Program,
}

impl Programmer {
    /// Acts on the network namespace in which `nft` was opened.
    pub fn new(nft: Nft) -> Self {
        Self { program: Program::new(nft) }
    }

    pub fn apply(&mut self, ruleset: &Ruleset) -> Result<Applied, NftError> {
        self.program.apply(ruleset.table.clone())
    }

    /// Somebody else changed the table: the next [`Programmer::apply`] writes it anew.
    pub fn distrust(&mut self) {
        self.program.distrust();
    }

    /// The connection, for reading counters back.
    pub fn nft(&mut self) -> &mut Nft {
        self.program.nft()
    }
}
