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
    let image = provider.image.name.as_deref();
    let all = json!({
        "prefix": prefix(&provider.run, key),
        "hypervisor": provider.hypervisor.name(),
        "uri": hypervisor::uri(),
        "settings": settings(image, provider.product, emulated, |name| std::env::var(name).ok()),
        "networks": networks,
        "nodes": topology.nodes.iter().map(node).collect::<Vec<_>>(),
    });
    format!("{all:#}\n")
}

/// Megabytes and gigabytes that Canonical Kubernetes asks for; the Vagrantfile's are for models.
const MEMORY_OF_A_PRODUCT: u32 = 4096;
const DISK_OF_A_PRODUCT: u32 = 20;

/// What is set by hand in the environment, `CKNET_VAGRANT_MEMORY=768`, and whether it is a number.
const BY_HAND: [(&str, bool); 7] = [
    ("memory", true),
    ("cpus", true),
    ("disk", true),
    ("driver", false),
    ("storage_pool", false),
    ("boot_timeout", true),
    ("insert_key", true),
];

fn settings(
    image: Option<&str>,
    product: bool,
    emulated: bool,
    environment: impl Fn(&str) -> Option<String>,
) -> Map<String, Value> {
    let mut settings = Map::new();
    settings.insert("storage_pool".into(), json!(POOL));
    if product {
        settings.insert("memory".into(), json!(MEMORY_OF_A_PRODUCT));
        settings.insert("disk".into(), json!(DISK_OF_A_PRODUCT));
    }
    if emulated {
        settings.insert("driver".into(), json!("qemu"));
    }
    settings.extend(image.map(|image| ("box".to_string(), json!(image))));
    for (name, numeric) in BY_HAND {
        let value = environment(&format!("CKNET_VAGRANT_{}", name.to_uppercase()));
        let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
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
            hypervisor: text("/hypervisor").and_then(|name| Hypervisor::of(&name)).unwrap_or_else(Hypervisor::chosen),
            uri: text("/uri").unwrap_or_else(hypervisor::uri),
            storage_pool: text("/settings/storage_pool").unwrap_or_else(|| POOL.into()),
            networks: networks.filter_map(|network| Some(network.get("name")?.as_str()?.to_string())).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_gets_what_it_asks_for_and_a_hand_has_the_last_word() {
        let said = |product, emulated, environment: &[(&str, &str)]| {
            let value =
                |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into());
            Value::Object(settings(None, product, emulated, value))
        };
        assert_eq!(said(false, false, &[]), json!({"storage_pool": "default"}));
        assert_eq!(said(true, false, &[]), json!({"storage_pool": "default", "memory": 4096, "disk": 20}));
        let by_hand =
            [("CKNET_VAGRANT_MEMORY", "8192"), ("CKNET_VAGRANT_DISK", "40"), ("CKNET_VAGRANT_DRIVER", "qemu")];
        let wanted = json!({"storage_pool": "default", "memory": 8192, "disk": 40, "driver": "qemu"});
        assert_eq!(said(true, true, &by_hand), wanted);
        assert_eq!(said(false, true, &[("CKNET_VAGRANT_MEMORY", "")])["driver"], "qemu");
    }
}
