//! The topology that the Vagrantfile reads, and what can be learnt from it when the run that wrote it is gone.

use std::path::{Path, PathBuf};

use cknet_kernel::route::mac_text;
use serde_json::{Map, Value, json};

use super::Vagrant;
use super::hypervisor::{self, Hypervisor};
use crate::provider::machine::{called, hardware_address, hardware_address_of_qemu};
use crate::provider::{Nic, NodeSpec, Topology};

/// Its name in the folder of a cluster.
pub const FILE: &str = "topology.json";

/// The storage pool of libvirt unless one is set.
const POOL: &str = "default";

/// What the names of a cluster's domains and volumes begin with.
pub fn prefix(run: &str, key: &str) -> String {
    called(run, key, "")
}

/// Where libvirt writes what a machine says on its serial console.
pub fn console(place: &Path, node: &str) -> PathBuf {
    place.join(format!("{node}.console"))
}

pub fn hardware(run: &str, key: &str, node: &NodeSpec, nic: &Nic) -> [u8; 6] {
    hardware_address_of_qemu(&[run, key, &node.name, &nic.name])
}

/// The text of the file.
pub fn of(provider: &Vagrant, key: &str, topology: &Topology, emulated: bool) -> String {
    let place = provider.place(key);
    let network = |name: &str| {
        let [_, a, b, c, d, _] = hardware_address(&[&provider.run, key, name]);
        format!("cknet-{a:02x}{b:02x}{c:02x}{d:02x}")
    };
    let segments = topology.segments.iter();
    let networks: Map<String, Value> = segments
        .map(|segment| (segment.name.clone(), json!({"name": network(&segment.name), "mtu": segment.mtu})))
        .collect();
    let nic = |node: &NodeSpec, nic: &Nic| {
        json!({
            "name": nic.name,
            "segment": nic.segment,
            "address": nic.address.addr(),
            "netmask": nic.address.netmask(),
            "mac": mac_text(hardware(&provider.run, key, node, nic)),
        })
    };
    let node = |node: &NodeSpec| {
        let nics: Vec<Value> = node.nics.iter().map(|own| nic(node, own)).collect();
        json!({"name": node.name, "console": console(&place, &node.name), "nics": nics})
    };
    let all = json!({
        "prefix": prefix(&provider.run, key),
        "hypervisor": provider.hypervisor.name(),
        "uri": hypervisor::uri(),
        "settings": settings(provider, emulated),
        "networks": networks,
        "nodes": topology.nodes.iter().map(node).collect::<Vec<_>>(),
    });
    format!("{all:#}\n")
}

fn settings(provider: &Vagrant, emulated: bool) -> Map<String, Value> {
    let mut settings = Map::new();
    settings.insert("storage_pool".into(), json!(POOL));
    if emulated {
        settings.insert("driver".into(), json!("qemu"));
    }
    settings.extend(provider.image.name.clone().map(|image| ("box".to_string(), json!(image))));
    // What is set by hand in the environment: `CKNET_VAGRANT_MEMORY=768`.
    for (name, numeric) in
        [("memory", true), ("cpus", true), ("storage_pool", false), ("boot_timeout", true), ("insert_key", true)]
    {
        let Ok(value) = std::env::var(format!("CKNET_VAGRANT_{}", name.to_uppercase())) else { continue };
        let parsed = numeric.then(|| serde_json::from_str(&value).ok()).flatten();
        settings.insert(name.into(), parsed.unwrap_or(Value::String(value)));
    }
    settings
}

/// What was written, as far as it takes to remove what was made of it.
#[derive(Debug)]
pub struct Written {
    pub hypervisor: Hypervisor,
    /// Where libvirt answers.
    pub uri: String,
    pub storage_pool: String,
    pub networks: Vec<String>,
}

impl Written {
    /// Reads the topology in the folder of a cluster; what cannot be read is as it would be written here and now.
    pub fn read(place: &Path) -> Self {
        let text = std::fs::read_to_string(place.join(FILE)).unwrap_or_default();
        let all: Value = serde_json::from_str(&text).unwrap_or_default();
        let text = |pointer: &str| all.pointer(pointer).and_then(Value::as_str).map(String::from);
        let networks = all.get("networks").and_then(Value::as_object).into_iter().flat_map(Map::values);
        Self {
            hypervisor: text("/hypervisor").map_or_else(Hypervisor::chosen, |name| Hypervisor::of(&name)),
            uri: text("/uri").unwrap_or_else(hypervisor::uri),
            storage_pool: text("/settings/storage_pool").unwrap_or_else(|| POOL.into()),
            networks: networks.filter_map(|network| Some(network.get("name")?.as_str()?.to_string())).collect(),
        }
    }
}
