//! Owns the collection of what dead runs left behind, and the pruning of old run folders. It must not know how
//! a thing is destroyed: that is asked of one callback per kind.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use super::journal::FILE;
use super::state_dir::all_ledgers;
use super::{Ledger, LedgerError, Liveness, OpenLedger, Resource, RunId, StateDir};

type Destroy<'a> = Box<dyn FnMut(&RunId, &Resource) -> Result<(), Box<dyn Error + Send + Sync>> + 'a>;

/// How to destroy a thing of each kind. A thing that is already gone counts as destroyed.
#[derive(Default)]
pub struct Destroyers<'a> {
    by_kind: BTreeMap<String, Destroy<'a>>,
}

impl<'a> Destroyers<'a> {
    /// Adds the way to destroy things of `kind`.
    pub fn add(
        &mut self,
        kind: impl Into<String>,
        destroy: impl FnMut(&RunId, &Resource) -> Result<(), Box<dyn Error + Send + Sync>> + 'a,
    ) {
        self.by_kind.insert(kind.into(), Box::new(destroy));
    }

    fn destroy(&mut self, run: &RunId, resource: &Resource) -> Result<(), String> {
        let kind = &resource.key.kind;
        match self.by_kind.get_mut(kind) {
            Some(destroy) => destroy(run, resource).map_err(|error| error.to_string()),
            None => Err(format!("nothing here knows how to destroy a `{kind}`")),
        }
    }
}

/// How many folders of closed runs stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The newest this many stay, unless too old.
    pub count: usize,
    pub age: SignedDuration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { count: 20, age: SignedDuration::from_hours(30 * 24) }
    }
}

/// What was done, or would be.
#[derive(Debug, Default)]
pub struct GcReport {
    /// Every run that was not closed, the oldest first.
    pub runs: Vec<(RunId, Fate)>,
    /// Folders of closed runs that were removed, or would be.
    pub pruned: Vec<RunId>,
    /// Folders that could not be removed, and why.
    pub not_pruned: Vec<(PathBuf, String)>,
}

/// What became of one run.
#[derive(Debug)]
pub enum Fate {
    /// It lives, or may live, or somebody else is collecting it.
    Left {
        why: String,
    },
    /// It is dead, and this is what it left; nothing was done.
    WouldDestroy(Vec<Resource>),
    Collected(Collected),
    /// Its ledger cannot be read or written.
    Broken(LedgerError),
}

/// What was done for a dead run.
#[derive(Debug, Default)]
pub struct Collected {
    pub destroyed: Vec<Resource>,
    /// What is still there, and why. The ledger stays open, so the next collection tries again.
    pub failed: Vec<(Resource, String)>,
}

impl GcReport {
    /// Whether nothing is left to complain of.
    pub fn is_clean(&self) -> bool {
        let troubled = |fate: &Fate| match fate {
            Fate::Broken(_) => true,
            Fate::Collected(collected) => !collected.failed.is_empty(),
            Fate::Left { .. } | Fate::WouldDestroy(_) => false,
        };
        self.not_pruned.is_empty() && !self.runs.iter().any(|(_, fate)| troubled(fate))
    }
}

/// Destroys what dead runs left behind, then removes old folders. Errors with one thing or one run do not stop
/// the rest. With `dry_run` nothing is changed.
///
/// # Errors
/// Only when the folder of runs cannot be read at all.
pub fn collect(
    state: &StateDir,
    destroyers: &mut Destroyers<'_>,
    retention: Retention,
    now: Timestamp,
    dry_run: bool,
) -> Result<GcReport, LedgerError> {
    let mut report = GcReport::default();
    for found in all_ledgers(state)? {
        if matches!(&found.history, Ok(history) if history.closed) {
            continue;
        }
        let run = found.run.clone();
        report.runs.push((run, decide(state, destroyers, found, dry_run)));
    }
    prune(state, retention, now, dry_run, &mut report)?;
    Ok(report)
}

fn decide(state: &StateDir, destroyers: &mut Destroyers<'_>, found: OpenLedger, dry_run: bool) -> Fate {
    let history = match found.history {
        Ok(history) => history,
        Err(error) => return Fate::Broken(error),
    };
    match history.owner.liveness() {
        Liveness::Alive => {
            return Fate::Left { why: format!("process {} lives", history.owner.pid) };
        }
        Liveness::Unknown { why } => return Fate::Left { why },
        Liveness::Dead => {}
    }
    if dry_run {
        return Fate::WouldDestroy(history.outstanding().cloned().collect());
    }
    match destroy_all(state, destroyers, &found.run, &found.folder.join(FILE)) {
        Ok(fate) => fate,
        Err(error) => Fate::Broken(error),
    }
}

/// Only collectors lock the file, never the owner: a lock lives on in whatever process inherits the descriptor,
/// and the children of a killed run would keep its ledger from being collected.
fn destroy_all(
    state: &StateDir,
    destroyers: &mut Destroyers<'_>,
    run: &RunId,
    path: &Path,
) -> Result<Fate, LedgerError> {
    let lock = File::open(path).map_err(LedgerError::io("open", path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Ok(Fate::Left { why: "another collection has it".into() });
        }
        Err(TryLockError::Error(source)) => return Err(LedgerError::io("lock", path)(source)),
    }
    // Read again: another collection may have ended just before the lock was had.
    let ledger = state.resume(run.clone())?;
    let mut collected = Collected::default();
    for resource in ledger.outstanding() {
        let outcome = destroyers
            .destroy(run, &resource)
            .and_then(|()| ledger.destroyed(&resource.key).map_err(|error| error.to_string()));
        match outcome {
            Ok(()) => collected.destroyed.push(resource),
            Err(why) => collected.failed.push((resource, why)),
        }
    }
    close(&ledger)?;
    Ok(Fate::Collected(collected))
}

fn close(ledger: &Ledger) -> Result<(), LedgerError> {
    ledger.close().map(|_left| ())
}

fn prune(
    state: &StateDir,
    retention: Retention,
    now: Timestamp,
    dry_run: bool,
    report: &mut GcReport,
) -> Result<(), LedgerError> {
    let mut kept = 0;
    for found in all_ledgers(state)?.into_iter().rev() {
        let Ok(history) = found.history else { continue };
        // A run that closed its ledger may still be writing its reports.
        if !history.closed || history.owner.liveness() == Liveness::Alive {
            continue;
        }
        let old = now.duration_since(found.run.started_at()) > retention.age;
        if kept < retention.count && !old {
            kept += 1;
        } else if dry_run {
            report.pruned.push(found.run);
        } else {
            match fs::remove_dir_all(&found.folder) {
                Ok(()) => report.pruned.push(found.run),
                Err(error) => report.not_pruned.push((found.folder, error.to_string())),
            }
        }
    }
    if !dry_run {
        sweep_drafts(&state.runs(), now, report);
    }
    Ok(())
}

/// Removes the beginnings of runs that never got a name and are more than a day old.
fn sweep_drafts(runs: &Path, now: Timestamp, report: &mut GcReport) {
    let Ok(entries) = fs::read_dir(runs) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_prefix('.')?.split('.').next()?.parse::<RunId>().ok());
        let Some(id) = id else { continue };
        if now.duration_since(id.started_at()) > SignedDuration::from_hours(24)
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            report.not_pruned.push((entry.path(), error.to_string()));
        }
    }
}
