//! Inside one service port: drawing an endpoint, staying with it, translating, and who is masqueraded.

use std::net::IpAddr;

use cknet_kernel::nft::{AddressType, Chain, FibAddress, Field, Rule, Set, Table, Value, Verdict};
use sha2::{Digest, Sha256};

use super::compile::{MARK_CHAIN, NodeView, protocol_name};
use super::service::{Endpoint, ServicePort, TrafficPolicy};

/// The kernel takes names of 255 bytes; the digest in front keeps cut ones apart.
const NAME_BYTES: usize = 200;

/// The chains and sets of one service port.
pub(super) struct ServiceChains<'a> {
    service: &'a ServicePort,
    node: &'a NodeView,
    anywhere: Vec<&'a Endpoint>,
    here: Vec<&'a Endpoint>,
}

pub(super) fn of<'a>(service: &'a ServicePort, node: &'a NodeView) -> ServiceChains<'a> {
    let anywhere = service.usable(node.v4, None);
    let here = service.usable(node.v4, Some(&node.name));
    ServiceChains { service, node, anywhere, here }
}

impl ServiceChains<'_> {
    /// The chain for traffic to a cluster address, if anyone may answer.
    pub(super) fn cluster_entry(&self, ip: IpAddr) -> Option<String> {
        (!self.candidates(self.service.internal).is_empty()).then(|| self.cluster_chain(ip))
    }

    /// The chain for traffic to node ports and external addresses, if there is any endpoint.
    pub(super) fn external_entry(&self) -> Option<String> {
        (!self.anywhere.is_empty()).then(|| self.name("external", ""))
    }

    /// Puts everything into the table.
    pub(super) fn write(&self, table: &mut Table) {
        if self.anywhere.is_empty() {
            return;
        }
        for ip in self.service.cluster_ips.iter().filter(|ip| self.node.includes(ip)) {
            if let Some(name) = self.cluster_entry(*ip) {
                table.add_chain(Chain::new(name).with_rules(self.to_cluster_address()));
            }
        }
        table.add_chain(self.drawing("service", &self.anywhere));
        if !self.here.is_empty() {
            table.add_chain(self.drawing("local", &self.here));
        }
        if self.service.node_port.is_some() || !self.service.external_ips.is_empty() {
            table.add_chain(Chain::new(self.name("external", "")).with_rules(self.to_external_address()));
        }
        // Endpoints here are a part of those anywhere, unless only leaving ones are here.
        for endpoint in self.anywhere.iter().chain(&self.here) {
            table.add_chain(self.translating(endpoint));
            if let Some(timeout) = self.service.affinity {
                table.add_set(Set::dynamic(self.affinity_set(endpoint), [self.node.address_type()], timeout));
            }
        }
    }

    fn candidates(&self, policy: TrafficPolicy) -> &[&Endpoint] {
        if policy == TrafficPolicy::Local { &self.here } else { &self.anywhere }
    }

    fn cluster_chain(&self, ip: IpAddr) -> String {
        self.name("cluster", &format!("__{ip}"))
    }

    fn drawing_chain(&self, policy: TrafficPolicy) -> String {
        self.name(if policy == TrafficPolicy::Local { "local" } else { "service" }, "")
    }

    /// What does not come from a pod would be answered past this node.
    fn to_cluster_address(&self) -> Vec<Rule> {
        let outside = self.node.pod_cidr.filter(|cidr| self.node.includes(&cidr.addr()));
        let masquerade = outside.map(|cidr| Rule::new().saddr_not_in(cidr).jump(MARK_CHAIN));
        masquerade.into_iter().chain([Rule::new().goto(self.drawing_chain(self.service.internal))]).collect()
    }

    fn to_external_address(&self) -> Vec<Rule> {
        if self.service.external == TrafficPolicy::Cluster {
            let draw = Rule::new().goto(self.drawing_chain(TrafficPolicy::Cluster));
            return vec![Rule::new().jump(MARK_CHAIN), draw];
        }
        let anywhere = || self.drawing_chain(TrafficPolicy::Cluster);
        let from_node = || Rule::new().address_type(FibAddress::Source, AddressType::Local);
        let from_pods = self.node.pod_cidr.filter(|cidr| self.node.includes(&cidr.addr()));
        let mut rules = Vec::new();
        // Pods and this node are inside already: for them any endpoint will do.
        rules.extend(from_pods.map(|cidr| Rule::new().saddr_in(cidr).goto(anywhere())));
        rules.push(from_node().jump(MARK_CHAIN));
        rules.push(from_node().goto(anywhere()));
        if !self.here.is_empty() {
            rules.push(Rule::new().goto(self.drawing_chain(TrafficPolicy::Local)));
        }
        rules
    }

    /// Clients that were here before go where they went; others are drawn an endpoint.
    fn drawing(&self, kind: &str, endpoints: &[&Endpoint]) -> Chain {
        let mut chain = Chain::new(self.name(kind, ""));
        if self.service.affinity.is_some() {
            for endpoint in endpoints {
                let known = Rule::new().in_set([self.node.source()], self.affinity_set(endpoint));
                chain.push(known.goto(self.endpoint_chain(endpoint)));
            }
        }
        let draw = Field::Random { modulus: endpoints.len() as u32 };
        let verdicts = endpoints
            .iter()
            .zip(0u32..)
            .map(|(endpoint, number)| (Value::host(number), Verdict::Goto(self.endpoint_chain(endpoint))));
        chain.with_rule(Rule::new().counter().verdict_among(draw, verdicts))
    }

    fn translating(&self, endpoint: &Endpoint) -> Chain {
        let mut chain = Chain::new(self.endpoint_chain(endpoint));
        // An endpoint that is drawn for itself would answer itself directly, not the service.
        chain.push(Rule::new().saddr(endpoint.ip).jump(MARK_CHAIN));
        let mut rule = Rule::new().protocol(self.service.protocol).counter();
        if self.service.affinity.is_some() {
            rule = rule.remember([self.node.source()], self.affinity_set(endpoint));
        }
        chain.with_rule(rule.dnat(endpoint.ip, Some(endpoint.port)))
    }

    fn endpoint_chain(&self, endpoint: &Endpoint) -> String {
        self.name("endpoint", &format!("__{}/{}", endpoint.ip, endpoint.port))
    }

    fn affinity_set(&self, endpoint: &Endpoint) -> String {
        self.name("affinity", &format!("__{}/{}", endpoint.ip, endpoint.port))
    }

    /// For example `endpoint-5OJB2KTY-ns/web/tcp/http__10.1.0.5/8080`.
    fn name(&self, kind: &str, suffix: &str) -> String {
        let service = self.service;
        let protocol = protocol_name(service.protocol);
        let subject = format!("{}/{protocol}/{}{suffix}", service.service, service.name);
        let digest: String = Sha256::digest(&subject).iter().take(5).map(|byte| format!("{byte:02x}")).collect();
        let mut name = format!("{kind}-{digest}-{subject}");
        name.truncate(NAME_BYTES);
        name
    }
}
