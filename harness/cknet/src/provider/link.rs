//! The hidden command line `cknet node-link DEVICE up|down|delete|mtu=BYTES`, by which scenario steps change a device
//! of a node.

use std::io::Write;
use std::process::ExitCode;

use cknet_kernel::link::Netlink;
use cknet_kernel::ns::NetNs;

pub fn main(arguments: &[String]) -> ExitCode {
    let [device, change] = arguments else {
        return complain(2, "usage: node-link DEVICE up|down|delete|mtu=BYTES");
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(apply(device, change)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => complain(1, &problem),
    }
}

async fn apply(device: &str, change: &str) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let namespace = NetNs::current().map_err(|error| text(&error))?;
    let netlink = Netlink::open(&namespace).map_err(|error| text(&error))?;
    let index = netlink.expect_link(device).await.map_err(|error| text(&error))?.index;
    let changed = match (change, change.strip_prefix("mtu=").map(str::parse)) {
        ("up", _) => netlink.up(index).await,
        ("down", _) => netlink.down(index).await,
        ("delete", _) => netlink.delete(index).await,
        (_, Some(Ok(mtu))) => netlink.set_mtu(index, mtu).await,
        _ => return Err(format!("`{change}` is not a change of a device")),
    };
    changed.map_err(|error| text(&error))
}

fn complain(code: u8, problem: &str) -> ExitCode {
    // Nowhere to complain about a closed standard error.
    let _ = writeln!(std::io::stderr(), "error: {problem}");
    ExitCode::from(code)
}
