//! The interfaces that machines have besides those of the topology: the one by which their provider manages them, or a
//! bridge that was there before.
//!
//! None may share addresses with the cluster: packets would go astray, and what is seen would be no statement about
//! anything. And none is a candidate for the address of a node: `first-found` means the first of the topology.

use std::collections::BTreeSet;
use std::time::Duration;

use cknet_probe::facts::Facts;
use cknet_reference::node::calico::is_passed_over;
use ipnet::{IpNet, Ipv4Net};

use super::ClusterError;
use crate::distribution::ClusterSpec;
use crate::provider::{Invocation, Node, NodeError, Nodes};

/// Longest time for a machine to tell its addresses.
const FACTS: Duration = Duration::from_secs(30);

/// What one machine has.
#[derive(Debug)]
struct OfNode {
    node: String,
    /// Of each interface its name and a network that it is in.
    networks: Vec<(String, Ipv4Net)>,
}

/// What the machines of a cluster have.
#[derive(Debug)]
pub struct Foreign(Vec<OfNode>);

impl Foreign {
    /// Asks every machine.
    ///
    /// # Errors
    /// When one cannot be asked.
    pub async fn ask(nodes: &Nodes) -> Result<Self, ClusterError> {
        let each = nodes.by_name.values().map(|node| ask(node.as_ref()));
        futures::future::try_join_all(each).await.map(Self).map_err(ClusterError::Node)
    }

    /// # Errors
    /// When one of their networks overlaps what the cluster shall have.
    pub fn leave_alone(&self, nodes: &Nodes, spec: &ClusterSpec) -> Result<(), ClusterError> {
        let mut wanted = vec![("the pods", spec.pod_cidr.trunc()), ("the services", spec.service_cidr.trunc())];
        let segments: BTreeSet<Ipv4Net> =
            nodes.by_name.values().flat_map(|node| node.addresses().values().map(Ipv4Net::trunc)).collect();
        wanted.extend(segments.into_iter().map(|segment| ("a segment of the topology", segment)));
        for OfNode { node, networks } in &self.0 {
            for (interface, own) in networks {
                let hit = wanted.iter().find(|(_, network)| network.contains(own) || own.contains(network));
                if let Some((of, network)) = hit {
                    let (node, interface, of) = (node.clone(), interface.clone(), (*of).to_string());
                    return Err(ClusterError::Overlap { node, interface, own: *own, of, network: *network });
                }
            }
        }
        Ok(())
    }

    /// A method of Calico's that looks at all interfaces, so that it passes over these. The other methods say
    /// themselves which they want.
    pub fn passed_over(&self, autodetection: &str) -> String {
        let candidates: BTreeSet<&str> = self
            .0
            .iter()
            .flat_map(|of| of.networks.iter().map(|(interface, _)| interface.as_str()))
            .filter(|interface| !is_passed_over(interface))
            .collect();
        let patterns = candidates.into_iter().map(|name| format!("^{}$", regex_lite::escape(name)));
        let mut all: Vec<String> = match autodetection.split_once('=') {
            None if autodetection == "first-found" => Vec::new(),
            Some(("skip-interface", pattern)) => vec![pattern.into()],
            _ => return autodetection.into(),
        };
        all.extend(patterns);
        if all.is_empty() { autodetection.into() } else { format!("skip-interface={}", all.join(",")) }
    }
}

async fn ask(node: &dyn Node) -> Result<OfNode, NodeError> {
    let told = node.run(Invocation::new(["cknet", "facts", "addresses"]), FACTS).await?;
    let facts: Facts = serde_json::from_slice(&told.stdout).map_err(|error| NodeError::Failed {
        node: node.name().into(),
        doing: "read its addresses".into(),
        cause: if told.succeeded() { error.to_string() } else { told.complaint() },
    })?;
    let others = facts.addresses.into_iter().filter(|address| !node.addresses().contains_key(&address.link));
    // RT_SCOPE_HOST is the loopback's (`linux/rtnetlink.h`).
    let global = others.filter(|address| address.scope != "host");
    let networks = global
        .filter_map(|address| match address.address {
            IpNet::V4(network) => Some((address.link, network.trunc())),
            IpNet::V6(_) => None,
        })
        .collect();
    Ok(OfNode { node: node.name().into(), networks })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn foreign(interfaces: &[&str]) -> Foreign {
        let network: Ipv4Net = "172.17.0.0/16".parse().unwrap();
        let networks = interfaces.iter().map(|name| ((*name).to_string(), network)).collect();
        Foreign(vec![OfNode { node: "w1".into(), networks }])
    }

    #[test]
    fn a_node_has_its_address_from_an_interface_of_the_topology() {
        for (interfaces, method, wanted) in [
            (&["ens3"][..], "first-found", "skip-interface=^ens3$"),
            (&["ens3", "ens3", "enp1s0.7"], "first-found", r"skip-interface=^enp1s0\.7$,^ens3$"),
            (&["ens3"], "skip-interface=eth0", "skip-interface=eth0,^ens3$"),
            (&["ens3"], "interface=eth1", "interface=eth1"),
            (&["ens3"], "can-reach=192.168.70.1", "can-reach=192.168.70.1"),
            // Calico passes over these without being told.
            (&["virbr-mgmt", "docker0"], "first-found", "first-found"),
            (&["virbr-mgmt"], "skip-interface=eth0", "skip-interface=eth0"),
        ] {
            assert_eq!(foreign(interfaces).passed_over(method), wanted, "{method} with {interfaces:?}");
        }
    }
}
