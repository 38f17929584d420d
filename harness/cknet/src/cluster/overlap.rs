//! Networks that machines are in besides those of the topology: the one by which their provider manages them, or a
//! bridge that was there before. None may share addresses with the cluster: packets would go astray, and what is seen
//! would be no statement about anything.

use std::collections::BTreeSet;
use std::time::Duration;

use cknet_probe::facts::Facts;
use ipnet::{IpNet, Ipv4Net};

use super::ClusterError;
use crate::distribution::ClusterSpec;
use crate::provider::{Invocation, Node, NodeError, Nodes};

/// Longest time for a machine to tell its addresses.
const FACTS: Duration = Duration::from_secs(30);

/// Looks at every machine.
///
/// # Errors
/// When a network of its own overlaps, or a machine cannot be asked.
pub async fn none(nodes: &Nodes, spec: &ClusterSpec) -> Result<(), ClusterError> {
    let mut wanted = vec![("the pods", spec.pod_cidr.trunc()), ("the services", spec.service_cidr.trunc())];
    let segments: BTreeSet<Ipv4Net> =
        nodes.by_name.values().flat_map(|node| node.addresses().values().map(Ipv4Net::trunc)).collect();
    wanted.extend(segments.into_iter().map(|segment| ("a segment of the topology", segment)));
    let looks = nodes.by_name.values().map(|node| look(node.as_ref(), &wanted));
    futures::future::try_join_all(looks).await.map(|_| ())
}

async fn look(node: &dyn Node, wanted: &[(&str, Ipv4Net)]) -> Result<(), ClusterError> {
    for (interface, own) in own_networks(node).await.map_err(ClusterError::Node)? {
        let hit = wanted.iter().find(|(_, network)| network.contains(&own) || own.contains(network));
        if let Some((of, network)) = hit {
            let (node, of) = (node.name().to_string(), (*of).to_string());
            return Err(ClusterError::Overlap { node, interface, own, of, network: *network });
        }
    }
    Ok(())
}

/// The networks of interfaces that are none of the topology's.
async fn own_networks(node: &dyn Node) -> Result<Vec<(String, Ipv4Net)>, NodeError> {
    let told = node.run(Invocation::new(["cknet", "facts", "addresses"]), FACTS).await?;
    let facts: Facts = serde_json::from_slice(&told.stdout).map_err(|error| NodeError::Failed {
        node: node.name().into(),
        doing: "read its addresses".into(),
        cause: if told.succeeded() { error.to_string() } else { told.complaint() },
    })?;
    let others = facts.addresses.into_iter().filter(|address| !node.addresses().contains_key(&address.link));
    // RT_SCOPE_HOST is the loopback's (`linux/rtnetlink.h`).
    let global = others.filter(|address| address.scope != "host");
    Ok(global
        .filter_map(|address| match address.address {
            IpNet::V4(network) => Some((address.link, network.trunc())),
            IpNet::V6(_) => None,
        })
        .collect())
}
