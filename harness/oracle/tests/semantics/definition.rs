//! A second evaluation, written from the definition alone, against the compiled one.
//!
//! It looks at the snapshot's plain data, knows no index and no early end, and says only whether a
//! flow between two pods passes. Any difference is a defect of one of the two.

use std::net::IpAddr;

use cknet_oracle::{
    BlockScope, Direction, Endpoint, Labels, NetworkPolicy, Oracle, Outcome, Peer, Pod, PodRef, PortMatch, PortRange,
    Profile, Protocol, Requirement, Rule, Selector, Snapshot,
};
use proptest::prelude::*;

use crate::world::{World, is_allowed};

/// Whether a flow passes, by the definition.
pub fn passes(snapshot: &Snapshot, profile: &Profile, flow: &PodFlow<'_>) -> bool {
    flow.from.to_string() == flow.to.to_string()
        || (lets(snapshot, profile, Direction::Egress, flow.from, flow.to, flow)
            && lets(snapshot, profile, Direction::Ingress, flow.to, flow.from, flow))
}

/// A flow between pods.
pub struct PodFlow<'a> {
    pub from: &'a Pod,
    pub to: &'a Pod,
    pub port: u16,
    pub protocol: Protocol,
}

fn lets(
    snapshot: &Snapshot,
    profile: &Profile,
    direction: Direction,
    subject: &Pod,
    peer: &Pod,
    flow: &PodFlow<'_>,
) -> bool {
    let isolating: Vec<_> = snapshot
        .policies
        .iter()
        .filter(|policy| policy.namespace == subject.namespace)
        .filter(|policy| selects(&policy.pods, &subject.labels))
        .filter(|policy| isolates(policy, direction))
        .collect();
    let rules = isolating.iter().flat_map(|policy| policy.rules(direction).iter().map(move |rule| (policy, rule)));
    isolating.is_empty() || rules.into_iter().any(|(policy, rule)| allows(snapshot, profile, policy, rule, peer, flow))
}

fn isolates(policy: &NetworkPolicy, direction: Direction) -> bool {
    match (policy.types.is_empty(), direction) {
        (false, _) => policy.types.contains(&direction),
        (true, Direction::Ingress) => true,
        (true, Direction::Egress) => !policy.egress.is_empty(),
    }
}

fn allows(
    snapshot: &Snapshot,
    profile: &Profile,
    policy: &NetworkPolicy,
    rule: &Rule,
    peer: &Pod,
    flow: &PodFlow<'_>,
) -> bool {
    let peer_matches = |wanted: &Peer| match wanted {
        Peer::Block(block) => {
            // Both ends have IPv4 only in these clusters.
            profile.block_on_pods == BlockScope::Applies
                && inside(block.cidr(), peer.ips[0])
                && !block.except().iter().any(|part| inside(*part, peer.ips[0]))
        }
        Peer::Pods { pods, namespaces } => {
            let namespace = match namespaces {
                None => peer.namespace == policy.namespace,
                Some(selector) => {
                    let listed = snapshot.namespaces.iter();
                    let mut found = listed.filter(|one| one.name == peer.namespace);
                    selects(selector, &found.next().unwrap().labels)
                }
            };
            namespace && pods.as_ref().is_none_or(|pods| selects(pods, &peer.labels))
        }
    };
    let port_matches = |wanted: &PortMatch| {
        wanted.protocol == flow.protocol
            && match &wanted.port {
                PortRange::Any => true,
                PortRange::Numbers { first, last } => flow.port >= *first && flow.port <= *last,
                PortRange::Named(name) => flow.to.ports.iter().any(|port| {
                    port.name.as_ref() == Some(name) && port.protocol == wanted.protocol && port.number == flow.port
                }),
            }
    };
    (rule.peers.is_empty() || rule.peers.iter().any(peer_matches))
        && (rule.ports.is_empty() || rule.ports.iter().any(port_matches))
}

fn selects(selector: &Selector, labels: &Labels) -> bool {
    selector.requirements().iter().all(|requirement| match requirement {
        Requirement::Is(key, value) => labels.get(key) == Some(value),
        Requirement::In(key, values) => values.iter().any(|value| labels.get(key) == Some(value)),
        Requirement::NotIn(key, values) => !values.iter().any(|value| labels.get(key) == Some(value)),
        Requirement::Exists(key) => labels.contains_key(key),
        Requirement::DoesNotExist(key) => !labels.contains_key(key),
    })
}

