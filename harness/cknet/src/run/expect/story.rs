//! The story of a refuted expectation, as data: what was expected, what was seen how often, and how to see it again.

use super::Subject;
use crate::event::{Control, Endpoint, Expected, Failure, Observed, Seen, Window};
use crate::judge::{Judgement, Verdict};
use crate::run::millis;
use crate::scenario::model::{self, Check, Expectation};

/// Puts everything together that is known about a refuted expectation.
pub fn failure(subject: &Subject<'_>, expectation: &Expectation, judgement: &Judgement) -> Failure {
    let matrix = match &judgement.verdict {
        Verdict::Refuted { seen } => seen.matrix.clone(),
        _ => None,
    };
    let seen: Vec<Seen> =
        judgement.counts.iter().map(|(word, times)| Seen { is: word.clone(), times: *times }).collect();
    let word = seen.first().map_or("unknown", |seen| seen.is.split(' ').next().unwrap_or("unknown"));
    Failure {
        kind: format!("{}.{word}", kind(&expectation.check)),
        expected: expected(subject, expectation),
        observed: Observed {
            seen,
            over_ms: millis(judgement.watched),
            last_ago_ms: None,
            controls: controls(subject, expectation),
        },
        lost_at: None,
        matrix,
        again: Some(format!("cknet run {} --keep", subject.stage.scenario.id())),
        shell: node_of(subject, expectation).map(|node| format!("cknet shell {node}")),
        evidence: Vec::new(),
    }
}

/// The key by which the scenario file names this kind of expectation.
fn kind(check: &Check) -> &'static str {
    match check {
        Check::Connectivity(_) => "connectivity",
        Check::Matrix(_) => "matrix",
        Check::Nodes(_) => "nodes",
        Check::Resource(_) => "resource",
        Check::Routes(_) => "routes",
        Check::Links(_) => "links",
        Check::Addresses(_) => "addresses",
        Check::Listening(_) => "listening",
        Check::Service(_) => "service",
        Check::Dns(_) => "dns",
    }
}

fn expected(subject: &Subject<'_>, expectation: &Expectation) -> Expected {
    let window = Window {
        within_ms: expectation.within.map(|wait| millis(wait.duration())),
        for_ms: expectation.hold.map(|wait| millis(wait.duration())),
    };
    let state = |subject: String, is: String| Expected::State { subject, is, window };
    match &expectation.check {
        Check::Connectivity(flow) => Expected::Flow {
            from: end(subject, &flow.from),
            to: end(subject, &flow.to),
            port: flow.port.to_string(),
            is: flow.is.word().to_string(),
            window,
        },
        Check::Matrix(_) => state("flows".into(), "as the table says".into()),
        Check::Nodes(states) => state("nodes".into(), describe_states(states)),
        Check::Resource(resource) => {
            let which = resource.name.clone().or_else(|| resource.selector.as_ref().map(|all| all.as_str().to_string()));
            let wanted = match (&resource.matches, resource.count) {
                (Some(matches), _) => matches.written().to_string(),
                (None, Some(count)) => format!("{count} of them"),
                (None, None) => "there".into(),
            };
            state(format!("{} {}", resource.kind, which.unwrap_or_default()), wanted)
        }
        Check::Routes(route) => {
            let mut wanted = route.destination.to_string();
            if let Some(via) = &route.via {
                wanted.push_str(&format!(" via {via}"));
            }
            if let Some(device) = &route.dev {
                wanted.push_str(&format!(" dev {device}"));
            }
            let is = if route.present { wanted } else { format!("no {wanted}") };
            state(format!("route of {}", route.node), is)
        }
        Check::Links(link) => {
            let is = if link.present { "as described".to_string() } else { "absent".to_string() };
            state(format!("device {} of {}", link.device, link.node), is)
        }
        Check::Addresses(addresses) => {
            state(format!("addresses of {}", addresses.of), format!("inside {}", addresses.within))
        }
        Check::Listening(port) => state(format!("port {} of {}", port.port, port.at), port.is.word().to_string()),
        Check::Service(service) => {
            state(format!("service {}", service.name), format!("reachable on {}", service.port))
        }
        Check::Dns(query) => {
            let is = if query.nxdomain { "no such name".to_string() } else { "answered".to_string() };
            state(format!("name {} from {}", query.name, query.from), is)
        }
    }
}

fn describe_states(states: &model::NodeStates) -> String {
    let named = states.named.iter().map(|(node, state)| format!("{node} {}", state.word()));
    let all = states.all.iter().map(|state| format!("all {}", state.word()));
    all.chain(named).collect::<Vec<_>>().join(", ")
}

fn end(subject: &Subject<'_>, end: &model::Endpoint) -> Endpoint {
    let stage = subject.stage;
    match end {
        model::Endpoint::Workload(name) => {
            let pod = stage.placed.pods.get(name);
            Endpoint {
                name: name.to_string(),
                node: pod.map(|pod| pod.node.clone()),
                address: pod.map(|pod| pod.address.to_string()),
            }
        }
        model::Endpoint::Node(name) => Endpoint {
            name: end.to_string(),
            node: None,
            address: stage.scenario.topology.address(name).map(|address| address.to_string()),
        },
        other => Endpoint { name: other.to_string(), node: None, address: None },
    }
}

/// The flows of the same phase that were expected to get through: they tell a refusal from an outage.
fn controls(subject: &Subject<'_>, failed: &Expectation) -> Vec<Control> {
    let flows = subject.phase.expect.iter().filter_map(|expectation| match &expectation.check {
        Check::Connectivity(flow) if flow.is == model::Outcome::Allowed && expectation.id != failed.id => {
            Some(Control { name: expectation.id.to_string(), is: "judged on its own".into() })
        }
        _ => None,
    });
    flows.collect()
}

/// Where to look first.
fn node_of(subject: &Subject<'_>, expectation: &Expectation) -> Option<String> {
    let of_end = |end: &model::Endpoint| match end {
        model::Endpoint::Workload(name) => subject.stage.placed.pods.get(name).map(|pod| pod.node.clone()),
        model::Endpoint::Node(name) => Some(name.to_string()),
        _ => None,
    };
    match &expectation.check {
        Check::Connectivity(flow) => of_end(&flow.to).or_else(|| of_end(&flow.from)),
        Check::Routes(route) => Some(route.node.to_string()),
        Check::Links(link) => Some(link.node.to_string()),
        Check::Addresses(addresses) => of_end(&addresses.of),
        Check::Listening(listening) => of_end(&listening.at),
        Check::Dns(query) => of_end(&query.from),
        _ => subject.stage.scenario.topology.nodes.names().next().map(ToString::to_string),
    }
}
