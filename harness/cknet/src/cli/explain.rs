//! `cknet explain`: a scenario in words, before anything is done: what it does, what it expects, and what the rules of
//! Kubernetes predict for each of its flows.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::{Selection, print, suite};
use crate::exit::ExitCode;
use crate::predict::{Agreement, Foreseen, Predictor};
use crate::run::{describe, output};
use crate::scenario::Scenario;
use crate::scenario::model::{Check, Expectation, Phase};

#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    selection: Selection,
}

pub fn explain(options: &Options) -> ExitCode {
    let scenarios = match suite::read(&options.selection, "reference") {
        Ok(scenarios) => scenarios,
        Err(code) => return code,
    };
    let texts: Vec<String> = scenarios.iter().map(text).collect();
    print(&texts.join("\n"))
}

fn text(scenario: &Scenario) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(scenario, &mut text);
    text
}

fn write(scenario: &Scenario, out: &mut String) -> std::fmt::Result {
    writeln!(out, "{}  {}", scenario.id(), scenario.metadata.title)?;
    writeln!(out, "  document   {}", scenario.metadata.docs)?;
    for claim in &scenario.claims {
        writeln!(out, "  claim      {}: {}", claim.id, claim.text)?;
    }
    for (name, node) in scenario.topology.nodes.iter() {
        let nics = node.nics.iter().map(|(nic, place)| format!("{nic} {} on {}", place.address, place.segment));
        let what = if node.role.is_member() { "node" } else { node.role.word() };
        writeln!(out, "  {what:10} {name}: {}", nics.collect::<Vec<_>>().join(", "))?;
        for way in scenario.topology.ways(name) {
            writeln!(out, "             reaches {} through {}", way.segment, way.via)?;
        }
    }
    let cluster = &scenario.cluster;
    writeln!(
        out,
        "  cluster    pods {}, services {}, {}, backend {}, node address {}",
        cluster.pod_cidr,
        cluster.service_cidr,
        cluster.encapsulation.word(),
        cluster.backend().word(),
        cluster.node_address
    )?;
    for (name, workload) in scenario.workloads.iter() {
        let ports = workload.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let listens = if ports.is_empty() { "only asks".to_string() } else { format!("listens on {ports}") };
        if scenario.topology.is_member(&workload.node) {
            writeln!(out, "  workload   {}/{name} on {}, {listens}", workload.namespace, workload.node)?;
        } else {
            writeln!(out, "  workload   {name}, a process on {} outside of the cluster, {listens}", workload.node)?;
        }
    }
    let mut told = BTreeSet::new();
    for phase in &scenario.phases {
        writeln!(
            out,
            "  phase {}{}",
            phase.id,
            phase.title.as_ref().map_or(String::new(), |title| format!(": {title}"))
        )?;
        let predictor = Predictor::after(scenario, &phase.id, &|_| None);
        for step in &phase.steps {
            writeln!(out, "    do       {}", describe(&step.action))?;
        }
        for expectation in &phase.expect {
            writeln!(out, "    expect   {}: {}", expectation.id, expected(expectation))?;
            for foreseen in predictor.foresee(expectation) {
                let differs = foreseen.agreement() == Agreement::Differ;
                let mark =
                    if differs { format!("DIFFERS from `{}`: ", foreseen.expected.word()) } else { String::new() };
                writeln!(out, "      rules  {}: {mark}{}", foreseen.flow, foreseen.because())?;
            }
        }
        notes(&predictor, &mut told, out)?;
    }
    writeln!(out, "  rules      {}", sum(scenario))?;
    for sabotage in &scenario.sabotage {
        writeln!(out, "  sabotage   {}: then {} must fail", sabotage.id, sabotage.must_fail)?;
    }
    Ok(())
}

/// What there is to know about the policies of a phase, and what could not be followed.
fn notes(predictor: &Predictor<'_>, told: &mut BTreeSet<String>, out: &mut String) -> std::fmt::Result {
    for (policy, advice) in predictor.advice() {
        // A policy that stays in force over several phases is told about once.
        let advice = format!("policy `{policy}`, {advice}");
        if told.insert(advice.clone()) {
            writeln!(out, "    advice   {advice}")?;
        }
    }
    for gap in predictor.gaps() {
        if told.insert(gap.clone()) {
            writeln!(out, "    gap      not followed: {gap}")?;
        }
    }
    Ok(())
}

