//! Owns the record of everything a run makes, so that it can be destroyed when the run is no longer there to do
//! it: one append-only JSON-lines file per run, synced to disk before and after each change. It must not know
//! how anything is made or destroyed.

mod collect;
mod history;
mod journal;
mod owner;
mod record;
mod run_id;
mod state_dir;
#[cfg(test)]
mod tests;

pub use collect::{Collected, Destroyers, Fate, GcReport, Retention, collect};
pub use history::History;
pub use journal::Ledger;
pub use owner::{Liveness, Owner, owner_alive};
pub use record::{Entry, NODES, Record, Resource, ResourceKey, UNTIL};
pub use run_id::{InvalidRunId, RunId};
pub use state_dir::{OpenLedger, StateDir, open_ledgers};

use std::io;
use std::path::{Path, PathBuf};

/// Why the record could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error(
        "no place for run state: neither `CKNET_STATE`, `XDG_STATE_HOME` nor `HOME` is an absolute path; set `CKNET_STATE` to a writable folder"
    )]
    NoStateDir,
    #[error("cannot keep run state in `{path}`: {source}; set `CKNET_STATE` to a writable folder")]
    StateDir { path: PathBuf, source: io::Error },
    #[error("cannot {action} `{path}`: {source}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("`{path}` line {line} is not a ledger record: {source}")]
    Corrupt { path: PathBuf, line: usize, source: serde_json::Error },
    #[error("cannot put a record into `{path}`: {source}")]
    Encode { path: PathBuf, source: serde_json::Error },
    #[error("`{path}` does not begin with its owner")]
    NoOwner { path: PathBuf },
    #[error("no free run id in `{path}` after {tries} tries")]
    NoFreeRunId { path: PathBuf, tries: u32 },
}

impl LedgerError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}
