//! Commands from their start to their end, as a shell sees them.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::figures::{median, spread, text, within};
use crate::stand::{executable, folder};

/// The suite of this repository.
const SCENARIOS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scenarios");

/// The scenarios with which cknet began, one of each area that it had.
const FIVE: [&str; 5] = [
    "cidr.default-cidrs",
    "cidr.custom-cidrs",
    "policy.deny-all-ingress",
    "firewall.vxlan-port-blocked",
    "interfaces.overlay-on-second-nic",
];

pub fn measure() {
    println!("commands");
    let five: Vec<&str> = ["run"].into_iter().chain(FIVE).collect();
    for (name, arguments, rounds, budget) in [
        ("cknet list", &["list"][..], 30, Duration::from_millis(50)),
        ("cknet check", &["check"], 30, Duration::from_millis(50)),
        ("cknet run, five scenarios", &five, 5, Duration::from_secs(10)),
        ("cknet run, all scenarios", &["run"], 3, Duration::from_secs(60)),
    ] {
        let times: Vec<Duration> = (0..rounds).map(|_| time(arguments)).collect();
        println!("  {name}: {}; {}", spread(&times), within(median(&times), budget));
    }
    let empty = time(&["--version"]);
    println!("  cknet --version, which only starts and ends: {}", text(empty));
}

fn time(arguments: &[&str]) -> Duration {
    let state = folder();
    let mut cknet = Command::new(executable());
    cknet.args(arguments).env("CKNET_STATE", state.path()).stdout(Stdio::null()).stderr(Stdio::null());
    if !arguments[0].starts_with('-') {
        cknet.args(["--scenarios", SCENARIOS]);
    }
    let started = Instant::now();
    let status = cknet.status().unwrap();
    let took = started.elapsed();
    assert!(status.success(), "`cknet {}` ended with {status}", arguments.join(" "));
    took
}