/// How expectations and rules stand to each other in the whole scenario.
fn sum(scenario: &Scenario) -> String {
    let of_phase = |phase: &Phase| -> Vec<Foreseen> {
        let predictor = Predictor::after(scenario, &phase.id, &|_| None);
        phase.expect.iter().flat_map(|expectation| predictor.foresee(expectation)).collect()
    };
    let flows: Vec<Foreseen> = scenario.phases.iter().flat_map(of_phase).collect();
    if flows.is_empty() {
        return "no expectation is about a flow".into();
    }
    let count = |wanted| flows.iter().filter(|flow| flow.agreement() == wanted).count();
    let (agree, differ, open) = (count(Agreement::Agree), count(Agreement::Differ), count(Agreement::Open));
    let mut text = format!("{agree} of {} flows are expected as the rules predict them", flows.len());
    if differ > 0 {
        text.push_str(&format!(
            ", {differ} otherwise: the rules know NetworkPolicies and Services, and no firewall, link or route"
        ));
    }
    if open > 0 {
        text.push_str(&format!(", {open} without a prediction"));
    }
    text + "; addresses are made up"
}

/// An expectation in a few words, with its table.
fn expected(expectation: &Expectation) -> String {
    let table = expected_table(expectation).map_or(String::new(), |table| format!("\n{}", indented(&table)));
    format!("{}{table}", expected_in_short(expectation)).trim_end().to_string()
}

/// The table of an expectation that has one.
pub(super) fn expected_table(expectation: &Expectation) -> Option<String> {
    match &expectation.check {
        Check::Matrix(matrix) => Some(matrix.table()),
        _ => None,
    }
}

/// An expectation in a few words.
pub(super) fn expected_in_short(expectation: &Expectation) -> String {
    let mut text = match &expectation.check {
        Check::Connectivity(flow) => format!("{} -> {} {} {}", flow.from, flow.to, flow.port, flow.is.word()),
        Check::Matrix(matrix) => format!("{} flows as the table says", matrix.flows().count()),
        Check::Nodes(_) => "states of nodes".into(),
        Check::Resource(resource) => format!("{} {}", resource.kind, resource.name.clone().unwrap_or_default()),
        Check::Routes(route) => format!("route of {} to {}", route.node, route.destination),
        Check::Links(link) => format!("device {} of {}", link.device, link.node),
        Check::Addresses(addresses) => format!("addresses of {} inside {}", addresses.of, addresses.within),
        Check::Listening(port) => format!("port {} of {} {}", port.port, port.at, port.is.word()),
        Check::Service(service) => format!("service {} reachable on {}", service.name, service.port),
        Check::Dns(query) => format!("name {} from {}", query.name, query.from),
        Check::Command(command) => output::command(command),
        Check::Log(log) => output::log(log),
        Check::Refused(refused) => {
            format!("{} {} refused for {}", refused.object.kind(), refused.object.name(), refused.fields.join(", "))
        }
        Check::PathMtu(path) => format!("packets {} -> {} of at most {} bytes", path.from, path.to, path.is),
        Check::Connection(connection) => format!("connection {} {}", connection.name, connection.state.word()),
        Check::Ping(ping) => format!("echo request {} -> {} {}", ping.from, ping.to, ping.is.word()),
        Check::Wire(wire) => {
            format!("{} -> {} {} on {}: {}", wire.from, wire.to, wire.port, wire.on, wire.look())
        }
    };
    if let Some(within) = &expectation.within {
        text.push_str(&format!(", within {within}"));
    }
    if let Some(hold) = &expectation.hold {
        text.push_str(&format!(", for {hold}"));
    }
    if expectation.undefined {
        text.push_str(", as Calico does it; no specification says so");
    }
    text
}

fn indented(table: &str) -> String {
    table.lines().map(|line| format!("             {line}\n")).collect()
}
