//! A small run with every outcome: what the reporters are tested with.

use cknet::event::*;
use jiff::{SignedDuration, Timestamp};

/// The case `scenario/phase/expectation` at the given line.
fn case(scenario: &str, phase: &str, expectation: &str, line: u32) -> Case {
    let file = format!("scenarios/{}.yaml", scenario.replace('.', "/"));
    Case {
        id: format!("{scenario}/{phase}/{expectation}").into(),
        scenario: scenario.into(),
        phase: phase.into(),
        expectation: expectation.into(),
        file,
        line,
        claim: None,
        severity: Severity::Medium,
        owner: None,
    }
}

fn with_claim(mut case: Case, id: &str, text: &str, anchor: &str) -> Case {
    let docs = format!("canonical-kubernetes-networking.md#{anchor}");
    case.claim = Some(Claim { id: id.into(), text: text.into(), docs, ..Claim::default() });
    case.severity = Severity::Critical;
    case.owner = Some("networking".into());
    case
}

fn overlay(phase: &str, expectation: &str, line: u32) -> Case {
    let case = case("firewall.vxlan-port-blocked", phase, expectation, line);
    with_claim(case, "overlay-port", "Open UDP 4789 on every node", "firewall-configuration")
}

fn matrix_case() -> Case {
    let case = case("policy.deny-ingress", "applied", "table", 40);
    with_claim(case, "default-deny", "A policy without rules denies all ingress", "network-policy")
}

pub fn planned() -> Vec<PlannedScenario> {
    let scenario = |title: &str, cases: Vec<Case>| PlannedScenario {
        id: cases[0].scenario.clone(),
        title: title.into(),
        file: cases[0].file.clone(),
        cases,
    };
    vec![
        scenario(
            "A host firewall that drops the overlay port",
            vec![
                overlay("wrong", "cross-node", 22),
                case("firewall.vxlan-port-blocked", "wrong", "control", 23),
                overlay("correct", "cross-node-again", 31),
            ],
        ),
        scenario(
            "Deny all ingress",
            vec![
                matrix_case(),
                case("policy.deny-ingress", "applied", "late", 41),
                case("policy.deny-ingress", "applied", "known", 42),
                case("policy.deny-ingress", "applied", "mended", 43),
            ],
        ),
        scenario("Names over IPv6", vec![case("dns.ipv6", "plain", "aaaa", 12), case("dns.ipv6", "plain", "ptr", 13)]),
        scenario(
            "A service without endpoints",
            vec![case("services.empty", "plain", "refused", 9), case("services.empty", "plain", "again", 10)],
        ),
        scenario(
            "A node port from outside",
            vec![case("services.node-port", "plain", "outside", 15), case("services.node-port", "plain", "inside", 16)],
        ),
    ]
}

fn endpoint(name: &str, node: &str, address: &str) -> Endpoint {
    Endpoint { name: name.into(), node: Some(node.into()), address: Some(address.into()) }
}

fn dropped(times: u32, over_ms: u64) -> Observed {
    Observed {
        seen: vec![Seen { is: "dropped".into(), times }],
        over_ms,
        last_ago_ms: Some(400),
        controls: vec![Control { name: "same-node control".into(), is: "allowed".into() }],
    }
}

pub fn flow_failure() -> Failure {
    Failure {
        kind: "connectivity.dropped".into(),
        expected: Expected::Flow {
            from: endpoint("client", "cp1", "10.1.0.12"),
            to: endpoint("server", "w1", "10.1.1.7"),
            port: "8080/tcp".into(),
            is: "allowed".into(),
            window: Window { within_ms: Some(30_000), for_ms: None },
        },
        observed: dropped(11, 30_010),
        lost_at: Some(LostAt {
            node: "w1".into(),
            place: "inet cknet_firewall input".into(),
            drops: 11,
            matching: Some("udp dport 4789".into()),
            last_seen: Some(LastSeen { direction: "leaving".into(), node: "cp1".into(), device: "eth0".into() }),
            next: None,
            answer: false,
        }),
        cause: None,
        advice: None,
        matrix: None,
        rules: Vec::new(),
        again: Some("cknet run firewall.vxlan-port-blocked --keep".into()),
        shell: Some("cknet shell w1".into()),
        evidence: vec![Attachment { path: "artifacts/vxlan.pcap".into(), label: "pcap".into() }],
    }
}

