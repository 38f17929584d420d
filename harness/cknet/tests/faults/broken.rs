//! Parts of a cluster die while a scenario watches it: nothing passes by accident, and what was denied is never said
//! to have got through. A result is true, or an error.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::workplace::{Ended, Running, SOON, Workplace};
use crate::{Case, Needs};

pub const TRIALS: &[Case] = &[
    (Needs::Root, "broken::a_dead_kubelet_changes_no_flow", a_dead_kubelet_changes_no_flow),
    (Needs::Root, "broken::a_dead_calico_node_changes_no_flow", a_dead_calico_node_changes_no_flow),
    (Needs::Root, "broken::a_dead_probe_agent_is_replaced", a_dead_probe_agent_is_replaced),
    (Needs::Root, "broken::agents_that_die_at_once_prove_nothing", agents_that_die_at_once_prove_nothing),
    (Needs::Root, "broken::a_dead_control_plane_is_an_error", a_dead_control_plane_is_an_error),
    (Needs::Root, "broken::a_control_plane_that_hangs_is_an_error", a_control_plane_that_hangs_is_an_error),
    (Needs::Root, "broken::a_stopped_server_is_not_a_denied_one", a_stopped_server_is_not_a_denied_one),
    (Needs::Root, "broken::a_killed_server_is_not_a_denied_one", a_killed_server_is_not_a_denied_one),
    (Needs::Root, "broken::a_machine_that_is_gone_is_an_error", a_machine_that_is_gone_is_an_error),
];

/// Runs the scenario that watches for a while, and breaks something as soon as the watch has begun.
fn while_it_holds(workplace: &Workplace, fault: impl FnOnce(&Workplace)) -> (Ended, BTreeMap<String, String>) {
    let suite = workplace.suite_that_holds();
    let mut command = workplace.cknet(["run", "--scenarios"]);
    command.arg(suite).arg("--reports").arg(workplace.reports());
    let mut run = workplace.start(command);
    workplace.await_event("step-done", &mut run);
    // Into the middle of the watch.
    std::thread::sleep(Duration::from_millis(700));
    fault(workplace);
    (finished(workplace, run), workplace.outcomes())
}

fn finished(workplace: &Workplace, run: Running) -> Ended {
    let ended = run.ended(SOON * 2);
    workplace.await_nothing_left();
    ended
}

/// Signals the processes on a node whose command line contains the words; there has to be one.
fn signal_on(workplace: &Workplace, node: &str, words: &str, signal: Signal) {
    let found = workplace.processes_of(words);
    let there: Vec<_> = found.iter().filter(|process| process.node == node).collect();
    assert!(!there.is_empty(), "no `{words}` on {node}: {:#?}", workplace.processes());
    for process in there {
        process.signal(signal);
    }
}

/// The denied flow was denied all along: anything but a failure is honest.
fn never_got_through(outcomes: &BTreeMap<String, String>) {
    for case in ["deny/denied", "later/denied"] {
        assert_ne!(outcomes.get(case).map(String::as_str), Some("fail"), "{case}: {outcomes:?}");
    }
}

fn a_dead_kubelet_changes_no_flow() {
    let workplace = Workplace::new();
    let (_, outcomes) =
        while_it_holds(&workplace, |workplace| signal_on(workplace, "w1", "cknet node ", Signal::SIGKILL));
    never_got_through(&outcomes);
    // Pods go on without their kubelet.
    assert_eq!(outcomes["deny/allowed"], "pass", "{outcomes:?}");
    assert_eq!(outcomes.len(), 5, "{outcomes:?}");
}

fn a_dead_calico_node_changes_no_flow() {
    let workplace = Workplace::new();
    let (_, outcomes) =
        while_it_holds(&workplace, |workplace| signal_on(workplace, "w1", "calico-node", Signal::SIGKILL));
    never_got_through(&outcomes);
    // Rules and routes stay in the kernel, and the kubelet starts another one.
    assert_eq!(outcomes["deny/allowed"], "pass", "{outcomes:?}");
    assert_eq!(outcomes["later/denied"], "pass", "{outcomes:?}");
}

fn a_dead_probe_agent_is_replaced() {
    let workplace = Workplace::new();
    let started = Instant::now();
    let (ended, outcomes) =
        while_it_holds(&workplace, |workplace| signal_on(workplace, "cp1", "probe agent", Signal::SIGKILL));
    never_got_through(&outcomes);
    assert!(matches!(ended.code(), 0 | 3), "{outcomes:?}: {}", ended.stdout);
    // A watch with a hole in it is not a watch of that length: it was begun again, or given up.
    if outcomes["deny/denied"] == "pass" {
        assert!(started.elapsed() > Duration::from_millis(4700), "{:?}", started.elapsed());
    }
    assert_eq!(outcomes["later/denied"], "pass", "{outcomes:?}");
}

