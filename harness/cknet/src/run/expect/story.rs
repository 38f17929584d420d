//! The story of a refuted expectation, as data: what was expected, what was seen how often, what the rules say of it,
//! where packets got lost, and how to see it again.
//!
//! After the verdict its flows and those of its control group are sent once more. That adds to the story and never
//! changes the verdict.

use std::time::Duration;

use super::diagnosis::{self, Findings, Named, What};
use super::{Subject, flows, output};
use crate::event::{Control, Endpoint, Expected, Failure, Matrix, Observed, Seen, Window};
use crate::judge::{Judgement, Verdict};
use crate::plan::Purpose;
use crate::predict::Predictor;
use crate::run::millis;
use crate::scenario::model::{self, Check, Expectation, Outcome, Via};

/// Longest time for finding the hop.
const SECOND_LOOK: Duration = Duration::from_secs(3);

/// Longest time for the flows that should get through.
const FLOWS: Duration = Duration::from_secs(1);

/// More rules than these follow from the same cause, as a rule.
const RULES_SHOWN: usize = 6;

/// Puts everything together that is known about a refuted expectation.
pub async fn failure(subject: &Subject<'_>, expectation: &Expectation, judgement: &Judgement) -> Failure {
    let matrix = match &judgement.verdict {
        Verdict::Refuted { seen } => seen.matrix.clone(),
        _ => None,
    };
    let seen: Vec<Seen> =
        judgement.counts.iter().map(|(word, times)| Seen { is: word.clone(), times: *times }).collect();
    let (controls, findings) = match subject.stage.purpose {
        // Nobody wonders where the packets went.
        Purpose::Sabotage(_) | Purpose::Flip => Default::default(),
        Purpose::Judge => second_look(subject, expectation, judgement, matrix.as_ref()).await,
    };
    let word = seen.first().map_or("unknown", |seen| seen.is.split(' ').next().unwrap_or("unknown"));
    Failure {
        kind: format!("{}.{word}", kind(&expectation.check)),
        expected: expected(subject, expectation),
        observed: Observed { seen, over_ms: millis(judgement.watched), last_ago_ms: None, controls },
        lost_at: findings.lost_at,
        cause: findings.cause,
        advice: findings.advice,
        rules: rules(subject, expectation, matrix.as_ref()),
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
        Check::Command(_) => "command",
        Check::Log(_) => "log",
        Check::Refused(_) => "refused",
        Check::PathMtu(_) => "pathMtu",
        Check::Wire(_) => "wire",
        Check::Connection(_) => "connection",
        Check::Ping(_) => "ping",
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
            let which =
                resource.name.clone().or_else(|| resource.selector.as_ref().map(|all| all.as_str().to_string()));
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
        Check::Service(service) => state(format!("service {}", service.name), format!("reachable on {}", service.port)),
        Check::PathMtu(path) => {
            state(format!("packets {} -> {}", path.from, path.to), format!("at most {} bytes", path.is))
        }
        Check::Dns(query) => {
            let is = match (query.nxdomain, query.unanswered) {
                (true, _) => "no such name",
                (_, true) => "no answer",
                _ => "answered",
            };
            state(format!("name {} from {}", query.name, query.from), is.to_string())
        }
        Check::Refused(refused) => {
            let subject = format!("{} {}", refused.object.kind(), refused.object.name());
            state(subject, format!("refused for {}", refused.fields.join(", ")))
        }
        Check::Command(command) => state(format!("command at {}", command.at), output::command(command)),
        Check::Log(log) => state(format!("log of {}", log.of), output::log(log)),
        Check::Connection(connection) => {
            state(format!("connection {}", connection.name), connection.state.word().to_string())
        }
        Check::Ping(ping) => state(format!("echo request {} -> {}", ping.from, ping.to), ping.is.word().to_string()),
        Check::Wire(wire) => state(format!("{} -> {} {} on {}", wire.from, wire.to, wire.port, wire.on), wire.look()),
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

/// Finds where flows were lost or why they were not, and sends those of the phase that should get through once more:
/// they tell a refusal from an outage.
async fn second_look(
    subject: &Subject<'_>,
    failed: &Expectation,
    judgement: &Judgement,
    matrix: Option<&Matrix>,
) -> (Vec<Control>, Findings) {
    let lost = unlike(
        failed,
        judgement,
        matrix,
        &[Outcome::Dropped, Outcome::Rejected, Outcome::Unreachable, Outcome::Closed],
    );
    let arrived = unlike(failed, judgement, matrix, &[Outcome::Allowed]);
    let controls = async { tokio::time::timeout(FLOWS, controls(subject, failed)).await.unwrap_or_default() };
    let find = async {
        let found = async {
            match (lost.as_slice(), arrived.as_slice()) {
                ([], []) => Findings::default(),
                ([], arrived) => diagnosis::of_arrived(subject.stage, arrived).await,
                (lost, _) => diagnosis::of_lost(subject.stage, lost).await,
            }
        };
        tokio::time::timeout(SECOND_LOOK, found).await.unwrap_or_default()
    };
    tokio::join!(controls, find)
}

/// The flows of a failed expectation that came to one of these outcomes instead.
fn unlike<'a>(
    failed: &'a Expectation,
    judgement: &Judgement,
    matrix: Option<&Matrix>,
    outcomes: &[Outcome],
) -> Vec<Named<'a>> {
    let is_one = |text: &str| outcomes.iter().any(|outcome| text.split(' ').next() == Some(outcome.word()));
    let seen = match &judgement.verdict {
        Verdict::Refuted { seen } => seen.word.as_str(),
        _ => "",
    };
    match &failed.check {
        Check::Connectivity(flow) if is_one(seen) => vec![named(flow)],
        Check::Matrix(table) => {
            let cells = table.flows().filter(|cell| {
                let seen = matrix.and_then(|matrix| matrix.rows.get(cell.row)?.cells.get(cell.column));
                seen.is_some_and(|seen| seen.is_wrong() && seen.observed.as_deref().is_some_and(is_one))
            });
            cells
                .map(|cell| Named { from: cell.from, to: cell.to, what: What::Port(cell.port), via: &table.via })
                .collect()
        }
        Check::PathMtu(path) if outcomes.contains(&Outcome::Dropped) => {
            vec![Named { from: &path.from, to: &path.to, what: What::Bytes(path.is.get()), via: &Via::Pod }]
        }
        _ => Vec::new(),
    }
}