/// By comparing bits, not by the library that the oracle uses.
fn inside(net: ipnet::IpNet, address: IpAddr) -> bool {
    let (ipnet::IpNet::V4(net), IpAddr::V4(address)) = (net, address) else {
        return false;
    };
    let unused = 32 - u32::from(net.prefix_len());
    let cut = |address: std::net::Ipv4Addr| u64::from(u32::from(address)) >> unused;
    cut(net.addr()) == cut(address)
}

/// Random clusters and policies over so few names that they meet often.
pub mod random {
    use super::*;
    use cknet_oracle::{ContainerPort, IpBlock, Namespace};
    use proptest::collection::vec;
    use proptest::option;
    use proptest::sample::select;

    fn label() -> impl Strategy<Value = (String, String)> {
        (select(vec!["app", "tier"]), select(vec!["a", "b"]))
            .prop_map(|(key, value)| (key.to_owned(), value.to_owned()))
    }

    fn labels() -> impl Strategy<Value = Labels> {
        vec(label(), 0..3).prop_map(|labels| labels.into_iter().collect())
    }

    fn requirement() -> impl Strategy<Value = Requirement> {
        let values = || vec(select(vec!["a", "b"]).prop_map(str::to_owned), 1..3);
        let key = || select(vec!["app", "tier"]).prop_map(str::to_owned);
        prop_oneof![
            3 => label().prop_map(|(key, value)| Requirement::Is(key, value)),
            1 => (key(), values()).prop_map(|(key, values)| Requirement::In(key, values.into_iter().collect())),
            1 => (key(), values()).prop_map(|(key, values)| Requirement::NotIn(key, values.into_iter().collect())),
            1 => key().prop_map(Requirement::Exists),
            1 => key().prop_map(Requirement::DoesNotExist),
        ]
    }

    fn selector() -> impl Strategy<Value = Selector> {
        vec(requirement(), 0..3).prop_map(Selector::of)
    }

    fn block() -> impl Strategy<Value = IpBlock> {
        (0_u8..3, 0_u8..4, select(vec![16_u8, 24, 30, 32]), any::<bool>()).prop_map(
            |(third, last, length, has_exception)| {
                let cidr = format!("10.1.{third}.{last}/{length}").parse().unwrap();
                let exception = format!("10.1.{third}.{last}/32").parse().unwrap();
                let except = (has_exception && length < 32).then_some(exception);
                IpBlock::new(cidr, except)
            },
        )
    }

    fn peer() -> impl Strategy<Value = Peer> {
        prop_oneof![
            1 => block().prop_map(Peer::Block),
            1 => selector().prop_map(|pods| Peer::Pods { pods: Some(pods), namespaces: None }),
            2 => (option::of(selector()), selector())
                .prop_map(|(pods, namespaces)| Peer::Pods { pods, namespaces: Some(namespaces) }),
        ]
    }

    pub fn protocol() -> impl Strategy<Value = Protocol> {
        select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp])
    }

    fn port() -> impl Strategy<Value = PortMatch> {
        let range = prop_oneof![
            Just(PortRange::Any),
            (80_u16..83, 0_u16..3).prop_map(|(first, more)| PortRange::Numbers { first, last: first + more }),
            select(vec!["web", "dns"]).prop_map(|name| PortRange::Named(name.to_owned())),
        ];
        (protocol(), range).prop_map(|(protocol, port)| PortMatch { protocol, port })
    }

    pub fn rule() -> impl Strategy<Value = Rule> {
        (vec(peer(), 0..3), vec(port(), 0..3)).prop_map(|(peers, ports)| Rule { peers, ports })
    }

    fn types() -> impl Strategy<Value = Vec<Direction>> {
        select(vec![
            vec![],
            vec![Direction::Ingress],
            vec![Direction::Egress],
            vec![Direction::Ingress, Direction::Egress],
        ])
    }

    fn policy() -> impl Strategy<Value = NetworkPolicy> {
        (0_usize..3, selector(), vec(rule(), 0..3), vec(rule(), 0..3), types()).prop_map(
            |(namespace, pods, ingress, egress, types)| NetworkPolicy {
                namespace: format!("ns-{namespace}"),
                name: String::new(),
                pods,
                ingress,
                egress,
                types,
            },
        )
    }

    pub fn policies() -> impl Strategy<Value = Vec<NetworkPolicy>> {
        vec(policy(), 0..6).prop_map(|mut policies| {
            for (number, policy) in policies.iter_mut().enumerate() {
                policy.name = format!("p-{number}");
            }
            policies
        })
    }

    fn pod() -> impl Strategy<Value = Pod> {
        let port = (select(vec!["web", "dns", "x"]), 80_u16..84, protocol()).prop_map(|(name, number, protocol)| {
            ContainerPort { name: Some(name.to_owned()), number, protocol, host_port: None }
        });
        (0_usize..3, labels(), vec(port, 0..4)).prop_map(|(namespace, labels, ports)| Pod {
            namespace: format!("ns-{namespace}"),
            labels,
            ports,
            ready: true,
            ..Pod::default()
        })
    }

    pub fn cluster() -> impl Strategy<Value = Snapshot> {
        (vec(labels(), 3), vec(pod(), 2..8), policies()).prop_map(|(labels, mut pods, policies)| {
            for (number, pod) in pods.iter_mut().enumerate() {
                pod.name = format!("pod-{number}");
                pod.node = Some(format!("n{}", number % 2));
                let [third, last] = [number / 4, number % 4];
                pod.ips = vec![format!("10.1.{third}.{last}").parse().unwrap()];
            }
            let labels = labels.into_iter().enumerate();
            Snapshot {
                namespaces: labels.map(|(number, labels)| Namespace::new(format!("ns-{number}"), labels)).collect(),
                pods,
                policies,
                ..Snapshot::default()
            }
        })
    }

    pub fn profile() -> impl Strategy<Value = Profile> {
        select(vec![BlockScope::Applies, BlockScope::Ignores])
            .prop_map(|block_on_pods| Profile { block_on_pods, ..Profile::calico() })
    }
}

