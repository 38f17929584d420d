//! From the world and this node's endpoints to the table `calico`; pure.
//!
//! Owns the frame: base chains, dispatch by interface, chains of policies. What an endpoint's own chains say is in
//! `endpoint`, whom rules are about in `peers`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use cknet_kernel::nft::{
    AddressType, Base, Chain, CtState, Family, FibAddress, Field, Hook, KeyType, Protocol, Reject, Rule, Set, Table,
    Value, Verdict, priority,
};
use ipnet::IpNet;
use k8s_openapi::api::networking::v1::NetworkPolicySpec;

use super::endpoint::{self, Side};
use super::masquerade;
use super::peers::{self, Namespaces, Peer, PeerSets, PodSelection, digest};
use super::ports::{self, PortMatch};
use super::selector::selects;
use super::world::{PodName, World};

/// The table's name, in family `ip` or `ip6`.
const TABLE: &str = "calico";
/// Interfaces of pods begin like this.
pub(super) const WORKLOADS: &str = "cali*";
pub(super) const FROM_DISPATCH: &str = "cali-from-wl-dispatch";
pub(super) const TO_DISPATCH: &str = "cali-to-wl-dispatch";
const FROM_MAP: &str = "cali-from-wl";
const TO_MAP: &str = "cali-to-wl";
const VXLAN_NODES: &str = "cali-all-vxlan-net";
/// Longer chain names are cut and end in a digest; the kernel takes 255 bytes.
const CHAIN_NAME: usize = 200;

/// Which of its two worlds a table is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IpVersion {
    #[default]
    V4,
    V6,
}

impl IpVersion {
    pub fn includes(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }

    pub(super) fn key_type(self) -> KeyType {
        if self == Self::V4 { KeyType::Ip4 } else { KeyType::Ip6 }
    }

    pub(super) fn source(self) -> Field {
        if self == Self::V4 { Field::Ip4Source } else { Field::Ip6Source }
    }

    pub(super) fn destination(self) -> Field {
        if self == Self::V4 { Field::Ip4Destination } else { Field::Ip6Destination }
    }
}

/// A pod of this node and the host's end of its veth pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalEndpoint {
    pub pod: PodName,
    pub interface: String,
    pub ip: IpAddr,
}

/// What Felix is configured with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub version: IpVersion,
    /// UDP port of the overlay; `None` where no pool uses it.
    pub vxlan_port: Option<u16>,
    /// The overlay's device, whose tunnel address stands in for the node's other addresses.
    pub vxlan_device: String,
    /// Packets that would be passed round for ever; `None` lets them.
    pub loops: Option<Loops>,
}

/// Service addresses that routers outside send to this node. One that no service has is translated by nobody, and by
/// the node's default route the packet would go back to where it came from, until its time to live is over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loops {
    pub blocks: Vec<IpNet>,
    /// Refused instead of dropped.
    pub reject: bool,
}

impl Default for Options {
    /// IPv4 with an overlay on UDP 4789 through `vxlan.calico`.
    fn default() -> Self {
        Self { version: IpVersion::V4, vxlan_port: Some(4789), vxlan_device: "vxlan.calico".into(), loops: None }
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

/// What `local` may send and receive in `world`.
///
/// An endpoint whose pod the world does not know, or knows as finished, is left out: its interface is then one that
/// leads nowhere.
pub fn compile(world: &World, local: &[LocalEndpoint], options: &Options) -> Ruleset {
    let mut compiler = Compiler {
        world,
        options,
        sets: PeerSets::new(world, local, options.version),
        table: Table::new(if options.version == IpVersion::V4 { Family::Ip } else { Family::Ip6 }, TABLE),
        policies: BTreeSet::new(),
    };
    compiler.endpoints(local);
    compiler.dispatch();
    compiler.base_chains();
    compiler.vxlan_nodes();
    compiler.table.add_chain(masquerade::chain(world, options));
    let Compiler { sets, mut table, .. } = compiler;
    sets.into_sets().for_each(|set| table.add_set(set));
    Ruleset { table }
}

struct Compiler<'a> {
    world: &'a World,
    options: &'a Options,
    sets: PeerSets<'a>,
    table: Table,
    /// Policy chains that are in the table already.
    policies: BTreeSet<String>,
}

impl<'a> Compiler<'a> {
    fn endpoints(&mut self, local: &[LocalEndpoint]) {
        let mut from = Set::verdict_map(FROM_MAP, [KeyType::InterfaceName]);
        let mut to = Set::verdict_map(TO_MAP, [KeyType::InterfaceName]);
        for endpoint in local {
            if !self.world.pods.get(&endpoint.pod).is_some_and(|pod| pod.has_network()) {
                continue;
            }
            for (side, map) in [(Side::Egress, &mut from), (Side::Ingress, &mut to)] {
                let policies = self.policies_of(&endpoint.pod, side);
                let chains: Vec<_> = policies.iter().map(|name| self.policy_chain(name, side)).collect();
                let chain = endpoint::chain(endpoint, side, &chains);
                map.insert_verdict(Value::interface(&endpoint.interface), Verdict::Goto(chain.name.clone()));
                self.table.add_chain(chain);
            }
        }
        self.table.add_set(from);
        self.table.add_set(to);
    }

