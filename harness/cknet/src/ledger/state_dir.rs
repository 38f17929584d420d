//! Owns where runs are kept: `$CKNET_STATE`, else `$XDG_STATE_HOME/cknet`, else `~/.local/state/cknet`, for
//! root as for anybody else; and in it `runs/<run id>/`. It must not know what a run leaves there besides its
//! ledger.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::journal::{FILE, encode};
use super::{History, Ledger, LedgerError, Owner, Record, RunId};

const TRIES: u32 = 16;

/// The folder of all runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir {
    root: PathBuf,
}

/// A ledger that was found.
#[derive(Debug)]
pub struct OpenLedger {
    pub run: RunId,
    pub folder: PathBuf,
    /// What it says, or why it cannot be read.
    pub history: Result<History, LedgerError>,
}

impl StateDir {
    /// The place that the environment names. A relative path is ignored, as XDG demands: it would depend on the
    /// folder that the command was called in, and the clean-up would look elsewhere.
    ///
    /// # Errors
    /// When no variable names a place.
    pub fn from_env(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, LedgerError> {
        let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let root = absolute("CKNET_STATE")
            .or_else(|| absolute("XDG_STATE_HOME").map(|state| state.join("cknet")))
            .or_else(|| absolute("HOME").map(|home| home.join(".local/state/cknet")))
            .ok_or(LedgerError::NoStateDir)?;
        Ok(Self::at(root))
    }

    /// The given place.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder that holds one folder per run.
    pub fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }

    /// Begins a run that starts now and is owned by this process.
    ///
    /// # Errors
    /// When the place cannot be made or written to.
    pub fn begin(&self) -> Result<Ledger, LedgerError> {
        let owner =
            Owner::current().map_err(LedgerError::io("read the start time in", Path::new("/proc/self/stat")))?;
        self.begin_as(owner, Timestamp::now())
    }

    pub(super) fn begin_as(&self, owner: Owner, at: Timestamp) -> Result<Ledger, LedgerError> {
        let runs = self.runs();
        let place = |source| LedgerError::StateDir { path: runs.clone(), source };
        // Recursive creation takes a folder that another run just made for its own.
        DirBuilder::new().recursive(true).mode(0o700).create(&runs).map_err(place)?;
        for _ in 0..TRIES {
            let run = RunId::new(at, chance().map_err(LedgerError::io("read", Path::new(RANDOM)))?);
            let draft = runs.join(format!(".{run}.{}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&draft) {
                Ok(()) => {}
                Err(taken) if taken.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(source) => return Err(place(source)),
            }
            let published = write_owner(&draft, &owner).and_then(|()| publish(&draft, &runs, &run));
            match published {
                Ok(true) => return self.resume(run),
                Ok(false) => discard(&draft),
                Err(error) => {
                    discard(&draft);
                    return Err(error);
                }
            }
        }
        Err(LedgerError::NoFreeRunId { path: runs, tries: TRIES })
    }

    pub(super) fn resume(&self, run: RunId) -> Result<Ledger, LedgerError> {
        let folder = self.runs().join(run.as_str());
        let history = History::read(&folder.join(FILE))?;
        Ledger::resume(run, folder, &history)
    }
}

const RANDOM: &str = "/dev/urandom";

fn chance() -> io::Result<u16> {
    let mut bytes = [0; 2];
    File::open(RANDOM)?.read_exact(&mut bytes)?;
    Ok(u16::from_ne_bytes(bytes))
}

fn write_owner(draft: &Path, owner: &Owner) -> Result<(), LedgerError> {
    let path = draft.join(FILE);
    let line = encode(&path, Record::Owner(owner.clone()))?;
    let mut file =
        OpenOptions::new().append(true).create_new(true).open(&path).map_err(LedgerError::io("create", &path))?;
    file.write_all(&line).map_err(LedgerError::io("write to", &path))?;
    file.sync_all().map_err(LedgerError::io("sync", &path))
}

/// Gives the draft its name in one step: a folder with a run's name always has an owner in it, so nobody can
/// take a run that is just beginning for one that died. False when the name is taken.
fn publish(draft: &Path, runs: &Path, run: &RunId) -> Result<bool, LedgerError> {
    let folder = runs.join(run.as_str());
    match fs::rename(draft, &folder) {
        Ok(()) => {}
        Err(taken) if matches!(taken.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
            return Ok(false);
        }
        Err(source) => return Err(LedgerError::io("name", &folder)(source)),
    }
    let sync = File::open(runs).and_then(|directory| directory.sync_all());
    sync.map_err(LedgerError::io("sync", runs))?;
    Ok(true)
}

/// A draft that stays behind costs a few bytes and is swept up with the old runs.
fn discard(draft: &Path) {
    let _ = fs::remove_dir_all(draft);
}

/// All ledgers that are not closed, the oldest first; also those that cannot be read.
///
/// # Errors
/// When the folder of runs exists and cannot be read.
pub fn open_ledgers(state: &StateDir) -> Result<Vec<OpenLedger>, LedgerError> {
    let mut found = all_ledgers(state)?;
    found.retain(|ledger| !matches!(&ledger.history, Ok(history) if history.closed));
    Ok(found)
}

pub(super) fn all_ledgers(state: &StateDir) -> Result<Vec<OpenLedger>, LedgerError> {
    let runs = state.runs();
    let entries = match fs::read_dir(&runs) {
        Ok(entries) => entries,
        Err(none) if none.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(LedgerError::io("list", &runs)(source)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(LedgerError::io("list", &runs))?;
        let Some(run) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let folder = entry.path();
        let history = History::read(&folder.join(FILE));
        found.push(OpenLedger { run, folder, history });
    }
    found.sort_by(|a, b| a.run.cmp(&b.run));
    Ok(found)
}
