//! Drawn worlds and policies: the compiled table must say what the semantics, spelled out object by object, say.

use cknet_kernel::nft::Protocol;
use k8s_openapi::api::networking::v1::{NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::{Pod, selects};
use super::*;

const WORLDS: u64 = 400;
const OUTSIDE: [&str; 2] = ["192.0.2.1", "192.0.2.130"];
const PORTS: [&str; 7] = ["80/tcp", "81/tcp", "8080/tcp", "53/udp", "80/udp", "80/sctp", "icmp"];

#[test]
fn compiled_rules_agree_with_the_semantics() {
    let (mut allowed, mut denied) = (0, 0);
    for seed in 0..WORLDS {
        let world = draw(seed);
        let ruleset = compiled(&world);
        let mut ends: Vec<IpAddr> = world.pods.values().flat_map(|pod| pod.ips.clone()).collect();
        ends.extend(OUTSIDE.map(ip));
        for from in &ends {
            for to in ends.iter().filter(|to| *to != from) {
                for port in PORTS {
                    let passes = forwarded(&world, &ruleset, *from, *to, port) == Outcome::Accepted;
                    let should = permitted(&world, *from, *to, parse_port(port));
                    assert_eq!(passes, should, "seed {seed}: {from} -> {to} {port}\n{:#?}", world.policies);
                    *(if should { &mut allowed } else { &mut denied }) += 1;
                }
            }
        }
    }
    assert!(allowed > 10_000 && denied > 10_000, "{allowed} allowed, {denied} denied: the draw shows nothing");
}

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Sender,
    Receiver,
}

/// The semantics, without sets and chains: the sender may send and the receiver may get.
fn permitted(world: &World, from: IpAddr, to: IpAddr, port: (Protocol, u16)) -> bool {
    lets(world, from, to, Role::Sender, port) && lets(world, from, to, Role::Receiver, port)
}

fn lets(world: &World, from: IpAddr, to: IpAddr, role: Role, port: (Protocol, u16)) -> bool {
    let (subject, peer) = if role == Role::Sender { (from, to) } else { (to, from) };
    let Some((name, pod)) = at(world, subject) else { return true };
    let isolating: Vec<_> = world
        .policies
        .iter()
        .filter(|(policy, _)| policy.namespace == name.namespace)
        .filter(|(_, spec)| selects(spec.pod_selector.as_ref().unwrap(), &pod.labels) && isolates(spec, role))
        .collect();
    let any_rule = |policy: &PodName, spec: &NetworkPolicySpec| match role {
        Role::Sender => spec.egress.iter().flatten().any(|rule| {
            is_peer(world, &policy.namespace, rule.to.as_ref(), peer) && is_port(world, rule.ports.as_ref(), to, port)
        }),
        Role::Receiver => spec.ingress.iter().flatten().any(|rule| {
            is_peer(world, &policy.namespace, rule.from.as_ref(), peer) && is_port(world, rule.ports.as_ref(), to, port)
        }),
    };
    isolating.is_empty() || isolating.into_iter().any(|(policy, spec)| any_rule(policy, spec))
}

fn isolates(spec: &NetworkPolicySpec, role: Role) -> bool {
    match &spec.policy_types {
        Some(types) => types.contains(&if role == Role::Sender { "Egress".to_string() } else { "Ingress".to_string() }),
        None => role == Role::Receiver || !spec.egress.clone().unwrap_or_default().is_empty(),
    }
}

fn at(world: &World, address: IpAddr) -> Option<(&PodName, &Pod)> {
    world.pods.iter().find(|(_, pod)| pod.ips.contains(&address))
}

fn is_peer(world: &World, namespace: &str, peers: Option<&Vec<NetworkPolicyPeer>>, address: IpAddr) -> bool {
    let peers = match peers {
        None => return true,
        Some(peers) if peers.is_empty() => return true,
        Some(peers) => peers,
    };
    peers.iter().any(|peer| {
        if let Some(block) = &peer.ip_block {
            let within = |cidr: &String| cidr.parse::<ipnet::IpNet>().unwrap().contains(&address);
            return within(&block.cidr) && !block.except.iter().flatten().any(within);
        }
        let Some((name, pod)) = at(world, address) else { return false };
        let namespace = match &peer.namespace_selector {
            Some(selector) => selects(selector, &world.namespaces[&name.namespace]),
            None => name.namespace == namespace,
        };
        namespace && peer.pod_selector.as_ref().is_none_or(|selector| selects(selector, &pod.labels))
    })
}

