//! Owns the rule that silence proves nothing by itself: where a flow is expected not to arrive,
//! the same phase expects one that does, from the same source or to the same target.
//! Must not know how flows are probed.

use super::super::model::{Check, Endpoint, Outcome, Phase};
use super::super::problem::Problem;
use super::super::source::Span;
use super::Checking;

struct Flow {
    from: Endpoint,
    /// Nothing is the cluster's name server.
    to: Option<Endpoint>,
    is: Outcome,
    /// Where a table's row stands, or the `is` of a single flow.
    span: Span,
}

pub(super) fn check(c: &mut Checking<'_>) {
    let scenario = c.scenario;
    for (index, phase) in scenario.phases.iter().enumerate() {
        let flows = flows(c, index, phase);
        let mut told: Vec<Span> = Vec::new();
        for flow in flows.iter().filter(|flow| flow.is.is_negative()) {
            let controlled = flows
                .iter()
                .any(|other| other.is == Outcome::Allowed && (other.from == flow.from || other.to == flow.to));
            if !controlled && !told.contains(&flow.span) {
                let to = flow.to.as_ref().map_or_else(|| "the name server".to_owned(), |to| format!("`{to}`"));
                let message = format!(
                    "nothing in this phase shows that a probe gets through; expect a flow from `{}` or to {to} that is `allowed`",
                    flow.from
                );
                c.problems.push(Problem::at(flow.span, message));
                told.push(flow.span);
            }
        }
    }
}

fn flows(c: &Checking<'_>, phase_index: usize, phase: &Phase) -> Vec<Flow> {
    let mut flows = Vec::new();
    for (index, expectation) in phase.expect.iter().enumerate() {
        match &expectation.check {
            Check::Connectivity(flow) => flows.push(Flow {
                from: flow.from.clone(),
                to: Some(flow.to.clone()),
                is: flow.is,
                span: super::place(&c.file.tree, path!["phases", phase_index, "expect", index, "connectivity", "is"]),
            }),
            Check::Matrix(matrix) => flows.extend(matrix.flows().map(|cell| Flow {
                from: cell.from.clone(),
                to: Some(cell.to.clone()),
                is: cell.is,
                span: row(c, matrix.lines[cell.row]),
            })),
            Check::Service(service) => flows.extend(service.reachable_from.iter().map(|from| Flow {
                from: from.clone(),
                to: Some(Endpoint::Service(service.name.clone())),
                is: Outcome::Allowed,
                span: Span::default(),
            })),
            Check::Ping(ping) => flows.push(Flow {
                from: ping.from.clone(),
                to: Some(ping.to.clone()),
                is: ping.is,
                span: super::place(&c.file.tree, path!["phases", phase_index, "expect", index, "ping", "is"]),
            }),
            Check::Connection(connection) => {
                let opened = super::connections::opened(c.scenario, phase_index, &connection.name);
                flows.extend(opened.map(|connect| Flow {
                    from: connect.from.clone(),
                    to: Some(connect.to.clone()),
                    is: if connection.state.is_negative() { Outcome::Dropped } else { Outcome::Allowed },
                    span: super::place(
                        &c.file.tree,
                        path!["phases", phase_index, "expect", index, "connection", "state"],
                    ),
                }));
            }
            Check::Dns(dns) => flows.push(Flow {
                from: dns.from.clone(),
                to: None,
                is: if dns.unanswered { Outcome::Dropped } else { Outcome::Allowed },
                span: super::place(&c.file.tree, path!["phases", phase_index, "expect", index, "dns", "unanswered"]),
            }),
            _ => {}
        }
    }
    flows
}

/// The text of a line without the white space around it.
fn row(c: &Checking<'_>, line: usize) -> Span {
    let text = c.file.source.line(line);
    let start = c.file.source.line_start(line) + (text.len() - text.trim_start().len());
    Span::new(start, start + text.trim().len())
}
