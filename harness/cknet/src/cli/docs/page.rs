//! Owns what stands on a scenario's page and in the index.

use std::fmt::Write;
use std::path::PathBuf;

use crate::cli::explain::{expected_in_short, expected_table};
use crate::cli::suite::Documents;
use crate::report::markdown_escaped as escaped;
use crate::run::describe;
use crate::scenario::Scenario;
use crate::scenario::model::{Change, Citation, Expectation, Phase};

/// Where a scenario's page lies, below the folder for pages.
pub fn path(scenario: &Scenario) -> PathBuf {
    format!("{}.md", scenario.id().as_str().replace('.', "/")).into()
}

/// The page of a scenario.
pub fn page(scenario: &Scenario) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_page(scenario, &mut out);
    out
}

/// From a page of an area back to the repository.
const UP: &str = "../../..";

fn passage(citation: &Citation) -> String {
    format!("[{citation}]({UP}/fixtures/documents/{citation})")
}

fn write_page(scenario: &Scenario, out: &mut String) -> std::fmt::Result {
    let (id, metadata) = (scenario.id(), &scenario.metadata);
    writeln!(out, "# {}\n", escaped(&metadata.title))?;
    let source = format!("scenarios/{}.yaml", id.as_str().replace('.', "/"));
    writeln!(
        out,
        "`{id}`, {}, severity {}. Document: {}. Source: [{source}]({UP}/{source}).\n",
        metadata.kind.word(),
        metadata.severity.word(),
        passage(&metadata.docs)
    )?;
    if let Some(description) = &metadata.description {
        writeln!(out, "{}\n", escaped(description))?;
    }
    claims(scenario, out)?;
    writeln!(out, "## What there is\n\n```text\n{}```\n", picture(scenario))?;
    writeln!(out, "## What is done and expected\n")?;
    for (number, phase) in scenario.phases.iter().enumerate() {
        write_phase(number, phase, out)?;
    }
    deviations(scenario, out)?;
    writeln!(out, "## How it is shown to be able to fail\n")?;
    for sabotage in &scenario.sabotage {
        let title = sabotage.title.as_ref().map_or(String::new(), |title| format!("{}; ", escaped(title)));
        writeln!(
            out,
            "- **{}**: {title}{}. Then `{}` has to fail.",
            sabotage.id,
            change(&sabotage.change),
            sabotage.must_fail
        )?;
    }
    writeln!(
        out,
        "\n## Again\n\n```console\n$ cknet run {id}\n$ cknet run {id} --keep    # and look: cknet shell NODE"
    )?;
    writeln!(out, "$ cknet explain {id}\n$ cknet prove {id}\n```")
}

fn claims(scenario: &Scenario, out: &mut String) -> std::fmt::Result {
    if scenario.claims.is_empty() {
        return Ok(());
    }
    writeln!(out, "## Claims\n")?;
    for claim in &scenario.claims {
        writeln!(out, "- **{}**: {} ({})", claim.id, escaped(&claim.text), passage(scenario.citation(claim)))?;
        if let Some(instead) = &claim.instead {
            let reference = claim.reference.as_ref().map_or(String::new(), |reference| format!(" ({reference})"));
            writeln!(out, "  - instead: {}{reference}", escaped(instead))?;
        }
    }
    writeln!(out)
}

/// Segments, the machines on them, and what runs there, as a tree.
fn picture(scenario: &Scenario) -> String {
    let mut out = String::new();
    let cluster = &scenario.cluster;
    let _ = writeln!(
        out,
        "cluster  pods {}, services {}, {}, node address {}",
        cluster.pod_cidr,
        cluster.service_cidr,
        cluster.encapsulation.word(),
        cluster.node_address
    );
    for (name, segment) in scenario.topology.segments.iter() {
        let nodes =
            scenario.topology.nodes.iter().filter(|(_, node)| node.nics.iter().any(|(_, nic)| nic.segment == *name));
        let nodes = nodes.map(|(node, _)| node.as_str()).collect::<Vec<_>>().join(" --- ");
        let mtu = segment.mtu.map_or(String::new(), |mtu| format!(", MTU {mtu}"));
        let _ = writeln!(out, "segment  {name} {}{mtu}:  {nodes}", segment.cidr);
    }
    for (name, node) in scenario.topology.nodes.iter() {
        let _ = writeln!(out, "\n{name} ({})", node.role.word());
        for (nic, place) in node.nics.iter() {
            let _ = writeln!(out, "|-- {nic} {} on {}", place.address, place.segment);
        }
        for (workload, what) in scenario.workloads.iter().filter(|(_, what)| what.node == *name) {
            let ports = what.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let does = if ports.is_empty() { "asks".to_string() } else { format!("listens on {ports}") };
            let labels: Vec<String> =
                what.labels.iter().map(|(key, value)| format!("{}={value}", key.as_str())).collect();
            let labels = if labels.is_empty() { String::new() } else { format!(" [{}]", labels.join(", ")) };
            let _ = writeln!(out, "`-- {}/{workload}{labels} {does}", what.namespace);
        }
    }
    if scenario.services.iter().next().is_some() {
        out.push('\n');
    }
    for (name, service) in scenario.services.iter() {
        let ports: Vec<String> = service.ports.iter().map(|port| port.port.to_string()).collect();
        let _ = writeln!(out, "service  {}/{name} on {}", service.namespace, ports.join(", "));
    }
    out
}

