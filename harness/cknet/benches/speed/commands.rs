//! Commands from their start to their end, as a shell sees them.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::figures::{median, spread, text, within};
use crate::stand::{executable, folder};

/// The suite of this repository.
const SCENARIOS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scenarios");

pub fn measure() {
    println!("commands");
    for (command, rounds, budget) in [
        ("list", 30, Duration::from_millis(50)),
        ("check", 30, Duration::from_millis(50)),
        ("run", 5, Duration::from_secs(10)),
    ] {
        let times: Vec<Duration> = (0..rounds).map(|_| time(command)).collect();
        println!("  cknet {command:<6} {}; {}", spread(&times), within(median(&times), budget));
    }
    let empty = time("--version");
    println!("  cknet --version, which only starts and ends: {}", text(empty));
}

fn time(command: &str) -> Duration {
    let state = folder();
    let mut cknet = Command::new(executable());
    cknet.arg(command).env("CKNET_STATE", state.path()).stdout(Stdio::null()).stderr(Stdio::null());
    if !command.starts_with('-') {
        cknet.args(["--scenarios", SCENARIOS]);
    }
    let started = Instant::now();
    let status = cknet.status().unwrap();
    let took = started.elapsed();
    assert!(status.success(), "`cknet {command}` ended with {status}");
    took
}
