//! From service ports and one node's view to the table `kube-proxy`; pure.
//!
//! Owns the frame: base chains, the maps that lead to services, refusal of services without endpoints, and the mark
//! that asks for the node's address. What happens inside one service is in `chains`.

use std::net::IpAddr;

use cknet_kernel::nft::{
    Base, Chain, CtState, Family, Field, Hook, KeyType, Protocol, Reject, Rule, Set, Table, Value, Verdict, priority,
};
use ipnet::IpNet;

use super::chains;
use super::service::{ServicePort, TrafficPolicy};

const TABLE: &str = "kube-proxy";
/// The bit in the packet mark that asks for masquerading; kube-proxy's default.
const MASQUERADE: u32 = 1 << 14;
pub(super) const MARK_CHAIN: &str = "mark-for-masquerade";
const SERVICES: &str = "services";
const SERVICE_IPS: &str = "service-ips";
const NODE_PORTS: &str = "service-nodeports";
const NODE_PORT_IPS: &str = "nodeport-ips";
const CHECK: &str = "service-endpoints-check";
const REFUSED_SERVICES: &str = "no-endpoint-services";
const REFUSED_NODE_PORTS: &str = "no-endpoint-nodeports";
const REJECT_CHAIN: &str = "reject-chain";
const DROP_CHAIN: &str = "drop-chain";
/// Services without endpoints are refused before any policy is asked: before priority `filter`, and in `output`
/// before translation.
const CHECK_PRIORITY: i32 = priority::DNAT - 10;

/// What a node's service proxy knows about its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// Name of the node, as endpoints say it.
    pub name: String,
    /// Addresses on which node ports answer.
    pub node_port_ips: Vec<IpAddr>,
    /// Addresses of pods, of the whole cluster; traffic from elsewhere to a cluster address is masqueraded. `None`
    /// masquerades nothing of that kind.
    pub pod_cidr: Option<IpNet>,
    /// Which of its two worlds the table is about.
    pub v4: bool,
}

impl NodeView {
    pub(super) fn source(&self) -> Field {
        if self.v4 { Field::Ip4Source } else { Field::Ip6Source }
    }

    pub(super) fn destination(&self) -> Field {
        if self.v4 { Field::Ip4Destination } else { Field::Ip6Destination }
    }

    pub(super) fn address_type(&self) -> KeyType {
        if self.v4 { KeyType::Ip4 } else { KeyType::Ip6 }
    }

    pub(super) fn includes(&self, ip: &IpAddr) -> bool {
        ip.is_ipv4() == self.v4
    }
}

/// The table that a node should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    pub(super) table: Table,
}

impl Ruleset {
    pub fn table(&self) -> &Table {
        &self.table
    }
}

/// How this node translates the traffic to `services`.
pub fn compile(services: &[ServicePort], node: &NodeView) -> Ruleset {
    let mut maps = Maps::new(node);
    let mut table = Table::new(if node.v4 { Family::Ip } else { Family::Ip6 }, TABLE);
    for service in services {
        maps.lead_to(service, node, &mut table);
    }
    base_chains(node).into_iter().for_each(|chain| table.add_chain(chain));
    [maps.services, maps.node_ports, maps.refused_services, maps.refused_node_ports, node_port_ips(node)]
        .into_iter()
        .for_each(|set| table.add_set(set));
    Ruleset { table }
}

/// Who finds what by address and port.
struct Maps {
    services: Set,
    node_ports: Set,
    refused_services: Set,
    refused_node_ports: Set,
}

impl Maps {
    fn new(node: &NodeView) -> Self {
        let by_address = |name| Set::verdict_map(name, [node.address_type(), KeyType::Protocol, KeyType::Port]);
        let by_port = |name| Set::verdict_map(name, [KeyType::Protocol, KeyType::Port]);
        Self {
            services: by_address(SERVICE_IPS),
            node_ports: by_port(NODE_PORTS),
            refused_services: by_address(REFUSED_SERVICES),
            refused_node_ports: by_port(REFUSED_NODE_PORTS),
        }
    }