fn agents_that_die_at_once_prove_nothing() {
    let workplace = Workplace::new();
    let (ended, outcomes) = while_it_holds(&workplace, |workplace| {
        let started = Instant::now();
        while started.elapsed() < SOON && !workplace.outcomes().contains_key("later/allowed") {
            for agent in workplace.processes_of("probe agent") {
                agent.signal(Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    ended.expect(3);
    for case in ["deny/denied", "deny/allowed"] {
        assert_eq!(outcomes[case], "error", "{outcomes:?}");
    }
    assert_eq!(outcomes["deny/ready"], "pass", "nodes are not probed: {outcomes:?}");
}

fn a_dead_control_plane_is_an_error() {
    let workplace = Workplace::new();
    let (ended, outcomes) =
        while_it_holds(&workplace, |workplace| signal_on(workplace, "cp1", "control-plane", Signal::SIGKILL));
    never_got_through(&outcomes);
    ended.expect(3);
    assert_eq!(outcomes["deny/ready"], "error", "{outcomes:?}");
}

fn a_control_plane_that_hangs_is_an_error() {
    let workplace = Workplace::new();
    let (ended, outcomes) =
        while_it_holds(&workplace, |workplace| signal_on(workplace, "cp1", "control-plane", Signal::SIGSTOP));
    never_got_through(&outcomes);
    ended.expect(3);
    assert_eq!(outcomes["deny/ready"], "error", "{outcomes:?}");
    // What is asked of the API says so; the nodes tell what they know all the same.
    let bundle = workplace.reports().join("evidence/faults.hold/deny");
    let read = |file: &str| fs::read_to_string(bundle.join(file)).unwrap();
    assert!(read("api/pods.txt").starts_with("not had: cannot list Pod"), "{}", read("api/pods.txt"));
    assert!(read("nodes/w1/facts.json").contains("vxlan.calico"), "{}", read("nodes/w1/facts.json"));
}

/// Signals both servers of the scenario, the denied one and the witness.
fn signal_servers(workplace: &Workplace, signal: Signal) {
    for identity in ["production/server", "default/witness"] {
        let servers = workplace.processes_of(&format!("serve --identity {identity}"));
        assert!(!servers.is_empty(), "no server `{identity}`: {:#?}", workplace.processes());
        for server in servers {
            server.signal(signal);
        }
    }
}

/// A server that cannot answer is as silent as a denied one; its silence proves nothing.
fn a_stopped_server_is_not_a_denied_one() {
    let workplace = Workplace::new();
    let (ended, outcomes) = while_it_holds(&workplace, |workplace| signal_servers(workplace, Signal::SIGSTOP));
    for case in ["deny/denied", "later/denied"] {
        assert_eq!(outcomes[case], "error", "{outcomes:?}: {}", ended.stdout);
    }
    // The kernel still accepts for it, so that nobody can say what became of the flow to the witness.
    assert_ne!(outcomes["deny/allowed"], "pass", "{outcomes:?}");
    assert!(ended.stdout.contains("does not answer itself"), "{}", ended.stdout);
    assert!(matches!(ended.code(), 1 | 3), "{}", ended.stdout);
}

/// A port without its server refuses like a policy that rejects.
fn a_killed_server_is_not_a_denied_one() {
    let workplace = Workplace::new();
    let (ended, outcomes) = while_it_holds(&workplace, |workplace| {
        let started = Instant::now();
        // The kubelet starts it again.
        while started.elapsed() < SOON && !workplace.outcomes().contains_key("later/denied") {
            for server in workplace.processes_of("serve --identity production/server") {
                server.signal(Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    assert_eq!(outcomes["deny/denied"], "error", "{outcomes:?}: {}", ended.stdout);
    assert_eq!(outcomes["deny/allowed"], "pass", "{outcomes:?}: {}", ended.stdout);
    ended.expect(3);
}

fn a_machine_that_is_gone_is_an_error() {
    let workplace = Workplace::new();
    let (ended, outcomes) = while_it_holds(&workplace, |workplace| {
        for fabric in workplace.processes_of(" fabric") {
            fabric.signal(Signal::SIGKILL);
        }
    });
    ended.expect(3);
    for (case, outcome) in &outcomes {
        assert_eq!(outcome, "error", "{case}: {outcomes:?}");
    }
}
