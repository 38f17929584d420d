//! The opposite of an expectation: what was allowed is expected to be denied, and what did not arrive to arrive. Each
//! opposite has to be refuted by the same world in which the expectation has just held, over the same way of looking.

use std::time::{Duration, Instant};

use super::{LOOK, LOOK_AGAIN, Subject, look};
use crate::event::{Flip, FlipsJudged};
use crate::judge::{Verdict, Watch};
use crate::run::cases::case;
use crate::scenario::model::{
    Check, ConnectionState, Connectivity, Ear, Expectation, Matrix, NodeState, NodeStates, Outcome,
};

/// An opposite counts as holding when it holds for so long; one lost packet does not make one.
const HOLDS: Duration = Duration::from_millis(100);

/// Looks at the opposite of an expectation that has just held, and tells what came of it. The cells of a matrix are
/// looked at together and judged one by one.
pub async fn judge(subject: &Subject<'_>, expectation: &Expectation) {
    let Some(opposite) = opposite(&expectation.check) else { return };
    let started = Instant::now();
    let mut watch = Watch::new(None, Some(HOLDS));
    let verdict = loop {
        let begun = started.elapsed();
        let look = tokio::select! {
            look = tokio::time::timeout(LOOK, look(subject, &opposite)) => look,
            () = subject.stage.run.stop.cancelled() => return,
        };
        let look = look.unwrap_or_else(|_| crate::judge::Look::Inconclusive("a look was not done in time".into()));
        if let Some(judgement) = watch.see(look, begun) {
            break judgement.verdict;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    };
    let case = case(subject.stage.scenario, subject.phase, expectation);
    let (flips, doubt) = match verdict {
        Verdict::Holds { .. } => (flips(&opposite, |_, _| false), None),
        Verdict::Inconclusive { why } => (Vec::new(), Some(why)),
        Verdict::Refuted { seen } => {
            let wrong = |row: usize, column: usize| match &seen.matrix {
                Some(table) => {
                    table.rows.get(row).and_then(|row| row.cells.get(column)).is_some_and(|cell| cell.is_wrong())
                }
                None => true,
            };
            (flips(&opposite, wrong), None)
        }
    };
    subject.stage.run.sink.tell(FlipsJudged { case, flips, doubt });
}

/// Everything that was turned into its opposite, and whether that was refuted.
fn flips(opposite: &Check, refuted: impl Fn(usize, usize) -> bool) -> Vec<Flip> {
    let one = |subject: String, expected: &str| {
        vec![Flip { subject, expected: expected.to_string(), refuted: refuted(0, 0) }]
    };
    match opposite {
        Check::Matrix(matrix) => matrix
            .flows()
            .map(|cell| Flip {
                subject: format!("{} -> {} {}", cell.from, cell.to, cell.port),
                expected: cell.is.word().to_string(),
                refuted: refuted(cell.row, cell.column),
            })
            .collect(),
        Check::Connectivity(flow) => one(format!("{} -> {} {}", flow.from, flow.to, flow.port), flow.is.word()),
        Check::Listening(port) => one(format!("port {} of {}", port.port, port.at), port.is.word()),
        Check::Connection(connection) => one(format!("connection {}", connection.name), connection.state.word()),
        Check::Ping(ping) => one(format!("echo request {} -> {}", ping.from, ping.to), ping.is.word()),
        Check::Nodes(_) => one("nodes".into(), "each otherwise"),
        Check::Routes(route) => one(format!("route of {}", route.node), if route.present { "there" } else { "absent" }),
        Check::Links(link) => {
            one(format!("device {} of {}", link.device, link.node), if link.present { "there" } else { "absent" })
        }
        _ => Vec::new(),
    }
}

/// The opposite of what is expected, where it has one.
fn opposite(check: &Check) -> Option<Check> {
    match check {
        // Whose address the target sees is a further demand, and no part of the opposite.
        Check::Connectivity(flow) => {
            Some(Check::Connectivity(Connectivity { is: turned(flow.is), source_address: None, ..flow.clone() }))
        }
        Check::Matrix(matrix) => {
            let row = |row: &Vec<Option<Outcome>>| row.iter().map(|cell| cell.map(turned)).collect();
            Some(Check::Matrix(Matrix { cells: matrix.cells.iter().map(row).collect(), ..matrix.clone() }))
        }
        Check::Connection(connection) => {
            let open = connection.state == ConnectionState::Open;
            let state = if open { ConnectionState::Broken } else { ConnectionState::Open };
            Some(Check::Connection(crate::scenario::model::Connection { state, ..connection.clone() }))
        }
        Check::Ping(ping) => Some(Check::Ping(crate::scenario::model::Ping { is: turned(ping.is), ..ping.clone() })),
        Check::Listening(port) => {
            let is = if port.is == Ear::Open { Ear::Closed } else { Ear::Open };
            Some(Check::Listening(crate::scenario::model::Listening { is, ..port.clone() }))
        }
        Check::Nodes(states) => {
            let turned = |state: NodeState| match state {
                NodeState::Ready => NodeState::NotReady,
                NodeState::NotReady => NodeState::Ready,
            };
            let named = states.named.iter().map(|(node, state)| (node.clone(), turned(*state))).collect();
            Some(Check::Nodes(NodeStates { all: states.all.map(turned), named }))
        }
        Check::Routes(route) => {
            Some(Check::Routes(crate::scenario::model::Route { present: !route.present, ..route.clone() }))
        }
        Check::Links(link) => {
            Some(Check::Links(crate::scenario::model::Link { present: !link.present, ..link.clone() }))
        }
        // What else there might be instead is not told by what is expected.
        _ => None,
    }
}

/// What a flow would have to come to for the expectation to be wrong. `denied` is the wider of the two words for not
/// getting through, so that it is the harder one to refute.
fn turned(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Allowed => Outcome::Denied,
        Outcome::Dropped | Outcome::Rejected | Outcome::Denied | Outcome::Closed | Outcome::Unreachable => {
            Outcome::Allowed
        }
    }
}
