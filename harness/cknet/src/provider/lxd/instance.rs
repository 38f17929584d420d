//! How an instance is described to the daemon: its devices, what it may do, and what its system is told of its network.
//!
//! It is all in the description, and there is no profile that would have to be removed: an instance ends with
//! everything that was made for it.

use cknet_kernel::route::mac_text;
use serde_json::{Map, Value, json};

use super::{CLUSTER, Lxd, RUN};
use crate::provider::NodeSpec;
use crate::provider::machine::hardware_address;

/// The name of the NIC by which packages and images come: not that of any NIC of a topology, and no candidate of
/// Calico's autodetection.
const WAY_OUT: &str = "virbr-mgmt";

/// What kubelets and their networks want of the kernel, as in the profile that Canonical Kubernetes documents for LXD
/// (docs of k8s-snap, "Install in LXD").
const KERNEL_MODULES: &str = "br_netfilter,ip_tables,ip6_tables,iptable_raw,ip_vs,ip_vs_rr,ip_vs_sh,ip_vs_wrr,\
                              netlink_diag,nf_nat,overlay,xt_socket";

/// A kubelet writes to `/proc/sys` and `/sys`, and containerd makes control groups and devices.
const LIKE_A_MACHINE: &str = "lxc.apparmor.profile=unconfined\nlxc.cap.drop=\nlxc.cgroup.devices.allow=a\n\
                              lxc.mount.auto=proc:rw sys:rw cgroup:rw\n";

impl Lxd {
    pub(super) fn hardware(&self, key: &str, node: &NodeSpec, nic: &str) -> [u8; 6] {
        hardware_address(&[&self.run, key, &node.name, nic])
    }

    /// What `init` reads.
    pub(super) fn describe(&self, key: &str, node: &NodeSpec, pool: &str, way_out: Option<&Value>) -> Value {
        let way_out = way_out.filter(|_| self.boot.has_way_out);
        let mut devices = Map::new();
        devices.insert("root".into(), self.root(pool));
        for nic in &node.nics {
            let parent = self.network(key, &nic.segment);
            let hardware = mac_text(self.hardware(key, node, &nic.name));
            devices.insert(
                format!("cknet-{}", nic.name),
                json!({"type": "nic", "nictype": "bridged", "parent": parent, "name": nic.name, "hwaddr": hardware}),
            );
        }
        let hardware = mac_text(self.hardware(key, node, WAY_OUT));
        if let Some(nic) = way_out {
            let mut nic = nic.clone();
            nic["name"] = json!(WAY_OUT);
            nic["hwaddr"] = json!(hardware);
            devices.insert("cknet-way-out".into(), nic);
        }
        let mut config = Map::new();
        config.insert(RUN.into(), json!(self.run));
        config.insert(CLUSTER.into(), json!(key));
        // Nothing is asked by DHCP on a segment: nobody answers there, and its addresses are the topology's.
        let asking = way_out.map(|_| json!({"way-out": {"match": {"macaddress": hardware}, "dhcp4": true}}));
        let network = json!({"version": 2, "ethernets": asking.unwrap_or_else(|| json!({}))});
        config.insert("cloud-init.network-config".into(), json!(network.to_string()));
        if self.image.virtual_machine {
            config.insert("limits.cpu".into(), json!(size("CPUS", "2")));
            config.insert("limits.memory".into(), json!(size("MEMORY", "4GiB")));
        } else {
            // A node mounts, makes namespaces and loads rules: what a container of its own is asked for less.
            config.insert("security.nesting".into(), json!("true"));
            config.insert("security.privileged".into(), json!("true"));
            if self.boot.has_way_out {
                config.insert("linux.kernel_modules".into(), json!(KERNEL_MODULES));
                config.insert("raw.lxc".into(), json!(LIKE_A_MACHINE));
                // A kubelet ends where it cannot read the kernel's messages.
                let kmsg = json!({"type": "unix-char", "source": "/dev/kmsg", "path": "/dev/kmsg"});
                devices.insert("kmsg".into(), kmsg);
            }
        }
        json!({"config": config, "devices": devices})
    }

    fn root(&self, pool: &str) -> Value {
        let mut root = json!({"type": "disk", "path": "/", "pool": pool});
        if self.image.virtual_machine {
            root["size"] = json!(size("DISK", "20GiB"));
        }
        root
    }
}

/// What a virtual machine gets of this machine.
fn size(what: &str, usual: &str) -> String {
    std::env::var(format!("CKNET_LXD_{what}")).unwrap_or_else(|_| usual.into())
}
