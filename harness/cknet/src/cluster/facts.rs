//! Facts that only a running cluster knows and that a scenario may refer to: `${workload.NAME.ip}` and its like.

use std::collections::HashMap;

use serde_json::Value;

use super::Cluster;
use super::objects::{Coordinates, ObjectError};
use super::workloads::Placed;
use crate::scenario::LateFact;
use crate::scenario::model::Scenario;

/// What is known by now.
#[derive(Clone, Debug, Default)]
pub struct RunFacts(HashMap<LateFact, String>);

impl RunFacts {
    /// The value of a fact, if it is known.
    pub fn lookup(&self, fact: &LateFact) -> Option<String> {
        self.0.get(fact).cloned()
    }

    /// Asks the cluster for everything that a scenario could refer to.
    pub async fn gather(cluster: &Cluster, scenario: &Scenario, placed: &Placed) -> Result<Self, ObjectError> {
        let mut facts = Self::default();
        for (name, pod) in &placed.pods {
            facts.0.insert(LateFact::WorkloadIp(name.clone()), pod.address.to_string());
        }
        for (name, service) in scenario.services.iter() {
            let at = Coordinates {
                api_version: "v1".into(),
                kind: "Service".into(),
                namespace: Some(service.namespace.as_str().into()),
                name: name.as_str().into(),
            };
            if let Some(address) = cluster.objects.get(&at).await?.as_ref().and_then(cluster_ip) {
                facts.0.insert(LateFact::ServiceClusterIp(name.clone()), address);
            }
        }
        let blocks = cluster.objects.list("crd.projectcalico.org/v1", "IPAMBlock", None, None).await;
        // Only Calico keeps blocks; elsewhere the fact stays unknown.
        let mut blocks = blocks.unwrap_or_default();
        blocks.sort_by_key(|block| block["spec"]["cidr"].to_string());
        for name in scenario.topology.members() {
            let registered = cluster.nodes.registered(name.as_str());
            let affinity = format!("host:{registered}");
            let own = blocks.iter().find(|block| block["spec"]["affinity"] == affinity);
            if let Some(cidr) = own.and_then(|block| block["spec"]["cidr"].as_str()) {
                facts.0.insert(LateFact::NodePodBlock(name.clone()), cidr.to_string());
            }
            let at =
                Coordinates { api_version: "v1".into(), kind: "Node".into(), namespace: None, name: registered.into() };
            let node = cluster.objects.get(&at).await?.unwrap_or_default();
            let tunnel = &node["metadata"]["annotations"]["projectcalico.org/IPv4VXLANTunnelAddr"];
            if let Some(address) = tunnel.as_str() {
                facts.0.insert(LateFact::NodeTunnelAddress(name.clone()), address.to_string());
            }
        }
        Ok(facts)
    }
}

fn cluster_ip(service: &Value) -> Option<String> {
    service["spec"]["clusterIP"].as_str().filter(|address| *address != "None").map(str::to_string)
}