    /// Policies that isolate the pod on that side, in the order of their names.
    fn policies_of(&self, pod: &PodName, side: Side) -> Vec<&'a PodName> {
        let Some(labels) = self.world.pods.get(pod).map(|pod| &pod.labels) else { return Vec::new() };
        let policies = self.world.policies.iter();
        policies
            .filter(|(name, spec)| {
                name.namespace == pod.namespace
                    && spec.pod_selector.as_ref().is_none_or(|selector| selects(selector, labels))
                    && isolates(spec, side)
            })
            .map(|(name, _)| name)
            .collect()
    }

    /// The chain of one side of a policy, shared by all endpoints that it selects.
    fn policy_chain(&mut self, name: &'a PodName, side: Side) -> String {
        let chain = chain_name(side.policy_prefix(), name);
        if self.policies.insert(chain.clone())
            && let Some(spec) = self.world.policies.get(name)
        {
            let rules = self.policy_rules(name, spec, side);
            self.table.add_chain(Chain::new(&chain).with_rules(rules));
        }
        chain
    }

    fn policy_rules(&mut self, name: &'a PodName, spec: &'a NetworkPolicySpec, side: Side) -> Vec<Rule> {
        let version = self.options.version;
        let rules: Vec<_> = match side {
            Side::Ingress => {
                spec.ingress.iter().flatten().map(|rule| (rule.from.as_ref(), rule.ports.as_ref())).collect()
            }
            Side::Egress => spec.egress.iter().flatten().map(|rule| (rule.to.as_ref(), rule.ports.as_ref())).collect(),
        };
        // Whoever the policy selects serves the named ports of its ingress rules.
        let subject = PodSelection { namespaces: Namespaces::Only(&name.namespace), pods: spec.pod_selector.as_ref() };
        let mut written = Vec::new();
        for (index, (peers, ports)) in rules.into_iter().enumerate() {
            let ports = ports::alternatives(ports);
            for peer in peers::alternatives(peers, &name.namespace, version) {
                for port in &ports {
                    let rule = self.alternative(&subject, &peer, port, side);
                    let comment = format!("Policy {name} {side} rule {index}");
                    written.extend(rule.map(|rule| side.permit(rule.counter()).comment(comment)));
                }
            }
        }
        written
    }

    /// One peer with one kind of port; `None` if nothing can match.
    fn alternative(
        &mut self,
        subject: &PodSelection<'_>,
        peer: &Peer<'_>,
        port: &PortMatch,
        side: Side,
    ) -> Option<Rule> {
        let rule = match port {
            PortMatch::Anything => Rule::new(),
            PortMatch::Protocol(protocol) => Rule::new().protocol(*protocol),
            PortMatch::Numbers(protocol, ranges) => ports::with_numbers(Rule::new(), *protocol, ranges)?,
            PortMatch::Named(protocol, name) => {
                let everyone = PodSelection { namespaces: Namespaces::All, pods: None };
                let servers = match (side, peer) {
                    (Side::Ingress, _) => subject,
                    (Side::Egress, Peer::Pods(selection)) => selection,
                    (Side::Egress, _) => &everyone,
                };
                let set = self.sets.named_port(servers, *protocol, name);
                let key = [self.options.version.destination(), Field::L4Proto, Field::DestinationPort];
                Rule::new().in_set(key, set)
            }
        };
        let field = side.peer_field(self.options.version);
        Some(match peer {
            Peer::Anyone => rule,
            Peer::Block(ranges) => rule.in_ranges(field, ranges),
            Peer::Pods(selection) => {
                let set = self.sets.addresses(selection);
                rule.in_set([field], set)
            }
        })
    }

    /// Where packets from and to workloads find the chains of their endpoint.
    fn dispatch(&mut self) {
        let from = Chain::new(FROM_DISPATCH)
            .with_rules(self.tracked("from workload"))
            .with_rules(self.neighbours())
            .with_rules(self.no_tunnels())
            .with_rule(Rule::new().verdict_of([Field::IifName], FROM_MAP))
            .with_rule(Rule::new().counter().drop().comment("Unknown interface: from workload"));
        // Also reached on the way to this host, where no interface is outgoing.
        let to = Chain::new(TO_DISPATCH)
            .with_rules(self.tracked("to workload"))
            .with_rules(self.neighbours())
            .with_rule(Rule::new().verdict_of([Field::OifName], TO_MAP))
            .with_rule(Rule::new().oifname(WORKLOADS).counter().drop().comment("Unknown interface: to workload"))
            .with_rule(Rule::new().accept());
        self.table.add_chain(from);
        self.table.add_chain(to);
    }

    fn tracked(&self, direction: &str) -> [Rule; 2] {
        [
            Rule::new().ct_state(CtState::ESTABLISHED | CtState::RELATED).accept(),
            Rule::new().ct_state(CtState::INVALID).counter().drop().comment(format!("Invalid packet: {direction}")),
        ]
    }

