//! Owns the wording of a refuted expectation, for the terminal, JUnit and whatever comes. Every line is built
//! from data; what comes from nodes is cleaned here.

use super::clean;
use super::units::{exact, measured};
use crate::event::{Attachment, Case, Endpoint, Expected, Failure, LostAt, Matrix, MatrixCell, Observed, Window};

/// Where the text of a line begins, after two spaces and the label.
const LABEL_WIDTH: usize = 10;

/// One labelled line of a block; `text` may go on over several lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    pub label: &'static str,
    pub text: String,
}

impl Fact {
    /// A line with foreign text, cleaned.
    pub fn new(label: &'static str, text: impl AsRef<str>) -> Self {
        Self { label, text: clean::text(text.as_ref()) }
    }

    /// The label, filled up to where the text begins.
    pub fn margin(&self) -> String {
        format!("  {:LABEL_WIDTH$}", self.label)
    }

    /// The text, with further lines under the first: none of them can pass for a label.
    pub fn body(&self) -> String {
        self.text.replace('\n', &format!("\n{:1$}", "", LABEL_WIDTH + 2))
    }
}

/// `scenario › phase › expectation   (file:line)`.
pub fn headline(case: &Case) -> String {
    format!("{}   ({})", clean::line(&case.title()), location(case))
}

/// `file:line`.
pub fn location(case: &Case) -> String {
    clean::line(&format!("{}:{}", case.file, case.line))
}

/// The whole block as plain text.
pub fn block(case: &Case, failure: &Failure) -> String {
    let mut block = format!("FAIL {}", headline(case));
    for fact in facts(case, failure) {
        block.push('\n');
        block.push_str(&fact.margin());
        block.push_str(&fact.body());
    }
    block
}

/// The lines of the block below its first.
pub fn facts(case: &Case, failure: &Failure) -> Vec<Fact> {
    let mut facts = Vec::new();
    if let Some(claim) = &case.claim {
        facts.push(Fact::new("claim", format!("{}        {}", claim.text, claim.docs)));
    }
    facts.push(Fact::new("expected", expected(&failure.expected)));
    facts.push(Fact::new("observed", observed(&failure.observed)));
    if let Some(matrix) = &failure.matrix {
        facts.push(Fact { label: "matrix", text: table(matrix) });
    }
    if !failure.rules.is_empty() {
        facts.push(Fact::new("rules", failure.rules.join("\n")));
    }
    if let Some(lost_at) = &failure.lost_at {
        facts.push(Fact::new("lost at", place(lost_at)));
    }
    if let Some(cause) = &failure.cause {
        facts.push(Fact::new("cause", cause));
    }
    if let Some(advice) = &failure.advice {
        facts.push(Fact::new("advice", format!("{}        {}", advice.text, advice.docs)));
    }
    if let Some(commands) = commands(failure) {
        facts.push(commands);
    }
    facts.extend(failure.evidence.iter().map(evidence));
    facts
}

/// Where a file of evidence lies.
pub fn evidence(attachment: &Attachment) -> Fact {
    Fact::new("evidence", attachment.shown())
}

/// The failure in one line, for places that show no more.
pub fn in_short(failure: &Failure) -> String {
    let (subject, is, window) = match &failure.expected {
        Expected::Flow { from, to, port, is, window } => (format!("{} -> {} {port}", from.name, to.name), is, *window),
        Expected::State { subject, is, window } => (subject.clone(), is, *window),
    };
    clean::line(&format!("{subject}: expected {}, observed {}", demand(is, window), sightings(&failure.observed)))
}

fn expected(expected: &Expected) -> String {
    match expected {
        Expected::Flow { from, to, port, is, window } => {
            format!("{} -> {} {port}  {}", endpoint(from), endpoint(to), demand(is, *window))
        }
        Expected::State { subject, is, window } => format!("{subject}  {}", demand(is, *window)),
    }
}

fn endpoint(endpoint: &Endpoint) -> String {
    let known = [&endpoint.node, &endpoint.address];
    let known: Vec<&str> = known.into_iter().flatten().map(String::as_str).collect();
    match known.as_slice() {
        [] => endpoint.name.clone(),
        known => format!("{} ({})", endpoint.name, known.join(", ")),
    }
}

fn demand(is: &str, window: Window) -> String {
    let mut demand = is.to_owned();
    if let Some(within) = window.within_ms {
        demand.push_str(&format!(" within {}", exact(within)));
    }
    if let Some(stays) = window.for_ms {
        demand.push_str(&format!(" for {}", exact(stays)));
    }
    demand
}

