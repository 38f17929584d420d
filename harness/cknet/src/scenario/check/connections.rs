//! Owns whether connections that stay open can be opened, and whether those that are spoken of have been.
//! Must not know what becomes of them.

use super::super::model::{Action, Check, Connect, ConnectionName, Endpoint, Protocol, Scenario, Via, WorkloadName};
use super::super::nearest::{listed, nearest};
use super::{Checking, Part};

/// The step that has opened a connection by the end of a phase's steps; the last one of that name.
pub(super) fn opened<'s>(scenario: &'s Scenario, phase: usize, name: &ConnectionName) -> Option<&'s Connect> {
    all(scenario, phase).filter(|connect| connect.name == *name).last()
}

/// What the steps up to those of a phase open.
fn all(scenario: &Scenario, phase: usize) -> impl Iterator<Item = &Connect> {
    let steps = scenario.phases.iter().take(phase + 1).flat_map(|phase| &phase.steps);
    steps.filter_map(|step| match &step.action {
        Action::Connect(connect) => Some(connect),
        _ => None,
    })
}

pub(super) fn check(c: &mut Checking<'_>) {
    let scenario = c.scenario;
    let alive = super::steps::alive(c);
    let mut names: Vec<&ConnectionName> = Vec::new();
    for (phase, (found, alive)) in scenario.phases.iter().zip(&alive).enumerate() {
        for (index, step) in found.steps.iter().enumerate() {
            let Action::Connect(connect) = &step.action else { continue };
            let path = path!["phases", phase, "steps", index, "connect"];
            one(c, connect, alive, path);
            if names.contains(&&connect.name) {
                let message = format!("a connection `{}` was opened already", connect.name);
                c.problem(&[&path[..], path!["name"]].concat(), message);
            }
            if !names.contains(&&connect.name) {
                names.push(&connect.name);
            }
        }
        for (index, expectation) in found.expect.iter().enumerate() {
            let Check::Connection(connection) = &expectation.check else { continue };
            if opened(scenario, phase, &connection.name).is_none() {
                let path = path!["phases", phase, "expect", index, "connection", "name"];
                c.problem(path, unknown(&connection.name, &names));
            }
        }
    }
}

fn one(c: &mut Checking<'_>, connect: &Connect, alive: &[WorkloadName], path: &[Part<'_>]) {
    let key = |key| [path, &[Part::Key(key)]].concat();
    if connect.port.protocol != Protocol::Tcp {
        c.problem(&key("port"), "only a TCP connection stays open");
    }
    if matches!(connect.from, Endpoint::Service(_) | Endpoint::Address(_)) {
        c.problem(
            &key("from"),
            format!("`{}` is not a workload or `node:NAME`; nothing can be run there", connect.from),
        );
    }
    if matches!(connect.to, Endpoint::Node(_) | Endpoint::Address(_)) {
        let message = format!("`{}` is not a workload or a service; nobody there echoes what is sent", connect.to);
        c.problem(&key("to"), message);
    }
    for (end, name) in [("from", &connect.from), ("to", &connect.to)] {
        if let Endpoint::Workload(name) = name
            && !alive.contains(name)
        {
            c.problem(&key(end), format!("there is no workload `{name}` in this phase"));
        }
    }
    if let (Endpoint::Workload(name), Via::HostPort) = (&connect.to, &connect.via)
        && super::network::workload(c, name).is_some_and(|workload| workload.host_port(connect.port).is_none())
    {
        c.problem(&key("via"), format!("no port of its node leads to `{}` of `{name}`", connect.port));
    }
    if let (Endpoint::Workload(name), Via::Pod | Via::HostPort) = (&connect.to, &connect.via)
        && super::network::workload(c, name).is_some_and(|workload| !workload.listen.contains(&connect.port))
    {
        c.problem(&key("port"), format!("`{name}` does not listen on `{}`", connect.port));
    }
}

fn unknown(name: &ConnectionName, opened: &[&ConnectionName]) -> String {
    let known: Vec<&str> = opened.iter().map(|name| name.as_str()).collect();
    match nearest(name.as_str(), known.iter().copied()) {
        Some(near) => format!("no connection `{name}` is open by then; did you mean `{near}`?"),
        None if known.is_empty() => format!("no connection `{name}` is open by then; open one with the step `connect`"),
        None => format!("no connection `{name}` is open by then; open are {}", listed(known)),
    }
}
