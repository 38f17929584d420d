//! Owns the writing of one ledger. Every record is on disk before the call returns: intent before a thing is
//! made, created after, destroyed when it is gone.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use super::history::note;
use super::{Entry, History, LedgerError, Record, Resource, ResourceKey, RunId};

/// The ledger of one run, open for writing. It may be shared between threads.
#[derive(Debug)]
pub struct Ledger {
    run: RunId,
    folder: PathBuf,
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    outstanding: Vec<Resource>,
    /// Where the next record goes: after a write that failed half way, what it left is cut off first.
    end: u64,
}

impl Ledger {
    /// Opens the file that `History` was read from. Whatever a crash cut off is removed, so that the next record
    /// begins on a line of its own.
    pub(super) fn resume(run: RunId, folder: PathBuf, history: &History) -> Result<Self, LedgerError> {
        let path = folder.join(FILE);
        let mut file = OpenOptions::new().append(true).open(&path).map_err(LedgerError::io("open", &path))?;
        let mut end = history.whole_bytes;
        file.set_len(end).map_err(LedgerError::io("shorten", &path))?;
        if history.lacks_newline {
            file.write_all(b"\n").map_err(LedgerError::io("write to", &path))?;
            end += 1;
        }
        let mut outstanding: Vec<_> = history.outstanding().cloned().collect();
        outstanding.reverse();
        Ok(Self { run, folder, path, state: Mutex::new(State { file, outstanding, end }) })
    }

    /// The run that the ledger is of.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// The folder of the run, for its evidence and reports too.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `resource` is about to be made.
    ///
    /// # Errors
    /// When the record is not safely on disk; then the thing must not be made.
    pub fn intent(&self, resource: &Resource) -> Result<(), LedgerError> {
        self.append(Record::Intent(resource.clone()))
    }

    /// `resource` exists.
    ///
    /// # Errors
    /// When the record is not safely on disk. The intent stands, so it will be destroyed all the same.
    pub fn created(&self, resource: &Resource) -> Result<(), LedgerError> {
        self.append(Record::Created(resource.clone()))
    }

    /// The thing is gone.
    ///
    /// # Errors
    /// When the record is not safely on disk; then it will be destroyed once more, which must do no harm.
    pub fn destroyed(&self, key: &ResourceKey) -> Result<(), LedgerError> {
        self.append(Record::Destroyed(key.clone()))
    }

    /// What exists or may exist, the newest first.
    pub fn outstanding(&self) -> Vec<Resource> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.outstanding.iter().rev().cloned().collect()
    }

    /// Says that nothing is left, if that is so; otherwise says nothing and returns what is.
    ///
    /// # Errors
    /// When the record is not safely on disk.
    pub fn close(&self) -> Result<Vec<Resource>, LedgerError> {
        let left = self.outstanding();
        if left.is_empty() {
            self.append(Record::Closed {})?;
        }
        Ok(left)
    }

    fn append(&self, record: Record) -> Result<(), LedgerError> {
        let line = encode(&self.path, Record::clone(&record))?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let end = state.end;
        state.file.set_len(end).map_err(LedgerError::io("shorten", &self.path))?;
        state.file.write_all(&line).map_err(LedgerError::io("write to", &self.path))?;
        state.file.sync_data().map_err(LedgerError::io("sync", &self.path))?;
        state.end += line.len() as u64;
        match record {
            Record::Intent(resource) | Record::Created(resource) => note(&mut state.outstanding, resource),
            Record::Destroyed(key) => state.outstanding.retain(|resource| resource.key != key),
            Record::Owner(_) | Record::Closed {} => {}
        }
        Ok(())
    }
}

/// The name of the file in the folder of a run.
pub(super) const FILE: &str = "ledger.jsonl";

/// One record, with the time, as a line.
pub(super) fn encode(path: &Path, record: Record) -> Result<Vec<u8>, LedgerError> {
    let entry = Entry { at: Timestamp::now(), record };
    let mut line =
        serde_json::to_vec(&entry).map_err(|source| LedgerError::Encode { path: path.to_owned(), source })?;
    line.push(b'\n');
    Ok(line)
}