fn observed(observed: &Observed) -> String {
    let mut text = sightings(observed);
    if let Some(ago) = observed.last_ago_ms {
        text.push_str(&format!(" (last {} ago)", measured(ago)));
    }
    for control in &observed.controls {
        text.push_str(&format!("; {}: {}", control.name, control.is));
    }
    text
}

fn sightings(observed: &Observed) -> String {
    let seen: Vec<String> = observed
        .seen
        .iter()
        .map(|seen| if seen.times == 1 { seen.is.clone() } else { format!("{} x {}", seen.is, seen.times) })
        .collect();
    let seen = if seen.is_empty() { "nothing".into() } else { seen.join(", ") };
    format!("{seen} over {}", measured(observed.over_ms))
}

fn place(lost_at: &LostAt) -> String {
    let mut text = format!("{} {}", lost_at.node, lost_at.place);
    if lost_at.drops > 0 {
        text.push_str(&format!(": +{} drops", lost_at.drops));
    }
    if let Some(matching) = &lost_at.matching {
        text.push_str(&format!(", {matching}"));
    }
    if let Some(seen) = &lost_at.last_seen {
        let answer = if lost_at.answer { "the answer was " } else { "" };
        text.push_str(&format!("; {answer}last seen {} {} {}", seen.direction, seen.node, seen.device));
    }
    if let Some(next) = &lost_at.next {
        text.push_str(&format!(", not {} {} {}", next.direction, next.node, next.device));
    }
    text
}

fn commands(failure: &Failure) -> Option<Fact> {
    match (&failure.again, &failure.shell) {
        (Some(again), Some(shell)) => Some(Fact::new("again", format!("{again}      shell: {shell}"))),
        (Some(again), None) => Some(Fact::new("again", again)),
        (None, Some(shell)) => Some(Fact::new("shell", shell)),
        (None, None) => None,
    }
}

/// The table of the scenario file with what was seen in it. A wrong cell is marked by its words, so that it is
/// found without colour: `! dropped, not allowed`.
fn table(matrix: &Matrix) -> String {
    let cells = || matrix.rows.iter().flat_map(|row| &row.cells);
    let wrong = cells().filter(|cell| cell.is_wrong()).count();
    let header =
        std::iter::once(String::new()).chain(matrix.columns.iter().map(|column| format!("  {}", clean::line(column))));
    let mut lines = vec![header.collect::<Vec<_>>()];
    for row in &matrix.rows {
        let name = std::iter::once(clean::line(&row.name));
        lines.push(name.chain(row.cells.iter().map(cell)).collect());
    }
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| lines.iter().filter_map(|line| line.get(column)).map(|text| width(text)).max().unwrap_or(0))
        .collect();
    let mut text = format!("{wrong} of {} cells differ", cells().count());
    for line in &lines {
        let padded = line.iter().zip(&widths).map(|(text, wide)| format!("{text}{:1$}", "", wide - width(text)));
        text.push('\n');
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
    }
    text
}