    fn lead_to(&mut self, service: &ServicePort, node: &NodeView, table: &mut Table) {
        let chains = chains::of(service, node);
        for ip in service.cluster_ips.iter().filter(|ip| node.includes(ip)) {
            let refusal = refusal(service, node, service.internal);
            add(&mut self.services, &mut self.refused_services, key(*ip, service), chains.cluster_entry(*ip), refusal);
        }
        let refusal = refusal(service, node, service.external);
        for ip in service.external_ips.iter().filter(|ip| node.includes(ip)) {
            let (external, key) = (chains.external_entry(), key(*ip, service));
            add(&mut self.services, &mut self.refused_services, key, external, refusal.clone());
        }
        if let Some(port) = service.node_port {
            let key = Value::concat([service.protocol.into(), port.into()]);
            add(&mut self.node_ports, &mut self.refused_node_ports, key, chains.external_entry(), refusal);
        }
        chains.write(table);
    }
}

fn add(leading: &mut Set, refused: &mut Set, key: Value, entry: Option<String>, refusal: Option<Verdict>) {
    if let Some(chain) = entry {
        leading.insert_verdict(key.clone(), Verdict::Goto(chain));
    }
    if let Some(verdict) = refusal {
        refused.insert_verdict(key, verdict);
    }
}

/// Nobody answers: refused. Somebody would, but not on this node and no other may: dropped.
fn refusal(service: &ServicePort, node: &NodeView, policy: TrafficPolicy) -> Option<Verdict> {
    if service.usable(node.v4, None).is_empty() {
        return Some(Verdict::Goto(REJECT_CHAIN.into()));
    }
    let nobody_here = policy == TrafficPolicy::Local && service.usable(node.v4, Some(&node.name)).is_empty();
    nobody_here.then(|| Verdict::Goto(DROP_CHAIN.into()))
}

fn key(ip: IpAddr, service: &ServicePort) -> Value {
    Value::concat([ip.into(), service.protocol.into(), service.port.into()])
}

fn node_port_ips(node: &NodeView) -> Set {
    let mut set = Set::new(NODE_PORT_IPS, [node.address_type()]);
    node.node_port_ips.iter().filter(|ip| node.includes(ip)).for_each(|ip| set.insert_address(*ip));
    set
}

fn base_chains(node: &NodeView) -> Vec<Chain> {
    let tuple = vec![node.destination(), Field::L4Proto, Field::DestinationPort];
    let pair = vec![Field::L4Proto, Field::DestinationPort];
    let check = |name: &str, hook| {
        let rule = Rule::new().ct_state(CtState::NEW).jump(CHECK);
        Chain::base(name, Base::filter(hook, CHECK_PRIORITY)).with_rule(rule)
    };
    let translate =
        |name: &str, hook| Chain::base(name, Base::nat(hook, priority::DNAT)).with_rule(Rule::new().jump(SERVICES));
    vec![
        check("filter-input", Hook::Input),
        check("filter-forward", Hook::Forward),
        check("filter-output", Hook::Output),
        Chain::new(CHECK).with_rule(Rule::new().verdict_of(tuple.clone(), REFUSED_SERVICES)).with_rule(
            Rule::new().in_set([node.destination()], NODE_PORT_IPS).verdict_of(pair.clone(), REFUSED_NODE_PORTS),
        ),
        Chain::new(REJECT_CHAIN).with_rule(reject("a service without endpoints")),
        Chain::new(DROP_CHAIN)
            .with_rule(Rule::new().counter().drop().comment("a service without endpoints on this node")),
        translate("nat-prerouting", Hook::Prerouting),
        translate("nat-output", Hook::Output),
        Chain::new(SERVICES)
            .with_rule(Rule::new().verdict_of(tuple, SERVICE_IPS))
            .with_rule(Rule::new().in_set([node.destination()], NODE_PORT_IPS).verdict_of(pair, NODE_PORTS)),
        Chain::new(MARK_CHAIN).with_rule(Rule::new().mark_or(MASQUERADE)),
        Chain::base("nat-postrouting", Base::nat(Hook::Postrouting, priority::SNAT))
            .with_rule(Rule::new().has_none(Field::Mark, MASQUERADE).return_to_caller())
            // The mark goes first: an encapsulated copy of the packet comes by again.
            .with_rule(Rule::new().mark_clear(MASQUERADE).masquerade()),
    ]
}

fn reject(comment: &str) -> Rule {
    Rule::new().counter().reject(Reject::PortUnreachable).comment(comment)
}

/// The protocol's name in chain names.
pub(super) fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::TCP => "tcp",
        Protocol::UDP => "udp",
        Protocol::SCTP => "sctp",
        _ => "other",
    }
}
