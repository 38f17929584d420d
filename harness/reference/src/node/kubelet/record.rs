//! What a kubelet must still know of its pods after it was started again: one file per pod, written before anything
//! is made, so that nothing is ever left without an owner.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::journal::journal;
use crate::node::cni::portmap::HostPort;

const FILE: &str = "record.json";

/// A pod as it was last written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodRecord {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// The id that the network plugin knows the sandbox by.
    pub sandbox: String,
    pub host_network: bool,
    pub address: Option<Ipv4Addr>,
    /// Ports of the node that lead to it.
    #[serde(default)]
    pub ports: Vec<HostPort>,
    pub containers: BTreeMap<String, ContainerRecord>,
}

/// The process of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerRecord {
    pub id: String,
    pub attempt: i32,
    pub pid: i32,
    /// Its start in clock ticks since boot: with the pid it names one process for ever.
    pub ticks: u64,
    pub since: Timestamp,
}

/// The file of one pod and its content. Every change is on disk when it returns.
#[derive(Debug)]
pub struct RecordFile {
    folder: PathBuf,
    record: Mutex<PodRecord>,
}

impl RecordFile {
    /// Writes `record` for the first time, into `folder`, which is created.
    pub fn create(folder: PathBuf, record: PodRecord) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let file = Self { folder, record: Mutex::new(record) };
        file.change(|_| {})?;
        Ok(file)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn read(&self) -> PodRecord {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the record and writes it, all or nothing.
    pub fn change(&self, change: impl FnOnce(&mut PodRecord)) -> io::Result<()> {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut record);
        let text = serde_json::to_vec(&*record).map_err(io::Error::other)?;
        let draft = self.folder.join("record.draft");
        fs::write(&draft, text)?;
        fs::rename(draft, self.folder.join(FILE))
    }
}

/// The record in the folder of one pod.
pub fn load_one(folder: &Path) -> io::Result<RecordFile> {
    let text = fs::read(folder.join(FILE))?;
    let record = serde_json::from_slice(&text).map_err(io::Error::other)?;
    Ok(RecordFile { folder: folder.into(), record: Mutex::new(record) })
}

/// All records under `root`. A folder without a readable one is reported and left alone.
pub fn load_all(root: &Path) -> io::Result<Vec<RecordFile>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root)? {
        let folder = entry?.path();
        let path = folder.join(FILE);
        if !path.exists() {
            continue;
        }
        match load_one(&folder) {
            Ok(record) => found.push(record),
            Err(error) => journal(format_args!("cannot read `{}`: {error}", path.display())),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_written_is_found_again() {
        let root = tempfile::tempdir().unwrap();
        let record = PodRecord {
            namespace: "shop".into(),
            name: "web".into(),
            uid: "u-1".into(),
            sandbox: "ab".into(),
            host_network: false,
            address: None,
            ports: Vec::new(),
            containers: BTreeMap::new(),
        };
        let file = RecordFile::create(root.path().join("u-1"), record).unwrap();
        file.change(|record| record.address = Some(Ipv4Addr::new(10, 1, 0, 5))).unwrap();
        fs::create_dir(root.path().join("unfinished")).unwrap();
        fs::create_dir(root.path().join("broken")).unwrap();
        fs::write(root.path().join("broken").join(FILE), "{").unwrap();
        let found = load_all(root.path()).unwrap();
        assert_eq!(found.iter().map(RecordFile::read).collect::<Vec<_>>(), [file.read()]);
    }
}