fn cell(cell: &MatrixCell) -> String {
    let observed = cell.observed.as_deref().map_or_else(|| "not seen".to_owned(), clean::line);
    match &cell.expected {
        Some(expected) if cell.is_wrong() => format!("! {observed}, not {}", clean::line(expected)),
        _ => format!("  {observed}"),
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::event::{Advice, Claim, Control, LastSeen, Seen, Severity};

    fn end(name: &str, node: &str, address: &str) -> Endpoint {
        Endpoint { name: name.into(), node: Some(node.into()), address: Some(address.into()) }
    }

    fn vxlan() -> (Case, Failure) {
        let case = Case {
            id: "firewall.vxlan-port-blocked/correct/cross-node-again".into(),
            scenario: "firewall.vxlan-port-blocked".into(),
            phase: "correct".into(),
            expectation: "cross-node-again".into(),
            file: "scenarios/firewall/vxlan-port-blocked.yaml".into(),
            line: 31,
            claim: Some(Claim {
                id: "overlay-port".into(),
                text: "Open UDP 4789 on every node".into(),
                docs: "canonical-kubernetes-networking.md#firewall-configuration".into(),
                ..Claim::default()
            }),
            severity: Severity::Critical,
            owner: None,
        };
        let failure = Failure {
            kind: "connectivity.dropped".into(),
            expected: Expected::Flow {
                from: end("client", "cp1", "10.1.0.12"),
                to: end("server", "w1", "10.1.1.7"),
                port: "8080/tcp".into(),
                is: "allowed".into(),
                window: Window { within_ms: Some(30_000), for_ms: None },
            },
            observed: Observed {
                seen: vec![Seen { is: "dropped".into(), times: 11 }],
                over_ms: 30_010,
                last_ago_ms: Some(400),
                controls: vec![Control { name: "same-node control".into(), is: "allowed".into() }],
            },
            lost_at: Some(LostAt {
                node: "w1".into(),
                place: "inet cknet_firewall input".into(),
                drops: 11,
                matching: Some("udp dport 4789".into()),
                last_seen: Some(LastSeen { direction: "entering".into(), node: "w1".into(), device: "eth0".into() }),
                next: Some(LastSeen { direction: "entering".into(), node: "w1".into(), device: "vxlan.calico".into() }),
                answer: false,
            }),
            cause: Some("a rule in inet cknet_firewall input of w1 ends it: udp dport 4789".into()),
            advice: Some(Advice {
                text: "firewall-cmd --permanent --add-port=4789/udp; firewall-cmd --reload".into(),
                docs: "canonical-kubernetes-networking.md#-correct-open-udp-4789".into(),
            }),
            matrix: None,
            rules: Vec::new(),
            again: Some("cknet run firewall.vxlan-port-blocked --keep".into()),
            shell: Some("cknet shell w1".into()),
            evidence: Vec::new(),
        };
        (case, failure)
    }

    /// The sample of the documentation, letter by letter.
    #[test]
    fn reads_as_documented() {
        let (case, failure) = vxlan();
        let expected = "\
FAIL firewall.vxlan-port-blocked › correct › cross-node-again   (scenarios/firewall/vxlan-port-blocked.yaml:31)
  claim     Open UDP 4789 on every node        canonical-kubernetes-networking.md#firewall-configuration
  expected  client (cp1, 10.1.0.12) -> server (w1, 10.1.1.7) 8080/tcp  allowed within 30 s
  observed  dropped x 11 over 30.0 s (last 0.4 s ago); same-node control: allowed
  lost at   w1 inet cknet_firewall input: +11 drops, udp dport 4789; last seen entering w1 eth0, not entering w1 vxlan.calico
  cause     a rule in inet cknet_firewall input of w1 ends it: udp dport 4789
  advice    firewall-cmd --permanent --add-port=4789/udp; firewall-cmd --reload        canonical-kubernetes-networking.md#-correct-open-udp-4789
  again     cknet run firewall.vxlan-port-blocked --keep      shell: cknet shell w1";
        assert_eq!(block(&case, &failure), expected);
        assert_eq!(
            in_short(&failure),
            "client -> server 8080/tcp: expected allowed within 30 s, observed dropped x 11 over 30.0 s"
        );
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let (mut case, mut failure) = vxlan();
        case.claim = None;
        failure.lost_at = None;
        failure.cause = None;
        failure.advice = None;
        failure.again = None;
        failure.expected = Expected::State {
            subject: "node w1".into(),
            is: "Ready".into(),
            window: Window { within_ms: None, for_ms: Some(1_500) },
        };
        failure.observed = Observed { seen: Vec::new(), over_ms: 0, last_ago_ms: None, controls: Vec::new() };
        let labels: Vec<_> = facts(&case, &failure).into_iter().map(|fact| (fact.label, fact.text)).collect();
        assert_eq!(
            labels,
            [
                ("expected", "node w1  Ready for 1.5 s".into()),
                ("observed", "nothing over 0.0 s".into()),
                ("shell", "cknet shell w1".to_owned()),
            ]
        );
    }

    #[test]
    fn foreign_text_can_forge_no_line() {
        let (mut case, mut failure) = vxlan();
        case.expectation = "x\nFAIL y".into();
        failure.observed.seen[0].is = "dropped\n  claim     \u{1b}[2Jforged".into();
        let block = block(&case, &failure);
        assert!(!block.contains('\u{1b}'));
        assert_eq!(block.lines().filter(|line| line.starts_with("FAIL")).count(), 1);
        assert_eq!(block.lines().filter(|line| line.starts_with("  claim")).count(), 1);
    }

    #[test]
    fn matrix_shows_every_cell_and_marks_the_wrong_ones() {
        let cell = |expected: Option<&str>, observed: Option<&str>| MatrixCell {
            expected: expected.map(Into::into),
            observed: observed.map(Into::into),
        };
        let matrix = Matrix {
            columns: vec!["web:8080".into(), "db:5432".into()],
            rows: vec![
                crate::event::MatrixRow {
                    name: "client".into(),
                    cells: vec![cell(Some("allowed"), Some("dropped")), cell(Some("dropped"), Some("dropped"))],
                },
                crate::event::MatrixRow {
                    name: "migrate".into(),
                    cells: vec![cell(None, Some("allowed")), cell(Some("allowed"), None)],
                },
            ],
        };
        let expected = "\
2 of 4 cells differ
           web:8080                db:5432
client   ! dropped, not allowed    dropped
migrate    allowed               ! not seen, not allowed";
        assert_eq!(table(&matrix), expected);
    }
}
