//! The configuration files of /etc/cni/net.d: which one wins, and what it says.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What is read from the file that wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The type of the first plugin of the list.
    pub plugin: String,
    /// MTU of pod links, in bytes.
    pub mtu: u32,
}

/// Used where a file names none: the MTU of Ethernet less VXLAN's 50 bytes (RFC 7348).
const DEFAULT_MTU: u32 = 1450;

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    plugins: Vec<Plugin>,
    #[serde(rename = "type")]
    single: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Plugin {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    mtu: u32,
}

/// The lexicographically first file that is a CNI configuration by its name (libcni: .conflist, .conf, .json).
pub fn winner(folder: &Path) -> Option<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| matches!(path.extension().and_then(|end| end.to_str()), Some("conflist" | "conf" | "json")));
    files.retain(|path| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')));
    files.sort();
    files.into_iter().next()
}

impl Config {
    pub fn read(path: &Path) -> io::Result<Self> {
        let list: List = serde_json::from_slice(&fs::read(path)?)?;
        let plugin = list.plugins.into_iter().next().or(list.single.map(|kind| Plugin { kind, mtu: 0 }));
        let plugin = plugin.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no plugins in the list"))?;
        Ok(Self { mtu: if plugin.mtu == 0 { DEFAULT_MTU } else { plugin.mtu }, plugin: plugin.kind })
    }
}

/// The file that calico-node installs as `10-calico.conflist`.
pub fn calico_list(node: &str, mtu: u32) -> Value {
    json!({
        "name": "k8s-pod-network",
        "cniVersion": "0.3.1",
        "plugins": [
            {
                "type": "calico",
                "log_level": "info",
                "datastore_type": "kubernetes",
                "nodename": node,
                "mtu": mtu,
                "ipam": {"type": "calico-ipam"},
                "policy": {"type": "k8s"},
                "kubernetes": {"kubeconfig": "/etc/cni/net.d/calico-kubeconfig"}
            },
            {"type": "portmap", "snat": true, "capabilities": {"portMappings": true}}
        ]
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_name_wins_whatever_came_first() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(winner(folder.path()), None);
        for name in ["10-flannel.conflist", "10-calico.conflist", "calico-kubeconfig", ".05-draft.conf"] {
            fs::write(folder.path().join(name), "{}").unwrap();
        }
        assert_eq!(winner(folder.path()).unwrap().file_name().unwrap(), "10-calico.conflist");
        fs::write(folder.path().join("05-cilium.conflist"), "{}").unwrap();
        assert_eq!(winner(folder.path()).unwrap().file_name().unwrap(), "05-cilium.conflist");
    }

    #[test]
    fn what_calico_node_installs_can_be_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("10-calico.conflist");
        fs::write(&path, calico_list("w1", 1400).to_string()).unwrap();
        assert_eq!(Config::read(&path).unwrap(), Config { plugin: "calico".into(), mtu: 1400 });
    }
}
