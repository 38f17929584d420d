//! The part of the pod network that each node is given: what `--allocate-node-cidrs` of kube-controller-manager does. It
//! gives each node once, the lowest part that is free.

use std::collections::HashMap;
use std::sync::Arc;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;

/// Size of a part: `--node-cidr-mask-size`, 24 unless given.
const PART: u8 = 24;

/// What nodes have been given.
#[derive(Debug)]
pub(super) struct Cidrs {
    network: Ipv4Net,
    given: HashMap<String, Ipv4Net>,
}

impl Cidrs {
    pub(super) fn of(network: Ipv4Net) -> Self {
        Self { network, given: HashMap::new() }
    }

    /// The nodes that have none yet, each with what it is given now.
    pub(super) fn give(&mut self, nodes: &[Arc<Node>]) -> Vec<(String, Ipv4Net)> {
        for node in nodes {
            let own = node.spec.as_ref().and_then(|spec| spec.pod_cidr.as_deref()).and_then(|cidr| cidr.parse().ok());
            if let Some(own) = own {
                self.given.insert(node.name_any(), own);
            }
        }
        let without = nodes.iter().filter(|node| node.spec.as_ref().is_none_or(|spec| spec.pod_cidr.is_none()));
        let names: Vec<String> = without.map(|node| node.name_any()).collect();
        names.into_iter().filter_map(|name| self.part(&name).map(|part| (name, part))).collect()
    }

    fn part(&mut self, node: &str) -> Option<Ipv4Net> {
        // What was given before may not have reached the watch.
        if let Some(known) = self.given.get(node) {
            return Some(*known);
        }
        let length = PART.max(self.network.prefix_len());
        let free = self.network.subnets(length).ok()?.find(|part| !self.given.values().any(|taken| taken == part))?;
        self.given.insert(node.to_string(), free);
        Some(free)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn node(name: &str, cidr: Option<&str>) -> Arc<Node> {
        Arc::new(serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"podCIDR": cidr}})).unwrap())
    }

    #[test]
    fn each_node_is_given_one_part_and_the_same_again() {
        let mut cidrs = Cidrs::of("10.42.0.0/16".parse().unwrap());
        let nodes = [node("a", Some("10.42.0.0/24")), node("b", None), node("c", None)];
        let given = cidrs.give(&nodes);
        let texts: Vec<String> = given.iter().map(|(node, cidr)| format!("{node} {cidr}")).collect();
        assert_eq!(texts, ["b 10.42.1.0/24", "c 10.42.2.0/24"]);
        assert_eq!(cidrs.give(&nodes), given);
        assert!(Cidrs::of("10.42.0.0/24".parse().unwrap()).give(&nodes[..2]).is_empty(), "nothing is left for b");
    }
}
