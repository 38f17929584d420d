//! What all providers of machines share: nodes that are reached through a program of this machine (`lxc exec`, `ssh`,
//! `multipass exec`), and what is done on a new machine before it is a node.
//!
//! A provider says how its machines are made and how a shell is had on them; everything else is here. Kubernetes is
//! not known here.

mod before;
pub mod interfaces;
pub mod made;
mod node;
mod prepare;
pub mod relay;
#[cfg(test)]
pub mod replayed;
mod script;
pub mod ssh;
mod tool;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::{ProviderError, Topology};
use crate::scenario::model::Capability;

pub use self::node::MachineNode;
pub use self::prepare::{Boot, PrepareError, last_lines, prepare, prepare_again};
pub use self::script::{give_back, quoted, take};
pub use self::tool::{Said, Tool, ToolError};

/// Where our own files lie on a machine; `/run` may forbid to execute what lies there.
pub const FOLDER: &str = "/var/lib/cknet";

/// How a machine is reached.
pub trait Transport: Send + Sync {
    /// The program of this machine that runs a script as root in a `sh` of that one, with its standard streams.
    fn shell(&self, script: &str) -> Command;

    /// The program whose standard streams are a connection to a TCP port of that machine's loopback.
    fn dial(&self, port: u16) -> Command {
        self.shell(&format!("exec {FOLDER}/bin/cknet relay {port}"))
    }

    /// Is told that the machine has answered for the first time.
    fn answered(&self) {}
}

/// A shell by a program of the provider's: `lxc exec NAME --`, `multipass exec NAME -- sudo`.
pub struct Within {
    pub program: PathBuf,
    /// Everything before `sh`.
    pub arguments: Vec<String>,
}

impl Transport for Within {
    fn shell(&self, script: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).args(["sh", "-c", script]);
        command
    }
}

/// A machine that was made, before it is prepared.
pub struct Machine {
    /// The node that it will be.
    pub node: String,
    /// What it is called by its provider, for messages.
    pub called: String,
    pub transport: Arc<dyn Transport>,
    /// The hardware addresses of its NICs, by the names that they will have.
    pub macs: BTreeMap<String, [u8; 6]>,
    /// What its provider can be asked when it gives no shell.
    pub console: Option<Console>,
}

/// Where one learns what a machine has said of its start, or at least its state.
#[derive(Clone, Debug)]
pub enum Console {
    /// A call of a provider's program.
    Call { tool: Tool, words: Vec<String> },
    /// What is written of its serial console.
    File(PathBuf),
}

/// The name of the one snapshot of a machine: before a distribution is installed on it.
pub const SNAPSHOT: &str = "cknet-new";

/// How long a machine may take from its start to its first shell: `usual`, unless `CKNET_MACHINE_BOOT_SECONDS` says
/// otherwise.
pub fn boot_time(usual: Duration) -> Duration {
    let given = std::env::var("CKNET_MACHINE_BOOT_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    given.map_or(usual, Duration::from_secs)
}

/// What machines are made from.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Its name in the provider's words; the provider's own choice unless given.
    pub name: Option<String>,
    /// What its machines can do beyond [`capabilities`], because programs are installed in it.
    pub has: Vec<Capability>,
    /// Virtual machines are made of it where a provider would make system containers.
    pub virtual_machine: bool,
}

/// What a machine is called by its provider: a name that tells run, cluster and node.
pub fn called(run: &str, key: &str, node: &str) -> String {
    format!("cknet-{run}-{key}-{node}")
}

/// Longest host name (RFC 1123, 2.1: 63 octets and more; providers and Kubernetes allow 63).
const LONGEST_NAME: usize = 63;

/// Whether machines can be called so; found out before anything is made.
pub fn can_be_called(provider: &'static str, run: &str, key: &str, topology: &Topology) -> Result<(), ProviderError> {
    let mut names = topology.nodes.iter().map(|node| called(run, key, &node.name));
    match names.find(|name| name.len() > LONGEST_NAME) {
        None => Ok(()),
        Some(name) => Err(ProviderError::Failed {
            provider,
            doing: format!("call a machine `{name}`"),
            cause: format!("a name has at most {LONGEST_NAME} characters; give the node a shorter one"),
        }),
    }
}

/// What every machine can do, and what those of an image can.
pub fn capabilities(has: &[Capability]) -> Vec<Capability> {
    let every = [Capability::NodeFirewall, Capability::NodeInterfaces, Capability::NodeLinks, Capability::NodeCommands];
    every.into_iter().chain(has.iter().copied()).collect()
}

/// A hardware address that tells what it belongs to: locally administered (second bit of the first octet, IEEE 802),
/// then 46 bits of a hash over the names (FNV-1a), so that a NIC is found whatever its machine calls it.
pub fn hardware_address(words: &[&str]) -> [u8; 6] {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in words.iter().flat_map(|word| word.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let [_, _, a, b, c, d, e, f] = hash.to_be_bytes();
    [a & 0xfc | 0x02, b, c, d, e, f]
}

/// The same with the prefix that QEMU's own addresses have, as everybody expects of a virtual machine: libvirt keeps what
/// else begins with an even octet for itself.
pub fn hardware_address_of_qemu(words: &[&str]) -> [u8; 6] {
    let [_, _, _, a, b, c] = hardware_address(words);
    [0x52, 0x54, 0x00, a, b, c]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_are_local_unicast_and_tell_nics_apart() {
        let one = hardware_address(&["r1", "w1", "eth0"]);
        assert_eq!(one, hardware_address(&["r1", "w1", "eth0"]));
        assert_ne!(one, hardware_address(&["r1", "w1", "eth1"]));
        assert_ne!(one, hardware_address(&["r1", "w", "1eth0"]), "words are not run together");
        assert_eq!(one[0] & 0x03, 0x02);
    }
}
