//! The configuration files of /etc/cni/net.d: which one wins, and what it says.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

/// What is read from the file that wins.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The name of the network.
    pub network: String,
    /// The type of the first plugin of the list.
    pub plugin: String,
    /// Everything that the first plugin is told.
    pub settings: Map<String, Value>,
    /// Whether `portmap` is in the list.
    pub maps_ports: bool,
}

/// Used where a file names none: the MTU of Ethernet less VXLAN's 50 bytes (RFC 7348).
const DEFAULT_MTU: u32 = 1450;

/// The lexicographically first file that is a CNI configuration by its name (libcni: .conflist, .conf, .json).
pub fn winner(folder: &Path) -> Option<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| matches!(path.extension().and_then(|end| end.to_str()), Some("conflist" | "conf" | "json")));
    files.retain(|path| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')));
    files.sort();
    files.into_iter().next()
}

impl Config {
    /// Reads a list of plugins, or the single plugin of a `.conf` file.
    pub fn read(path: &Path) -> io::Result<Self> {
        let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_string());
        let file: Map<String, Value> = serde_json::from_slice(&fs::read(path)?)?;
        let network = file.get("name").and_then(Value::as_str).unwrap_or_default().to_string();
        let all = file.get("plugins").and_then(Value::as_array);
        let maps_ports = all.is_some_and(|all| all.iter().any(|plugin| plugin["type"] == "portmap"));
        let settings = match file.get("plugins") {
            Some(Value::Array(plugins)) => {
                let first = plugins.first().and_then(Value::as_object);
                first.cloned().ok_or_else(|| invalid("no plugins in list"))?
            }
            Some(_) => return Err(invalid("`plugins` is not a list")),
            None => file,
        };
        let plugin = settings.get("type").and_then(Value::as_str).filter(|kind| !kind.is_empty());
        let plugin = plugin.ok_or_else(|| invalid("missing 'type'"))?.to_string();
        Ok(Self { network, plugin, settings, maps_ports })
    }

    /// MTU of pod links, in bytes.
    pub fn mtu(&self) -> u32 {
        let given = self.settings.get("mtu").and_then(Value::as_u64).and_then(|mtu| u32::try_from(mtu).ok());
        given.filter(|mtu| *mtu > 0).unwrap_or(DEFAULT_MTU)
    }

    /// A text of the first plugin's settings.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.settings.get(key).and_then(Value::as_str)
    }

    /// A switch of the first plugin's settings; off unless given.
    pub fn is(&self, key: &str) -> bool {
        self.settings.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Who gives out addresses, and from what.
    pub fn ipam(&self) -> Map<String, Value> {
        self.settings.get("ipam").and_then(Value::as_object).cloned().unwrap_or_default()
    }
}

/// The file that calico-node installs as `10-calico.conflist`; `ipam` says where addresses come from.
pub fn calico_list(network: &str, node: &str, mtu: u32, ipam: &Value) -> Value {
    json!({
        "name": network,
        "cniVersion": "0.3.1",
        "plugins": [
            {
                "type": "calico",
                "log_level": "info",
                "datastore_type": "kubernetes",
                "nodename": node,
                "mtu": mtu,
                "ipam": ipam,
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
        let list = calico_list("k8s-pod-network", "w1", 1400, &json!({"type": "calico-ipam"}));
        fs::write(&path, list.to_string()).unwrap();
        let config = Config::read(&path).unwrap();
        assert_eq!((config.plugin.as_str(), config.mtu()), ("calico", 1400));
        assert_eq!(config.network, "k8s-pod-network");
        assert_eq!(config.ipam()["type"], "calico-ipam");
    }

    #[test]
    fn a_file_may_hold_a_single_plugin_and_one_without_a_type_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("05-other.conf");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            Config::read(&path)
        };
        let single = read(r#"{"name": "net", "type": "bridge", "bridge": "br7"}"#).unwrap();
        assert_eq!((single.plugin.as_str(), single.text("bridge"), single.mtu()), ("bridge", Some("br7"), 1450));
        assert_eq!(read(r#"{"name": "net", "plugins": []}"#).unwrap_err().to_string(), "no plugins in list");
        assert_eq!(read(r#"{"name": "net"}"#).unwrap_err().to_string(), "missing 'type'");
        assert!(read("{").is_err());
    }
}