fn named(flow: &model::Connectivity) -> Named<'_> {
    Named { from: &flow.from, to: &flow.to, what: What::Port(flow.port), via: &flow.via }
}

/// What became of each of some flows, all sent at the same time.
async fn send(subject: &Subject<'_>, named: &[Named<'_>]) -> Result<Vec<String>, String> {
    let ready = named.iter().filter_map(|flow| match flow.what {
        What::Port(port) => Some(flows::flow(subject.stage, flow.from, flow.to, port, flow.via)),
        What::Bytes(_) => None,
    });
    let ready = futures::future::try_join_all(ready).await?;
    let seen = flows::ask(subject.stage, ready.iter().map(|flow| flow.question.clone()).collect()).await?;
    let word = |(flow, seen)| match flows::outcome(flow, seen) {
        Ok(Ok(outcome)) => outcome.word().to_string(),
        Ok(Err(other)) => other,
        Err(why) => format!("not known: {why}"),
    };
    Ok(ready.iter().zip(&seen).map(word).collect())
}

/// What the flows of the same phase do that are expected to get through.
async fn controls(subject: &Subject<'_>, failed: &Expectation) -> Vec<Control> {
    let others = subject.phase.expect.iter().filter(|expectation| expectation.id != failed.id);
    let controls = others.filter_map(|expectation| {
        let flows: Vec<Named<'_>> = match &expectation.check {
            Check::Connectivity(flow) => {
                vec![named(flow)].into_iter().filter(|_| flow.is == Outcome::Allowed).collect()
            }
            Check::Matrix(table) => {
                let allowed = table.flows().filter(|cell| cell.is == Outcome::Allowed);
                allowed
                    .map(|cell| Named { from: cell.from, to: cell.to, what: What::Port(cell.port), via: &table.via })
                    .collect()
            }
            _ => Vec::new(),
        };
        (!flows.is_empty()).then_some((expectation, flows))
    });
    let looked = controls.map(|(expectation, flows)| async move {
        let is = match send(subject, &flows).await {
            Ok(seen) if seen.len() == 1 => seen.concat(),
            Ok(seen) => {
                let through = seen.iter().filter(|word| *word == Outcome::Allowed.word()).count();
                format!("{through} of {} allowed", seen.len())
            }
            Err(why) => format!("not known: {why}"),
        };
        Control { name: expectation.id.to_string(), is }
    });
    futures::future::join_all(looked).await
}

/// What the rules predict for each flow that is not as expected: the rule that should have had another effect, or
/// that nothing forbids what was to be forbidden.
fn rules(subject: &Subject<'_>, failed: &Expectation, matrix: Option<&Matrix>) -> Vec<String> {
    let facts = &subject.stage.facts;
    let predictor = Predictor::after(subject.stage.scenario, &subject.phase.id, &|fact| facts.lookup(fact));
    let foreseen = predictor.foresee(failed).into_iter();
    let wrong: Vec<_> = match &failed.check {
        Check::Matrix(table) => {
            let cells = table.flows().map(|cell| (cell.row, cell.column)).zip(foreseen);
            let is_wrong = |row: usize, column: usize| {
                matrix.and_then(|matrix| matrix.rows.get(row)?.cells.get(column)).is_some_and(|cell| cell.is_wrong())
            };
            cells.filter(|((row, column), _)| is_wrong(*row, *column)).map(|(_, foreseen)| foreseen).collect()
        }
        _ => foreseen.collect(),
    };
    let mut lines: Vec<String> = wrong.iter().map(|flow| format!("{}: {}", flow.flow, flow.because())).collect();
    if lines.len() > RULES_SHOWN {
        let more = lines.len() - RULES_SHOWN;
        lines.truncate(RULES_SHOWN);
        lines.push(format!("and {more} more; all of them: cknet explain {}", subject.stage.scenario.id()));
    }
    lines
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
        Check::Command(command) => of_end(&command.at),
        Check::Log(log) => of_end(&log.of),
        Check::PathMtu(path) => of_end(&path.from),
        Check::Ping(ping) => of_end(&ping.to).or_else(|| of_end(&ping.from)),
        Check::Connection(connection) => subject.stage.held.get(&connection.name).map(|held| held.from.node.clone()),
        Check::Wire(wire) => match &wire.on {
            model::WatchPoint::Device(at) => Some(at.node.to_string()),
            model::WatchPoint::Segment(_) => of_end(&wire.from),
        },
        _ => subject.stage.scenario.topology.nodes.names().next().map(ToString::to_string),
    }
}