fn write_phase(number: usize, phase: &Phase, out: &mut String) -> std::fmt::Result {
    let title = phase.title.as_ref().map_or(String::new(), |title| format!(": {}", escaped(title)));
    writeln!(out, "### {}. {}{title}\n", number + 1, phase.id)?;
    for step in &phase.steps {
        writeln!(out, "- do: {}", code(&describe(&step.action)))?;
    }
    for expectation in &phase.expect {
        let claim = match (&expectation.claim, &expectation.refutes) {
            (Some(claim), _) => format!(" (claim **{claim}**)"),
            (None, Some(claim)) => format!(" (refutes **{claim}**)"),
            (None, None) => String::new(),
        };
        writeln!(out, "- expect **{}**{claim}: {}", expectation.id, escaped(&expected_in_short(expectation)))?;
        table(expectation, out)?;
    }
    writeln!(out)
}

fn table(expectation: &Expectation, out: &mut String) -> std::fmt::Result {
    let Some(table) = expected_table(expectation) else { return Ok(()) };
    writeln!(out, "\n  ```text")?;
    for line in table.lines() {
        writeln!(out, "  {line}")?;
    }
    writeln!(out, "  ```\n")
}

/// Foreign text as code, whatever is in it.
fn code(text: &str) -> String {
    let line = crate::report::clean::line(text);
    if line.contains('`') { escaped(&line) } else { format!("`{line}`") }
}

fn change(change: &Change) -> String {
    match change {
        Change::IgnoreStep(at) => format!("step {} is left out", at),
        Change::ExtraStep(extra) => {
            let place = match (&extra.before, &extra.after) {
                (Some(phase), _) => format!("before phase `{phase}`"),
                (None, Some(phase)) => format!("after the steps of phase `{phase}`"),
                (None, None) => "at the end".into(),
            };
            format!("one more step {place}: {}", code(&describe(&extra.step.action)))
        }
        Change::Cluster(_) => "the cluster is set up otherwise".into(),
        Change::Topology(_) => "nodes or segments are otherwise".into(),
    }
}

fn deviations(scenario: &Scenario, out: &mut String) -> std::fmt::Result {
    if scenario.expect_failure.is_empty() {
        return Ok(());
    }
    writeln!(out, "## Known not to hold\n")?;
    for deviation in &scenario.expect_failure {
        let whose = match (&deviation.distribution, &deviation.channel) {
            (Some(distribution), Some(channel)) => format!(" on {distribution} {channel}"),
            (Some(distribution), None) => format!(" on {distribution}"),
            (None, Some(channel)) => format!(" on {channel}"),
            (None, None) => String::new(),
        };
        let (reason, reference) = (escaped(&deviation.reason), &deviation.reference);
        writeln!(out, "- `{}`{}: {reason} ({reference})", deviation.expectation, escaped(&whose))?;
    }
    writeln!(out)
}

/// All scenarios by the section of the document that they are about.
pub fn index(scenarios: &[Scenario], documents: &Documents) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_index(scenarios, documents, &mut out);
    out
}

fn write_index(scenarios: &[Scenario], documents: &Documents, out: &mut String) -> std::fmt::Result {
    writeln!(out, "# Scenarios\n")?;
    writeln!(
        out,
        "{} scenarios, by the section of the document that they are about. How such a file is written: [scenario-format.md](../scenario-format.md).\n",
        scenarios.len()
    )?;
    for (file, document) in documents {
        for section in &document.sections {
            let level = "#".repeat((section.level + 1).min(6));
            writeln!(out, "{level} {}\n", escaped(&section.title))?;
            let passage = format!("{file}#{}", section.anchor);
            let about = |scenario: &&Scenario| {
                scenario.metadata.docs.to_string() == passage
                    || scenario.claims.iter().any(|claim| scenario.citation(claim).to_string() == passage)
            };
            let mut none = true;
            for scenario in scenarios.iter().filter(about) {
                none = false;
                let link = path(scenario).display().to_string();
                writeln!(out, "- [{}]({link}): {}", scenario.id(), escaped(&scenario.metadata.title))?;
            }
            match document.untestable.get(&section.anchor) {
                Some(why) => writeln!(out, "_Not tested: {}._\n", escaped(why))?,
                None if none && section.has_text => writeln!(out, "_No scenario._\n")?,
                None if none => {}
                None => writeln!(out)?,
            }
        }
    }
    Ok(())
}
