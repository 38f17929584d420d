//! Which bridge of this machine is which segment of a topology, and that no two clusters are on one at the same time:
//! their machines would have the same addresses.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{QUICK, failed};
use crate::provider::machine::Tool;
use crate::provider::turn::{Turn, Turns};
use crate::provider::{Finding, ProviderError, Say, Topology};

/// Longest wait for bridges that another cluster is using.
const BRIDGES: Duration = Duration::from_secs(60 * 60);

/// Between two looks at such bridges.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Longest name of machines that the file of a bridge is read for.
const LONGEST: u64 = 128;

/// The bridges that segments may be.
#[derive(Clone)]
pub struct Bridges {
    /// Where their locks lie.
    folder: PathBuf,
    /// That of the first segment, of the second, and so on.
    named: Vec<String>,
    /// Those of each cluster, until its machines are gone.
    reserved: Arc<Mutex<BTreeMap<String, Vec<Turn>>>>,
    say: Say,
}

impl Bridges {
    pub fn new(folder: &Path, named: &[String], say: Say) -> Self {
        Self { folder: folder.into(), named: named.to_vec(), reserved: Arc::default(), say }
    }

    /// Which bridge is which segment; or which are missing.
    pub async fn of(&self, tool: &Tool, topology: &Topology) -> Result<BTreeMap<String, String>, ProviderError> {
        let listed = tool.read(&["networks", "--format", "json"], QUICK).await;
        let listed = listed.map_err(|error| failed("list networks", &error))?;
        let all = listed.get("list").and_then(Value::as_array).into_iter().flatten();
        let known: Vec<&str> = all.filter_map(|network| network.get("name")?.as_str()).collect();
        let mut findings = Vec::new();
        let mut bridges = BTreeMap::new();
        for (number, segment) in topology.segments.iter().enumerate() {
            let name = self.named.get(number).cloned().unwrap_or_else(|| format!("cknet{number}"));
            if !known.contains(&name.as_str()) {
                findings.push(Finding {
                    what: format!("a bridge for segment `{}`: Multipass knows none called `{name}`", segment.name),
                    fix: format!(
                        "ip link add {name} type bridge && ip link set {name} up, or name one that is there: \
                         --machine-network NAME, once for each segment"
                    ),
                });
            }
            bridges.insert(segment.name.clone(), name);
        }
        if findings.is_empty() { Ok(bridges) } else { Err(ProviderError::Unfit { provider: "multipass", findings }) }
    }

    /// Waits until no other cluster uses the bridges, and keeps them for the machines whose names begin with `prefix`
    /// until [`Bridges::free`].
    pub async fn reserve(
        &self,
        tool: &Tool,
        key: &str,
        prefix: &str,
        bridges: &BTreeMap<String, String>,
    ) -> Result<(), ProviderError> {
        let mut turns = Vec::new();
        self.locked().insert(key.into(), Vec::new());
        // In one order for all: no two clusters wait for each other.
        let mut names: Vec<&String> = bridges.values().collect();
        names.sort();
        names.dedup();
        for name in names {
            let turn = self.turn(name).await?;
            let doing = || format!("reserve the bridge `{name}`");
            let before = who(&turn).map_err(|error| failed(doing(), &error))?;
            if !before.is_empty() && before != prefix {
                nobody_is_left(tool, name, &before).await?;
            }
            write(&turn, prefix).map_err(|error| failed(doing(), &error))?;
            turns.push(turn);
        }
        self.locked().insert(key.into(), turns);
        Ok(())
    }

    /// Lets others have the bridges of a cluster, whose machines are gone or not: whoever comes next is told of those
    /// that are left.
    pub fn free(&self, key: &str, gone: bool) {
        for turn in self.locked().remove(key).unwrap_or_default() {
            if gone {
                // Without it the next one looks for machines that are gone.
                let _ = turn.set_len(0);
            }
        }
    }

    /// Whether this process waits for the bridges of a cluster: it has made no machine then.
    pub fn is_waiting(&self, key: &str) -> bool {
        self.locked().get(key).is_some_and(Vec::is_empty)
    }

    async fn turn(&self, name: &str) -> Result<Turn, ProviderError> {
        let turns = Turns::new(&self.folder, &format!("multipass-{name}"));
        let doing = || format!("reserve the bridge `{name}`");
        let started = Instant::now();
        let mut told = false;
        loop {
            if let Some(turn) = turns.try_take().map_err(|error| failed(doing(), &error))? {
                return Ok(turn);
            }
            if started.elapsed() > BRIDGES {
                return Err(failed(doing(), &format_args!("another cluster has had it for {BRIDGES:?}")));
            }
            if !std::mem::replace(&mut told, true) {
                (self.say)(&format!("waiting for the bridge `{name}`: another cluster is on it (cknet status)"));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Vec<Turn>>> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose machines were on the bridge last.
fn who(mut file: &File) -> io::Result<String> {
    let mut text = String::new();
    file.rewind()?;
    file.take(LONGEST).read_to_string(&mut text)?;
    Ok(text.trim().to_string())
}

fn write(mut file: &File, prefix: &str) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(prefix.as_bytes())
}

/// A run that was killed has let go of its bridges, and its machines are still on them.
async fn nobody_is_left(tool: &Tool, bridge: &str, prefix: &str) -> Result<(), ProviderError> {
    let listed = tool.read(&["list", "--format", "json"], QUICK).await;
    let listed = listed.map_err(|error| failed("list machines", &error))?;
    let all = listed.get("list").and_then(Value::as_array).into_iter().flatten();
    let mut names = all.filter_map(|machine| machine.get("name")?.as_str());
    match names.find(|name| name.starts_with(prefix)) {
        None => Ok(()),
        Some(left) => {
            let cause = format_args!("`{left}` of a run that has ended is still on it; remove it: cknet gc");
            Err(failed(format!("reserve the bridge `{bridge}`"), &cause))
        }
    }
}
