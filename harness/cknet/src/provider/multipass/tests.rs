//! Every call and every answer of Multipass that is written down in `fixtures/recorded/multipass`.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;

use super::Multipass;
use crate::provider::machine::replayed::Recorded;
use crate::provider::machine::{Image, Machine, made};
use crate::provider::{Nic, NodeSpec, Provider, ProviderError, Segment, Topology};

const KEY: &str = "c0-0";

/// Two machines on one segment.
fn topology() -> Topology {
    let node = |name: &str, address: &str| NodeSpec {
        name: name.into(),
        nics: vec![Nic { name: "eth0".into(), segment: "lan".into(), address: address.parse().unwrap() }],
        forwards: true,
        routes: Vec::new(),
    };
    Topology {
        segments: vec![Segment { name: "lan".into(), cidr: "192.168.60.0/24".parse().unwrap(), mtu: 1500 }],
        nodes: vec![node("cp1", "192.168.60.11/24"), node("w1", "192.168.60.12/24")],
    }
}

fn called(done: Result<Vec<Machine>, ProviderError>) -> String {
    match done {
        Ok(machines) => machines.iter().map(|machine| machine.called.as_str()).collect::<Vec<_>>().join("\n"),
        Err(error) => error.to_string(),
    }
}

/// Time stands still where nobody waits for a program.
#[tokio::test(start_paused = true)]
async fn every_answer_is_understood() {
    for recorded in Recorded::all("multipass") {
        judge(&recorded).await;
    }
}

async fn judge(recorded: &Recorded) {
    let folder = tempfile::tempdir().unwrap();
    let image = Image::default();
    let mut provider = Multipass::new("r1", folder.path(), "/bin/true".into(), &image, &[], Arc::new(|_| ()));
    provider.tool = recorded.tool("multipass");
    let outcome = match recorded.doing.as_str() {
        "preflight" => match provider.preflight().as_slice() {
            [] => "ready".into(),
            [finding, ..] => format!("{}; {}", finding.what, finding.fix),
        },
        "make" => called(made::make(&provider, KEY, &topology()).await),
        "make on a bridge of r0" => {
            left_by_a_killed_run(folder.path());
            called(made::make(&provider, KEY, &topology()).await)
        }
        "keep" => called(provider.keep(KEY, &topology()).await),
        "put back" => called(provider.put_back(KEY, &topology()).await),
        "remove" => match provider.remove(KEY).await {
            Ok(()) => "nothing is left".into(),
            Err(error) => error.to_string(),
        },
        other => panic!("nobody knows how to do `{other}`"),
    };
    recorded.judge(&outcome);
}

fn left_by_a_killed_run(folder: &Path) {
    std::fs::write(folder.join("multipass-cknet0.lock"), "cknet-r0-c0-0-").unwrap();
}

#[test]
fn a_shell_carries_every_exit_code_but_the_one_that_multipass_repeats() {
    let folder = tempfile::tempdir().unwrap();
    let provider = Multipass::new("r1", folder.path(), "/bin/true".into(), &Image::default(), &[], Arc::new(|_| ()));
    for (told, ended) in [(0, 0), (1, 4), (3, 3), (7, 7)] {
        let argv = ["sh", "-c", &format!("exit {ended}")].map(String::from);
        let command = provider.enter(KEY, "w1", &argv).unwrap();
        let words: Vec<_> = command.get_args().collect();
        let first = words.iter().position(|word| *word == "sh").unwrap();
        let status = std::process::Command::new("sh").args(&words[first + 1..]).output().unwrap().status;
        assert_eq!(status.code(), Some(told), "of {ended}");
    }
}
