//! `cknet explain`: a scenario in words, before anything is done.

use std::fmt::Write;

use super::{Selection, print, suite};
use crate::exit::ExitCode;
use crate::run::describe;
use crate::scenario::Scenario;
use crate::scenario::model::{Check, Expectation};

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
        writeln!(out, "  node       {name}: {}", nics.collect::<Vec<_>>().join(", "))?;
    }
    let cluster = &scenario.cluster;
    writeln!(
        out,
        "  cluster    pods {}, services {}, {:?}, node address {}",
        cluster.pod_cidr, cluster.service_cidr, cluster.encapsulation, cluster.node_address
    )?;
    for (name, workload) in scenario.workloads.iter() {
        let ports = workload.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let listens = if ports.is_empty() { "only asks".to_string() } else { format!("listens on {ports}") };
        writeln!(out, "  workload   {}/{name} on {}, {listens}", workload.namespace, workload.node)?;
    }
    for phase in &scenario.phases {
        writeln!(out, "  phase {}{}", phase.id, phase.title.as_ref().map_or(String::new(), |title| format!(": {title}")))?;
        for step in &phase.steps {
            writeln!(out, "    do       {}", describe(&step.action))?;
        }
        for expectation in &phase.expect {
            writeln!(out, "    expect   {}: {}", expectation.id, expected(expectation))?;
        }
    }
    for sabotage in &scenario.sabotage {
        writeln!(out, "  sabotage   {}: then {} must fail", sabotage.id, sabotage.must_fail)?;
    }
    Ok(())
}

/// An expectation in a few words.
fn expected(expectation: &Expectation) -> String {
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
    };
    if let Some(within) = &expectation.within {
        text.push_str(&format!(", within {within}"));
    }
    if let Some(hold) = &expectation.hold {
        text.push_str(&format!(", for {hold}"));
    }
    if let Check::Matrix(matrix) = &expectation.check {
        text.push_str(&format!("\n{}", indented(&matrix.table())));
    }
    text.trim_end().to_string()
}

fn indented(table: &str) -> String {
    table.lines().map(|line| format!("             {line}\n")).collect()
}
