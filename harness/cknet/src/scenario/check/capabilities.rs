//! Owns the rule that a scenario says what it needs, so that a provider that lacks it can say so
//! before anything is made.
//! Must not know which provider can do what.

use super::super::model::{
    Action, Backend, Capability, Check, Cluster, Endpoint, FirewallEngine, NodeAddress, Object, Protocol, ProxyEngine,
    Step,
};
use super::{Checking, Part};

pub(super) fn check(c: &mut Checking<'_>) {
    let scenario = c.scenario;
    for (phase, steps) in scenario.phases.iter().map(|phase| &phase.steps).enumerate() {
        for (index, step) in steps.iter().enumerate() {
            for capability in of_step(step) {
                need(c, capability, path!["phases", phase, "steps", index]);
            }
        }
    }
    for (phase, expectations) in scenario.phases.iter().map(|phase| &phase.expect).enumerate() {
        for (index, expectation) in expectations.iter().enumerate() {
            let capability = match &expectation.check {
                Check::Dns(_) => Capability::Dns,
                Check::Command(command) if matches!(command.at, Endpoint::Node(_)) => Capability::NodeCommands,
                _ => continue,
            };
            need(c, capability, path!["phases", phase, "expect", index, expectation.check.kind()]);
        }
    }
    for (name, node) in scenario.topology.nodes.iter() {
        if node.nics.len() > 1 {
            need(c, Capability::NodeInterfaces, path!["topology", "nodes", name.as_str(), "nics"]);
        }
    }
    if !scenario.services.is_empty() {
        need(c, Capability::Services, path!["services"]);
    }
    for (name, workload) in scenario.workloads.iter() {
        if let Some(index) = workload.listen.iter().position(|port| port.protocol == Protocol::Sctp) {
            need(c, Capability::Sctp, path!["workloads", name.as_str(), "listen", index]);
        }
    }
    if scenario.cluster.backend() == Backend::Bird {
        need(c, Capability::Bgp, path!["cluster"]);
    }
    let premises = c.fixtures.premises.as_ref();
    let (chosen, theirs) = (&scenario.cluster.node_address, premises.map(|premises| &premises.cluster.node_address));
    if *chosen != NodeAddress::default() && Some(chosen) != theirs {
        need(c, Capability::Calico, path!["cluster"]);
    }
    let usual = premises.map_or_else(Cluster::default, |premises| premises.cluster.clone());
    if scenario.cluster.pod_cidr != usual.pod_cidr || scenario.cluster.service_cidr != usual.service_cidr {
        need(c, Capability::CustomCidrs, path!["cluster"]);
    }
}

/// Whether a group is one of Calico's: `crd.projectcalico.org/v1`, `projectcalico.org/v3`.
fn is_calicos(api_version: &str) -> bool {
    api_version.split('/').next().is_some_and(|group| group.ends_with("projectcalico.org"))
}

fn of_step(step: &Step) -> Vec<Capability> {
    match &step.action {
        Action::Firewall(_) => vec![Capability::NodeFirewall],
        Action::Firewalld(firewalld) if firewalld.engine == FirewallEngine::Firewalld => {
            vec![Capability::NodeFirewall, Capability::Firewalld]
        }
        Action::Firewalld(_) => vec![Capability::NodeFirewall],
        Action::Bird(_) => vec![Capability::Bgp],
        Action::Proxy(proxy) => match proxy.engine {
            ProxyEngine::Tinyproxy => vec![Capability::NodeCommands, Capability::Tinyproxy],
            ProxyEngine::Squid => vec![Capability::NodeCommands, Capability::Squid],
            ProxyEngine::Any | ProxyEngine::BuiltIn => vec![Capability::NodeCommands],
        },
        Action::Link(_) | Action::Route(_) | Action::Fdb(_) => vec![Capability::NodeLinks],
        Action::InstallCni(_) | Action::NodeRun(_) | Action::ProxySettings(_) | Action::Registry(_) => {
            vec![Capability::NodeCommands]
        }
        Action::StopComponent(_) | Action::StartComponent(_) => vec![Capability::ComponentControl],
        Action::Apply(manifest) => {
            let any = |wanted: fn(&Object) -> bool| manifest.objects.iter().any(wanted);
            let policies = any(|object| object.kind() == "NetworkPolicy").then_some(Capability::NetworkPolicy);
            let calicos = any(|object| is_calicos(object.api_version())).then_some(Capability::Calico);
            policies.into_iter().chain(calicos).collect()
        }
        Action::Delete(manifest) if manifest.objects.iter().any(|object| is_calicos(object.api_version())) => {
            vec![Capability::Calico]
        }
        Action::Patch(patch) if is_calicos(&patch.api_version) => vec![Capability::Calico],
        Action::Patch(_) | Action::Delete(_) | Action::Connect(_) | Action::Label(_) | Action::Workload(_) => {
            Vec::new()
        }
    }
}

fn need(c: &mut Checking<'_>, capability: Capability, path: &[Part<'_>]) {
    if !c.scenario.requires.capabilities.contains(&capability) {
        let message = format!("this needs the capability `{capability}`; add it to `requires.capabilities`");
        c.problem_with_key(path, message);
    }
}