fn matrix_failure() -> Failure {
    let cell = |expected: &str, observed: &str| MatrixCell {
        expected: Some(expected.into()),
        observed: Some(observed.into()),
    };
    let row = |name: &str, cells: Vec<MatrixCell>| MatrixRow { name: name.into(), cells };
    Failure {
        kind: "matrix.differs".into(),
        expected: Expected::State {
            subject: "6 flows".into(),
            is: "as in the table".into(),
            window: Window { within_ms: Some(10_000), for_ms: Some(2_000) },
        },
        observed: Observed {
            seen: vec![Seen { is: "2 of 6 differ".into(), times: 1 }],
            over_ms: 10_200,
            last_ago_ms: None,
            controls: Vec::new(),
        },
        lost_at: None,
        cause: None,
        advice: None,
        matrix: Some(Matrix {
            columns: vec!["web:8080/tcp".into(), "db:5432/tcp".into()],
            rows: vec![
                row("client", vec![cell("allowed", "allowed"), cell("dropped", "allowed")]),
                row("migrate", vec![cell("dropped", "dropped"), cell("allowed", "rejected")]),
                row("outside", vec![cell("dropped", "dropped"), cell("dropped", "dropped")]),
            ],
        }),
        rules: Vec::new(),
        again: Some("cknet run policy.deny-ingress --keep".into()),
        shell: None,
        evidence: Vec::new(),
    }
}

fn judged(case: Case, outcome: Outcome, took_ms: u64) -> ExpectationJudged {
    ExpectationJudged { case, outcome, took_ms, time_to_true_ms: None, samples: 1, detail: Detail::default() }
}

fn run_started() -> RunStarted {
    let map =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    RunStarted {
        run: "r2gk0c47zq".parse().unwrap(),
        seed: 42,
        provider: "netns".into(),
        distribution: "reference".into(),
        fidelity: Fidelity::Model,
        host: "laptop".into(),
        kernel: "6.12.0".into(),
        arch: "x86_64".into(),
        cni: Some("calico".into()),
        versions: map(&[("cknet", "0.1.0"), ("git-sha", "0123abc")]),
        variant: map(&[("cni", "calico"), ("provider", "netns")]),
        shard: None,
        again: ["cknet", "run", "--seed", "42"].map(String::from).to_vec(),
        planned: planned(),
    }
}

fn firewall() -> Vec<What> {
    let id = "firewall.vxlan-port-blocked";
    let phase = |phase: &str| PhaseStarted { scenario: id.into(), phase: phase.into() }.into();
    let mut holds = judged(overlay("wrong", "cross-node", 22), Outcome::Pass, 2_300);
    holds.time_to_true_ms = Some(300);
    holds.samples = 4;
    let mut control = judged(case(id, "wrong", "control", 23), Outcome::Pass, 40);
    control.detail.note = Some("connected in 0.3 ms".into());
    let earlier = Attempt::Errored {
        kind: InfraKind::Probe,
        message: "the probe on `cp1` did not answer within 5 s".into(),
        took_ms: 5_000,
    };
    let again = Attempt::Failed { failure: Box::new(flow_failure()), took_ms: 30_010 };
    let refuted = Outcome::Fail { failure: Box::new(flow_failure()), earlier: vec![earlier, again] };
    let mut refuted = judged(overlay("correct", "cross-node-again", 31), refuted, 65_020);
    refuted.samples = 11;
    refuted.detail = Detail {
        note: None,
        output: Some("\u{1b}[31mnft\u{1b}[0m:\tudp dport 4789 drop\u{0}".into()),
        evidence: vec![Attachment { path: "artifacts/vxlan/".into(), label: "bundle".into() }],
    };
    vec![
        ScenarioStarted {
            scenario: id.into(),
            title: "A host firewall that drops the overlay port".into(),
            cluster: "pair".into(),
        }
        .into(),
        phase("wrong"),
        StepDone {
            scenario: id.into(),
            phase: "wrong".into(),
            step: 0,
            text: "firewall on all nodes: close 4789/udp".into(),
            took_ms: 120,
        }
        .into(),
        holds.into(),
        control.into(),
        phase("correct"),
        refuted.into(),
        ScenarioFinished {
            scenario: id.into(),
            took_ms: 68_100,
            waits: Some(Waits { silence_ms: 9_000, hold_ms: 500, quiet_ms: 800, component_ms: 30_000 }),
        }
        .into(),
    ]
}

fn policy() -> Vec<What> {
    let id = "policy.deny-ingress";
    let failed = Attempt::Failed { failure: Box::new(flow_failure()), took_ms: 30_010 };
    let reference = Some("https://github.com/canonical/k8s-snap/issues/1".to_owned());
    let outcomes = [
        (matrix_case(), Outcome::Fail { failure: Box::new(matrix_failure()), earlier: Vec::new() }),
        (case(id, "applied", "late", 41), Outcome::Flaky { earlier: vec![failed] }),
        (
            case(id, "applied", "known", 42),
            Outcome::XFail { reason: "hairpin is not allowed".into(), reference: reference.clone() },
        ),
        (case(id, "applied", "mended", 43), Outcome::XPass { reason: "was broken in 1.32".into(), reference }),
    ];
    let mut events =
        vec![ScenarioStarted { scenario: id.into(), title: "Deny all ingress".into(), cluster: "pair".into() }.into()];
    events.extend(outcomes.map(|(case, outcome)| What::from(judged(case, outcome, 10_200))));
    events.push(ScenarioFinished { scenario: id.into(), took_ms: 41_000, waits: None }.into());
    events
}

