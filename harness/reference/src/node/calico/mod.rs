//! calico-node: finds the node's address, owns the VXLAN device, routes between blocks, installs the CNI
//! configuration, and enforces NetworkPolicy. One process per node, the container of the calico-node pod.
//!
//! What it has programmed stays in the kernel when it ends, as with the real one: existing traffic goes on, changes
//! are no longer seen.

mod agent;
mod autodetect;
pub mod bgp;
mod bird;
mod dataplane;
pub mod endpoint_status;
mod health;
pub(super) mod iptables;
mod node_object;
pub mod resources;

use std::path::Path;
use std::process::ExitCode;

pub use self::autodetect::is_passed_over;

/// The routing protocol number that marks Calico's routes (`proto 80` in `ip route`).
pub const PROTOCOL: u8 = 80;

/// What the container's environment says.
#[derive(Clone, Debug)]
pub struct Settings {
    pub node: String,
    pub kubeconfig: String,
    pub autodetection: String,
    pub backend: Backend,
}

/// Calico's `calico_backend`: what carries packets between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Felix alone: VXLAN, and routes to nodes of the same subnet.
    Vxlan,
    /// BIRD beside Felix: routes of pools without encapsulation are exchanged over BGP.
    Bird,
    /// Addresses and routes are somebody else's; only policy is Calico's.
    None,
}

impl Settings {
    fn from_environment() -> Result<Self, String> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Ok(Self {
            node: variable("NODENAME").ok_or("NODENAME is not set")?,
            kubeconfig: variable("KUBECONFIG").unwrap_or_else(|| "/etc/kubernetes/kubelet.conf".into()),
            autodetection: variable("IP_AUTODETECTION_METHOD").unwrap_or_else(|| "first-found".into()),
            backend: match variable("CALICO_NETWORKING_BACKEND").as_deref() {
                Some("none") => Backend::None,
                None | Some("vxlan") => Backend::Vxlan,
                Some("bird") => Backend::Bird,
                Some(other) => return Err(format!("CALICO_NETWORKING_BACKEND is `{other}`: use bird, vxlan or none")),
            },
        })
    }
}

/// The hidden command line `cknet calico-node [bird | -felix-ready -bird-ready]`.
pub fn main(arguments: &[String]) -> ExitCode {
    let given = |word: &str| arguments.iter().any(|argument| argument == word);
    if given("bird") {
        return complain(&format!("cannot start BIRD: {}", bird::exec()));
    }
    if given("-felix-ready") || given("-bird-ready") {
        return match bird::not_ready(given("-felix-ready"), given("-bird-ready")) {
            None => ExitCode::SUCCESS,
            Some(why) => told(&why),
        };
    }
    let settings = match Settings::from_environment() {
        Ok(settings) => settings,
        Err(problem) => return complain(&problem),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error.to_string()),
    };
    match runtime.block_on(agent::run(settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error.to_string()),
    }
}

/// Says why the container ends, on its log.
fn complain(problem: &str) -> ExitCode {
    log("ERROR", problem);
    ExitCode::FAILURE
}

/// Says on standard error, where probes look, what is not ready.
fn told(why: &str) -> ExitCode {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{why}");
    ExitCode::FAILURE
}

/// One line of the container's log.
pub(crate) fn log(level: &str, message: &str) {
    use std::io::Write;
    let now = jiff::Timestamp::now();
    // A log that cannot be written must not stop the network.
    let _ = writeln!(std::io::stdout(), "{now:.3} [{level}] {message}");
}

/// Makes a folder and writes a file in it, whole or not at all.
pub(crate) fn install(path: &Path, content: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let draft = path.with_extension("tmp");
    std::fs::write(&draft, content)?;
    std::fs::rename(&draft, path)
}
