//! Addresses for a cluster that does not run: made up, each where a real one would be.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::IpNet;

use crate::scenario::LateFact;
use crate::scenario::model::{NodeName, Scenario, Workload, WorkloadName};

/// Service addresses below are taken by `kubernetes` and the cluster's DNS.
const FIRST_SERVICE: u32 = 20;

/// Made-up values of the facts that only a running cluster knows.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    facts: BTreeMap<LateFact, String>,
    /// How many addresses of each node's block are taken.
    taken: BTreeMap<String, u32>,
}

impl Addresses {
    /// A block for each node, of which the first address is the overlay's, and an address for each service.
    ///
    /// Only IPv4: clusters of IPv6 networks cannot be made yet, and get none.
    pub fn plan(scenario: &Scenario) -> Self {
        let mut plan = Self::default();
        let (IpNet::V4(pods), IpNet::V4(services)) =
            (scenario.cluster.pod_cidr.net(), scenario.cluster.service_cidr.net())
        else {
            return plan;
        };
        let length = scenario.cluster.block_size.prefix_len();
        let size = 1u32.checked_shl(u32::from(32u8.saturating_sub(length))).unwrap_or(0);
        for (number, name) in (0u32..).zip(scenario.topology.members()) {
            let first = Ipv4Addr::from(u32::from(pods.network()).wrapping_add(number.wrapping_mul(size)));
            plan.facts.insert(LateFact::NodePodBlock(name.clone()), format!("{first}/{length}"));
            plan.facts.insert(LateFact::NodeTunnelAddress(name.clone()), first.to_string());
        }
        for (number, name) in (FIRST_SERVICE..).zip(scenario.services.names()) {
            let address = Ipv4Addr::from(u32::from(services.network()).wrapping_add(number));
            plan.facts.insert(LateFact::ServiceClusterIp(name.clone()), address.to_string());
        }
        plan.seat(
            scenario,
            &scenario.workloads.iter().map(|(name, workload)| (name.clone(), workload.clone())).collect(),
        );
        plan
    }

    /// Gives the workloads that have none yet an address of their node.
    pub fn seat(&mut self, scenario: &Scenario, workloads: &BTreeMap<WorkloadName, Workload>) {
        for (name, workload) in workloads {
            let fact = LateFact::WorkloadIp(name.clone());
            if self.facts.contains_key(&fact) {
                continue;
            }
            let address = if workload.host_network || !scenario.topology.is_member(&workload.node) {
                scenario.topology.address(&workload.node).map(|address| address.to_string())
            } else {
                self.next_of(&workload.node)
            };
            self.facts.extend(address.map(|address| (fact, address)));
        }
    }

    /// The value of a fact.
    pub fn of(&self, fact: &LateFact) -> Option<String> {
        self.facts.get(fact).cloned()
    }

    fn next_of(&mut self, node: &NodeName) -> Option<String> {
        let tunnel: Ipv4Addr = self.of(&LateFact::NodeTunnelAddress(node.clone()))?.parse().ok()?;
        let taken = self.taken.entry(node.to_string()).or_default();
        *taken += 1;
        Some(Ipv4Addr::from(u32::from(tunnel).wrapping_add(*taken)).to_string())
    }
}
