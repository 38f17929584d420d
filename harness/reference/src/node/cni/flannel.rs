//! The CNI plugin `flannel`: reads what flanneld has left on the node and hands the work on to `bridge`.

use std::fs;
use std::path::Path;

use ipnet::Ipv4Net;
use serde_json::{Map, Value, json};

use super::CniError;
use super::config::Config;

/// Where flanneld says which subnet this node has.
pub const SUBNET_FILE: &str = "/run/flannel/subnet.env";

/// What flanneld has left on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    pub network: Ipv4Net,
    /// The node's own part of the network.
    pub subnet: Ipv4Net,
    pub mtu: u32,
    pub masquerade: bool,
}

impl Lease {
    pub fn text(&self) -> String {
        let gateway =
            Ipv4Net::new(std::net::Ipv4Addr::from(u32::from(self.subnet.network()) + 1), self.subnet.prefix_len());
        let own = gateway.unwrap_or(self.subnet);
        format!(
            "FLANNEL_NETWORK={}\nFLANNEL_SUBNET={own}\nFLANNEL_MTU={}\nFLANNEL_IPMASQ={}\n",
            self.network, self.mtu, self.masquerade
        )
    }

    fn read(text: &str) -> Option<Self> {
        let value = |key: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once('='));
            lines.find(|(name, _)| *name == key).map(|(_, value)| value.trim())
        };
        let subnet: Ipv4Net = value("FLANNEL_SUBNET")?.parse().ok()?;
        Some(Self {
            network: value("FLANNEL_NETWORK")?.parse().ok()?,
            subnet: subnet.trunc(),
            mtu: value("FLANNEL_MTU")?.parse().ok()?,
            masquerade: value("FLANNEL_IPMASQ")? == "true",
        })
    }
}

/// The configuration of the plugin that does the work.
pub fn delegate(config: &Config) -> Result<Config, CniError> {
    let file = config.text("subnetFile").unwrap_or(SUBNET_FILE);
    let failed = |why: String| CniError::Plugin {
        plugin: "flannel",
        cause: format!("failed to load flannel 'subnet.env' file: {why}. Check the flannel pod log for this node."),
    };
    let text =
        fs::read_to_string(Path::new(file)).map_err(|_| failed(format!("open {file}: no such file or directory")))?;
    let lease = Lease::read(&text).ok_or_else(|| failed(format!("{file} is missing values")))?;
    Ok(delegated(config, &lease))
}

fn delegated(config: &Config, lease: &Lease) -> Config {
    let mut settings: Map<String, Value> =
        config.settings.get("delegate").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut unless_given = |key: &str, value: Value| {
        settings.entry(key.to_string()).or_insert(value);
    };
    unless_given("type", json!("bridge"));
    unless_given("isGateway", json!(true));
    unless_given("mtu", json!(lease.mtu));
    // flanneld masquerades by itself when it says so.
    unless_given("ipMasq", json!(!lease.masquerade));
    unless_given("ipam", json!({"type": "host-local", "ranges": [[{"subnet": lease.subnet}]]}));
    let plugin = settings.get("type").and_then(Value::as_str).unwrap_or("bridge").to_string();
    Config { plugin, settings, ..config.clone() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_work_is_handed_on_with_the_nodes_subnet() {
        let lease = Lease {
            network: "10.244.0.0/16".parse().unwrap(),
            subnet: "10.244.2.0/24".parse().unwrap(),
            mtu: 1450,
            masquerade: true,
        };
        assert!(lease.text().contains("FLANNEL_SUBNET=10.244.2.1/24\n"), "{}", lease.text());
        assert_eq!(Lease::read(&lease.text()), Some(lease));
        assert_eq!(Lease::read("FLANNEL_MTU=1450"), None);
        let settings = json!({"type": "flannel", "delegate": {"isDefaultGateway": true, "mtu": 1400}});
        let settings = settings.as_object().unwrap().clone();
        let given = Config { network: "cbr0".into(), plugin: "flannel".into(), settings, maps_ports: true };
        let config = delegated(&given, &lease);
        assert_eq!((config.plugin.as_str(), config.network.as_str(), config.mtu()), ("bridge", "cbr0", 1400));
        assert!(!config.is("ipMasq") && config.is("isGateway"));
        assert_eq!(config.ipam()["ranges"][0][0]["subnet"], "10.244.2.0/24");
    }
}