fn is_port(
    world: &World,
    ports: Option<&Vec<NetworkPolicyPort>>,
    to: IpAddr,
    (protocol, number): (Protocol, u16),
) -> bool {
    let ports = match ports {
        None => return true,
        Some(ports) if ports.is_empty() => return true,
        Some(ports) => ports,
    };
    ports.iter().any(|port| {
        let named = match port.protocol.as_deref() {
            Some("UDP") => Protocol::UDP,
            Some("SCTP") => Protocol::SCTP,
            _ => Protocol::TCP,
        };
        named == protocol
            && match &port.port {
                None => true,
                Some(IntOrString::Int(first)) => {
                    (*first..=port.end_port.unwrap_or(*first)).contains(&i32::from(number))
                }
                Some(IntOrString::String(name)) => at(world, to).is_some_and(|(_, pod)| {
                    pod.ports.iter().any(|own| own.name == *name && own.protocol == protocol && own.port == number)
                }),
            }
    })
}

/// A stream of numbers from a seed (xorshift).
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    fn list(&mut self, longest: usize, mut one: impl FnMut(&mut Self) -> Value) -> Value {
        (0..self.below(longest + 1)).map(|_| one(self)).collect()
    }
}

fn draw(seed: u64) -> World {
    let mut draw = Draw(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut world = World::default();
    let namespaces = ["red", "green", "blue"];
    for name in namespaces {
        let labels = draw.pick(&["", "team=a", "team=b"]);
        namespace(&mut world, name, labels);
    }
    for number in 0..5 {
        let owner = draw.pick(&namespaces);
        let labels = draw.pick(&["app=web", "app=db", "app=db tier=x", ""]);
        let ports = match draw.below(3) {
            0 => json!([]),
            1 => json!([{"name": "http", "containerPort": 80}]),
            _ => {
                json!([{"name": "http", "containerPort": 8080}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}])
            }
        };
        pod(&mut world, &format!("{owner}/p{number}"), &format!("10.0.0.{}", number * 40 + 1), labels, ports);
    }
    for number in 0..1 + draw.below(3) {
        let spec = spec(&mut draw).to_string();
        policy(&mut world, &format!("{}/n{number}", draw.pick(&namespaces)), &spec);
    }
    world
}

fn spec(draw: &mut Draw) -> Value {
    let mut spec = json!({"podSelector": selector(draw)});
    for (side, peers) in [("ingress", "from"), ("egress", "to")] {
        if draw.below(3) > 0 {
            spec[side] = draw.list(2, |draw| rule(draw, peers));
        }
    }
    match draw.below(4) {
        0 => spec["policyTypes"] = json!(["Ingress"]),
        1 => spec["policyTypes"] = json!(["Egress"]),
        2 => spec["policyTypes"] = json!(["Ingress", "Egress"]),
        _ => {}
    }
    spec
}

fn rule(draw: &mut Draw, peers: &str) -> Value {
    let mut rule = json!({});
    if draw.below(4) > 0 {
        rule[peers] = draw.list(2, peer);
    }
    if draw.below(2) > 0 {
        rule["ports"] = draw.list(3, port);
    }
    rule
}

fn peer(draw: &mut Draw) -> Value {
    match draw.below(5) {
        0 => json!({"podSelector": selector(draw)}),
        1 => json!({"namespaceSelector": selector(draw)}),
        2 => json!({"namespaceSelector": selector(draw), "podSelector": selector(draw)}),
        3 => json!({"ipBlock": {"cidr": draw.pick(&["10.0.0.0/25", "192.0.2.0/24", "fd00::/8"])}}),
        _ => json!({"ipBlock": {"cidr": "0.0.0.0/0",
            "except": draw.list(2, |draw| json!(draw.pick(&["10.0.0.0/26", "192.0.2.0/25", "192.0.2.130/32"])))}}),
    }
}

fn selector(draw: &mut Draw) -> Value {
    let key = draw.pick(&["app", "tier", "team"]);
    match draw.below(6) {
        0 | 1 => json!({}),
        2 => json!({"matchLabels": {"app": draw.pick(&["web", "db"])}}),
        3 => json!({"matchLabels": {"team": "a"}}),
        4 => json!({"matchExpressions": [{"key": key, "operator": draw.pick(&["Exists", "DoesNotExist"])}]}),
        _ => {
            json!({"matchExpressions": [{"key": key, "operator": draw.pick(&["In", "NotIn"]), "values": ["db", "a", "x"]}]})
        }
    }
}

fn port(draw: &mut Draw) -> Value {
    let mut port = match draw.below(5) {
        0 => json!({}),
        1 => json!({"port": draw.pick(&["http", "dns"])}),
        2 => json!({"port": 80, "endPort": 81 + draw.below(8000)}),
        _ => {
            let number = [53, 80, 81, 8080][draw.below(4)];
            json!({"port": number})
        }
    };
    if draw.below(3) > 0 {
        port["protocol"] = json!(draw.pick(&["TCP", "UDP", "SCTP"]));
    }
    port
}