    /// Without neighbour discovery IPv6 does not work at all; no policy is about it.
    fn neighbours(&self) -> Option<Rule> {
        const ROUTER_SOLICITATION: u8 = 133;
        const REDIRECT: u8 = 137;
        (self.options.version == IpVersion::V6).then(|| {
            let rule = Rule::new().protocol(Protocol::ICMPV6);
            rule.within(Field::Icmp6Type, ROUTER_SOLICITATION, REDIRECT).accept().comment("Neighbour discovery")
        })
    }

    /// A workload that sends tunnel packets could pretend to be a node.
    fn no_tunnels(&self) -> Vec<Rule> {
        let vxlan = self.options.vxlan_port.map(|port| {
            let rule = Rule::new().protocol(Protocol::UDP).dport(port).counter().drop();
            rule.comment("Drop VXLAN encapped packets originating in workloads")
        });
        let ipip = Rule::new().protocol(Protocol::IPIP).counter().drop();
        let ipip = ipip.comment("Drop IPinIP encapped packets originating in workloads");
        vxlan.into_iter().chain([ipip]).collect()
    }

    fn base_chains(&mut self) {
        let forward = Chain::base("filter-FORWARD", Base::filter(Hook::Forward, priority::FILTER))
            .with_rules(self.no_loops())
            .with_rule(Rule::new().iifname(WORKLOADS).goto(FROM_DISPATCH))
            .with_rule(Rule::new().oifname(WORKLOADS).goto(TO_DISPATCH));
        let mut input = Chain::base("filter-INPUT", Base::input(priority::FILTER));
        let mut output = Chain::base("filter-OUTPUT", Base::output(priority::FILTER))
            .with_rule(Rule::new().oifname(WORKLOADS).accept().comment("A node may always talk to its own pods"));
        if let Some(port) = self.options.vxlan_port {
            let vxlan = || Rule::new().protocol(Protocol::UDP).dport(port);
            let to_us = || vxlan().address_type(FibAddress::Destination, AddressType::Local);
            let from_us = || vxlan().address_type(FibAddress::Source, AddressType::Local);
            let version = self.options.version;
            input.push(
                to_us().in_set([version.source()], VXLAN_NODES).counter().accept().comment("VXLAN from allowed hosts"),
            );
            input.push(to_us().counter().drop().comment("Drop VXLAN packets from non-allowed hosts"));
            // Source ports of VXLAN are drawn from the inner flow, so that its packets never have an answer in the
            // kernel's view; Felix keeps them out of connection tracking since v3.29.
            for (name, hook) in [("raw-PREROUTING", Hook::Prerouting), ("raw-OUTPUT", Hook::Output)] {
                let rule = vxlan().notrack().comment("VXLAN is not tracked");
                self.table.add_chain(Chain::base(name, Base::filter(hook, priority::RAW)).with_rule(rule));
            }
            output.push(
                from_us()
                    .in_set([version.destination()], VXLAN_NODES)
                    .counter()
                    .accept()
                    .comment("VXLAN to other allowed hosts"),
            );
        }
        input.push(Rule::new().iifname(WORKLOADS).goto(FROM_DISPATCH));
        [forward, input, output].into_iter().for_each(|chain| self.table.add_chain(chain));
    }

    /// Felix's chain `cali-cidr-block`: after services were translated, nobody is left who has such an address.
    fn no_loops(&self) -> Vec<Rule> {
        let Some(loops) = &self.options.loops else { return Vec::new() };
        let version = self.options.version;
        let blocks = loops.blocks.iter().filter(|block| version.includes(block.addr()));
        let rule = |block: &IpNet| {
            let rule = Rule::new().daddr_in(*block).counter();
            let rule = if loops.reject { rule.reject(Reject::PortUnreachable) } else { rule.drop() };
            rule.comment("Prevent routing loops of service addresses")
        };
        blocks.map(rule).collect()
    }

    /// Addresses of the nodes on the wire, this one's too.
    fn vxlan_nodes(&mut self) {
        let version = self.options.version;
        let mut set = Set::new(VXLAN_NODES, [version.key_type()]);
        let ips = self.world.nodes.values().flat_map(|node| &node.ips);
        ips.filter(|ip| version.includes(**ip)).for_each(|ip| set.insert_address(*ip));
        self.table.add_set(set);
    }
}

/// Ingress always, unless `policyTypes` names others; egress where there are egress rules or `policyTypes` says so.
fn isolates(spec: &NetworkPolicySpec, side: Side) -> bool {
    match (&spec.policy_types, side) {
        (Some(types), _) if !types.is_empty() => types.iter().any(|named| named == side.policy_type()),
        (_, Side::Ingress) => true,
        (_, Side::Egress) => spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
    }
}

fn chain_name(prefix: &str, policy: &PodName) -> String {
    let mut name = format!("{prefix}{}.{}", policy.namespace, policy.name);
    if name.len() > CHAIN_NAME {
        let digest = digest(&name);
        name.truncate(CHAIN_NAME - digest.len() - 1);
        name = format!("{name}-{digest}");
    }
    name
}