fn skipped() -> Vec<What> {
    let skip = |cause, reason: &str, enable: Option<&str>| Outcome::Skipped {
        cause,
        reason: reason.into(),
        enable: enable.map(Into::into),
    };
    let lacks = || {
        skip(
            SkipCause::Unsupported,
            "requires capability `ipv6`; provider `netns` lacks it",
            Some("cknet run dns.ipv6 --provider lxd"),
        )
    };
    let deselected = skip(SkipCause::Deselected, "not selected", None);
    vec![
        judged(case("dns.ipv6", "plain", "aaaa", 12), lacks(), 0).into(),
        judged(case("dns.ipv6", "plain", "ptr", 13), lacks(), 0).into(),
        judged(case("dns.search", "plain", "short-name", 8), deselected, 0).into(),
        ScenarioFinished { scenario: "dns.ipv6".into(), took_ms: 0, waits: None }.into(),
    ]
}

fn broken() -> Vec<What> {
    let id = "services.empty";
    let message = "the probe on `w1` did not answer within 5 s; last seen 7.2 s ago";
    let error = || Outcome::Error { kind: InfraKind::Probe, message: message.into() };
    vec![
        ScenarioStarted { scenario: id.into(), title: "A service without endpoints".into(), cluster: "pair".into() }
            .into(),
        StepFailed {
            scenario: id.into(),
            phase: "plain".into(),
            step: 1,
            text: "restart kubelet on w1".into(),
            message: "exit status 1: unit not found".into(),
            took_ms: 90,
        }
        .into(),
        judged(case(id, "plain", "refused", 9), error(), 5_000).into(),
        judged(case(id, "plain", "again", 10), error(), 5_000).into(),
        ScenarioFinished { scenario: id.into(), took_ms: 10_100, waits: None }.into(),
    ]
}

/// What happens before the clean-up, in order. The last case never gets a verdict.
fn happenings() -> Vec<What> {
    let nodes = || vec!["cp1".to_owned(), "w1".to_owned()];
    let mut events: Vec<What> = vec![
        run_started().into(),
        ClusterAcquiring { cluster: "pair".into(), nodes: nodes() }.into(),
        ClusterReady {
            cluster: "pair".into(),
            nodes: nodes(),
            provision_ms: 900,
            bootstrap_ms: 2_300,
            restored: false,
        }
        .into(),
    ];
    events.extend(firewall());
    events.extend(policy());
    events.extend(skipped());
    events.extend(broken());
    events.push(ClusterAcquiring { cluster: "triple".into(), nodes: nodes() }.into());
    events.push(
        ClusterFailed {
            cluster: "triple".into(),
            kind: InfraKind::Bootstrap,
            message: "node `w1` not Ready after 60 s; last state `NotReady`, 0.5 s old".into(),
            took_ms: 61_000,
            evidence: vec![Attachment::bundle("evidence/_clusters/c1-0")],
        }
        .into(),
    );
    let aborted = Outcome::Aborted { reason: "interrupted by SIGINT".into() };
    events.push(judged(case("services.node-port", "plain", "outside", 15), aborted, 700).into());
    events
}

/// The run up to where it was killed: no clean-up, no end.
pub fn killed() -> Vec<Event> {
    timed(happenings())
}

/// The whole run.
pub fn whole() -> Vec<Event> {
    let mut events = happenings();
    let leak = Leak { kind: "bridge".into(), name: "ckr2gk0c47zq".into(), message: "device is busy".into() };
    events.push(Cleanup { leaks: vec![leak], kept: None, took_ms: 800 }.into());
    let mut events = timed(events);
    let mut tally = Tally::default();
    for event in &events {
        tally.record(event);
    }
    let end = events.last().unwrap().at + SignedDuration::from_millis(100);
    let artifacts = vec![Artifact { kind: "junit".into(), path: "out/TEST-cknet-all.xml".into() }];
    let summary = tally.summary(end, None, artifacts);
    events.push(Event::new(end, RunFinished { summary }));
    events
}

fn timed(happenings: Vec<What>) -> Vec<Event> {
    let start: Timestamp = "2026-07-02T18:02:11.5Z".parse().unwrap();
    let mut at = start;
    let mut events = Vec::new();
    for what in happenings {
        events.push(Event { at, what });
        at += SignedDuration::from_millis(5_250);
    }
    events
}
