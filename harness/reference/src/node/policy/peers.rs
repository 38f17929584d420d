//! The other end of a rule: sets of pod addresses by selector, address ranges by block, and who serves a named port.
//!
//! Every set is made once per table, however many rules ask for it, and is named after its question, so that it keeps
//! its name while its members change. Knows the world, and no chains.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cknet_kernel::nft::{AddressRanges, KeyType, Protocol, Set, Value};
use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicyPeer};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use sha2::{Digest, Sha256};

use super::compile::{IpVersion, LocalEndpoint};
use super::selector::{selects, text};
use super::world::{Pod, PodName, World};

/// The pods that a rule is about.
#[derive(Clone, Debug)]
pub(super) enum Peer<'a> {
    /// Whoever: pods, nodes, the world outside.
    Anyone,
    Pods(PodSelection<'a>),
    Block(AddressRanges),
}

/// Pods by namespace and label.
#[derive(Clone, Debug)]
pub(super) struct PodSelection<'a> {
    pub(super) namespaces: Namespaces<'a>,
    /// `None` selects all pods.
    pub(super) pods: Option<&'a LabelSelector>,
}

#[derive(Clone, Debug)]
pub(super) enum Namespaces<'a> {
    All,
    Only(&'a str),
    Selected(&'a LabelSelector),
}

impl PodSelection<'_> {
    fn includes(&self, world: &World, name: &PodName, pod: &Pod) -> bool {
        let namespace = match &self.namespaces {
            Namespaces::All => true,
            Namespaces::Only(namespace) => name.namespace == *namespace,
            Namespaces::Selected(selector) => {
                world.namespaces.get(&name.namespace).is_some_and(|labels| selects(selector, labels))
            }
        };
        namespace && self.pods.is_none_or(|selector| selects(selector, &pod.labels))
    }

    fn text(&self) -> String {
        let pods = self.pods.map_or_else(|| "all()".into(), text);
        match &self.namespaces {
            Namespaces::All => format!("pods {pods}"),
            Namespaces::Only(namespace) => format!("pods {pods} in {namespace}"),
            Namespaces::Selected(selector) => format!("pods {pods} in namespaces {}", text(selector)),
        }
    }
}

/// The alternatives of a rule's `from` or `to` in a policy of `namespace`. Absent or empty means anyone.
pub(super) fn alternatives<'a>(
    peers: Option<&'a Vec<NetworkPolicyPeer>>,
    namespace: &'a str,
    version: IpVersion,
) -> Vec<Peer<'a>> {
    match peers {
        Some(peers) if !peers.is_empty() => peers.iter().filter_map(|peer| one(peer, namespace, version)).collect(),
        _ => vec![Peer::Anyone],
    }
}

/// `None` for a peer that can match nothing: a block of the other IP version, one without addresses, or an invalid
/// one. The API admits neither an empty peer nor a block beside selectors.
fn one<'a>(peer: &'a NetworkPolicyPeer, namespace: &'a str, version: IpVersion) -> Option<Peer<'a>> {
    let namespaces = match (&peer.ip_block, &peer.namespace_selector, &peer.pod_selector) {
        (Some(block), None, None) => return addresses(block, version).map(Peer::Block),
        (None, Some(selector), _) => Namespaces::Selected(selector),
        (None, None, Some(_)) => Namespaces::Only(namespace),
        _ => return None,
    };
    Some(Peer::Pods(PodSelection { namespaces, pods: peer.pod_selector.as_ref() }))
}

fn addresses(block: &IPBlock, version: IpVersion) -> Option<AddressRanges> {
    let cidr: IpNet = block.cidr.parse().ok().filter(|cidr: &IpNet| version.includes(cidr.addr()))?;
    let except: Result<Vec<IpNet>, _> = block.except.iter().flatten().map(|cidr| cidr.parse()).collect();
    Some(AddressRanges::difference(cidr, except.ok()?)).filter(|ranges| !ranges.is_empty())
}

/// The sets of one table under construction.
#[derive(Debug)]
pub(super) struct PeerSets<'a> {
    world: &'a World,
    /// Addresses that this node knows before the cluster does.
    local: &'a [LocalEndpoint],
    version: IpVersion,
    sets: BTreeMap<String, Set>,
}

impl<'a> PeerSets<'a> {
    pub(super) fn new(world: &'a World, local: &'a [LocalEndpoint], version: IpVersion) -> Self {
        Self { world, local, version, sets: BTreeMap::new() }
    }

    pub(super) fn into_sets(self) -> impl Iterator<Item = Set> {
        self.sets.into_values()
    }

    /// The set of addresses of the selected pods.
    pub(super) fn addresses(&mut self, selection: &PodSelection<'_>) -> String {
        let question = selection.text();
        let name = set_name("cali-s", &question);
        if !self.sets.contains_key(&name) {
            let mut set = Set::new(&name, [self.version.key_type()]).comment(question);
            self.members(selection).into_iter().for_each(|(address, _)| set.insert_address(address));
            self.sets.insert(name.clone(), set);
        }
        name
    }

    /// The set of (address, protocol, port) under which the selected pods serve the named port.
    pub(super) fn named_port(&mut self, selection: &PodSelection<'_>, protocol: Protocol, port: &str) -> String {
        let question = format!("port {port}/{} of {}", protocol.0, selection.text());
        let name = set_name("cali-n", &question);
        if !self.sets.contains_key(&name) {
            let key = [self.version.key_type(), KeyType::Protocol, KeyType::Port];
            let mut set = Set::new(&name, key).comment(question);
            for (address, pod) in self.members(selection) {
                let serving = pod.ports.iter().filter(|served| served.name == port && served.protocol == protocol);
                serving.for_each(|served| set.insert(service_key(address, protocol, served.port)));
            }
            self.sets.insert(name.clone(), set);
        }
        name
    }

    fn members(&self, selection: &PodSelection<'_>) -> Vec<(IpAddr, &'a Pod)> {
        let (world, mut members) = (self.world, Vec::new());
        for (name, pod) in &world.pods {
            if pod.has_network() && selection.includes(world, name, pod) {
                members.extend(pod.ips.iter().map(|address| (*address, pod)));
                if pod.ips.is_empty() {
                    let known = self.local.iter().filter(|endpoint| endpoint.pod == *name);
                    members.extend(known.map(|endpoint| (endpoint.ip, pod)));
                }
            }
        }
        members.retain(|(address, _)| self.version.includes(*address));
        members
    }
}

/// An address, a protocol and a port as one key.
pub(super) fn service_key(address: IpAddr, protocol: Protocol, port: u16) -> Value {
    Value::concat([address.into(), protocol.into(), port.into()])
}

fn set_name(kind: &str, question: &str) -> String {
    format!("{kind}-{}", digest(question))
}

/// Sixteen characters that stand for `text`.
pub(super) fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