/// Every pod to every pod on a few ports of every protocol, by the compiled path.
pub fn cells(snapshot: &Snapshot) -> (Vec<Endpoint>, Vec<(PodRef, u16, Protocol)>) {
    let pods = || snapshot.pods.iter();
    let from = pods().map(|pod| Endpoint::pod(&pod.namespace, &pod.name)).collect();
    let mut to = Vec::new();
    for pod in pods() {
        for port in [80, 82, 84] {
            for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
                to.push((PodRef::new(&pod.namespace, &pod.name), port, protocol));
            }
        }
    }
    (from, to)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_matrix_agrees_with_the_definition(snapshot in random::cluster(), profile in random::profile()) {
        let (from, to) = cells(&snapshot);
        let predictions = Oracle::new(&snapshot, profile).matrix(&from, &to).unwrap();
        prop_assert_eq!(predictions.len(), from.len() * to.len());
        let mut predictions = predictions.iter();
        for source in &snapshot.pods {
            for (target, port, protocol) in &to {
                let destination = snapshot.pods.iter().find(|pod| pod.name == target.name).unwrap();
                let flow = PodFlow { from: source, to: destination, port: *port, protocol: *protocol };
                let prediction = predictions.next().unwrap();
                let expected = passes(&snapshot, &profile, &flow);
                prop_assert_eq!(is_allowed(prediction), expected,
                    "{} -> {} {}/{}: {}", source, destination, port, protocol, prediction);
            }
        }
    }

    #[test]
    fn an_outcome_is_defined_exactly_where_both_readings_of_a_block_agree(snapshot in random::cluster()) {
        let (from, to) = cells(&snapshot);
        let calico = Profile::calico();
        let other = Profile { block_on_pods: BlockScope::Ignores, ..calico };
        let predictions = Oracle::new(&snapshot, calico).matrix(&from, &to).unwrap();
        let others = Oracle::new(&snapshot, other).matrix(&from, &to).unwrap();
        for (one, other) in predictions.iter().zip(&others) {
            prop_assert_eq!(one.is_defined(), one.expected == other.expected, "{}", one);
        }
    }
}

#[test]
fn the_random_clusters_have_both_outcomes_and_open_questions() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let (mut allowed, mut denied, mut open) = (0, 0, 0);
    for _ in 0..64 {
        let snapshot = random::cluster().new_tree(&mut runner).unwrap().current();
        let (from, to) = cells(&snapshot);
        for prediction in Oracle::new(&snapshot, Profile::calico()).matrix(&from, &to).unwrap() {
            match prediction.outcome {
                Outcome::Undefined(_) => open += 1,
                Outcome::Denied => denied += 1,
                _ => allowed += 1,
            }
        }
    }
    assert!(allowed > 1000 && denied > 1000 && open > 100, "{allowed}, {denied}, {open}");
}

#[test]
fn the_definition_itself_can_tell_allowed_from_denied() {
    let world = World::with_policies(vec![crate::world::ingress(serde_json::json!([]))]);
    let pods = &world.snapshot.pods;
    let flow = |from, to| PodFlow { from, to, port: 80, protocol: Protocol::Tcp };
    let passes = |flow| passes(&world.snapshot, &world.profile, &flow);
    assert!(passes(flow(&pods[0], &pods[3])));
    assert!(!passes(flow(&pods[3], &pods[0])));
}
