//! Owns whether a reference that the run fills in can be filled in where it stands.
//! Must not know its value.

use super::super::late::{Late, LateFact, Text};
use super::super::model::{Action, Check, LinkState, Step, WorkloadName};
use super::super::problem::Problem;
use super::super::source::Span;
use super::{Checking, Part};

/// The late facts of the texts of a step.
pub(super) fn of_step(step: &Step) -> Vec<&LateFact> {
    let texts: Vec<&Text> = match &step.action {
        Action::Apply(manifest) | Action::Delete(manifest) => {
            manifest.objects.iter().flat_map(|object| object.json().late_texts()).collect()
        }
        Action::Patch(patch) => patch.patch.late_texts().collect(),
        Action::NodeRun(run) => run.argv.iter().collect(),
        Action::Bird(bird) => vec![&bird.config],
        Action::Firewalld(firewalld) => firewalld.commands.iter().collect(),
        Action::Route(change) => {
            text(&change.destination).into_iter().chain(change.via.as_ref().and_then(text)).chain(&change.dev).collect()
        }
        Action::Fdb(change) => text(&change.leading_to).into_iter().chain(change.to.as_ref().and_then(text)).collect(),
        Action::InstallCni(install) => {
            install.config.iter().flat_map(|config| config.late_texts()).chain(&install.text).collect()
        }
        Action::Link(change) => match &change.change {
            LinkState::Add(new) => new.remote.iter().filter_map(text).collect(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    };
    texts.into_iter().flat_map(Text::late_facts).collect()
}

/// The late facts of the texts of an expectation.
pub(super) fn of_check(check: &Check) -> Vec<&LateFact> {
    let texts: Vec<&Text> = match check {
        Check::Resource(resource) => resource.matches.iter().flat_map(|matches| matches.late_texts()).collect(),
        Check::Routes(route) => {
            let hop = route.via.as_ref().and_then(text);
            text(&route.destination).into_iter().chain(hop).chain(&route.dev).collect()
        }
        Check::Command(command) => command.argv.iter().chain(&command.prints).collect(),
        Check::Log(log) => log.has.iter().collect(),
        Check::Refused(refused) => refused.object.json().late_texts().collect(),
        Check::Wire(wire) => [&wire.outer_from, &wire.outer_to].into_iter().flatten().filter_map(text).collect(),
        Check::Dns(dns) => dns.answers.iter().filter_map(text).chain([&dns.name]).collect(),
        _ => Vec::new(),
    };
    texts.into_iter().flat_map(Text::late_facts).collect()
}

const fn text<T>(late: &Late<T>) -> Option<&Text> {
    match late {
        Late::Known(_) => None,
        Late::AtRun(text) => Some(text),
    }
}

/// Tells of each fact that there is nobody to ask for at this point.
pub(super) fn check(c: &mut Checking<'_>, facts: &[&LateFact], alive: &[WorkloadName], path: &[Part<'_>]) {
    for fact in facts {
        let why = match fact {
            LateFact::WorkloadIp(name) if !alive.contains(name) => {
                format!("there is no workload `{name}` at this point")
            }
            LateFact::ServiceClusterIp(name)
                if c.scenario.services.get(name).is_some_and(|service| service.headless) =>
            {
                format!("service `{name}` is headless")
            }
            LateFact::NodeTunnelAddress(name) | LateFact::NodePodBlock(name)
                if !c.scenario.topology.is_member(name) =>
            {
                format!("`{name}` is no member of the cluster")
            }
            _ => continue,
        };
        let span = written(c, fact, path);
        let message = format!("`{fact}` has no meaning here: {why}");
        c.problems.push(Problem::at(span, message));
    }
}

/// Where the reference itself stands in the value at the end of the path.
fn written(c: &Checking<'_>, fact: &LateFact, path: &[Part<'_>]) -> Span {
    let whole = super::node_at(&c.file.tree, path).span;
    let reference = fact.to_string();
    let text = c.file.source.text().get(whole.start..whole.end).unwrap_or_default();
    text.find(&reference).map_or_else(
        || super::place(&c.file.tree, path),
        |at| Span::new(whole.start + at, whole.start + at + reference.len()),
    )
}
