//! Findings about name resolution: what egress isolation takes from those who forget DNS.

use super::{Finding, Review};
use crate::flow::{Endpoint, Flow, Target};
use crate::labels::Selector;
use crate::oracle::Oracle;
use crate::policy::{Direction, NetworkPolicy, PortRange};
use crate::profile::Profile;
use crate::snapshot::{Pod, Snapshot};
use crate::transport::{PortRef, Protocol};

/// The port of DNS.
const DNS: u16 = 53;

impl Review<'_> {
    pub(super) fn name_resolution(&mut self) {
        if !self.policy.isolates(Direction::Egress) {
            return;
        }
        let policies = self.policies_with_this();
        let resolves = self.resolution(&policies);
        let names = |deaf: &dyn Fn(&Pod) -> bool| -> Vec<String> {
            let pods = self.subjects().filter(|pod| !pod.host_network);
            pods.filter(|pod| deaf(pod))
                .map(ToString::to_string)
                .collect()
        };
        let without_udp = names(&|pod| !resolves(pod, Protocol::Udp));
        let without_tcp =
            names(&|pod| resolves(pod, Protocol::Udp) && !resolves(pod, Protocol::Tcp));
        drop(resolves);
        if !without_udp.is_empty() {
            self.advise(
                "spec.egress",
                Finding::NoNameResolution { pods: without_udp },
            );
        }
        if !without_tcp.is_empty() {
            let pods = without_tcp;
            self.advise("spec.egress", Finding::NameResolutionWithoutTcp { pods });
        }
    }

    fn policies_with_this(&self) -> Vec<NetworkPolicy> {
        let mut policies = self.snapshot.policies.clone();
        policies.retain(|other| {
            (&other.namespace, &other.name) != (&self.policy.namespace, &self.policy.name)
        });
        policies.push(self.policy.clone());
        policies
    }

    /// Whether a pod reaches DNS over a protocol. Where the snapshot has no DNS server, any rule
    /// for its port will do.
    fn resolution(&self, policies: &[NetworkPolicy]) -> Box<dyn Fn(&Pod, Protocol) -> bool> {
        let servers = self.dns_servers();
        let policies = policies.to_vec();
        if servers.is_empty() {
            return Box::new(move |pod, protocol| has_rule_for_dns(&policies, pod, protocol));
        }
        let cluster = Snapshot {
            policies,
            ..self.snapshot.clone()
        };
        let oracle = Oracle::new(&cluster, Profile::calico());
        Box::new(move |pod, protocol| {
            let from = Endpoint::pod(&pod.namespace, &pod.name);
            servers.iter().any(|(target, port)| {
                let flow = Flow::over(protocol, from.clone(), target.clone(), *port);
                // A pod without an address resolves nothing yet, whatever the policies say.
                oracle
                    .predict(&flow)
                    .is_ok_and(|answer| answer.source().is_some_and(|because| because.passes()))
            })
        })
    }

    /// The backends of every Service for DNS, and the port where each listens.
    fn dns_servers(&self) -> Vec<(Target, u16)> {
        let mut servers = Vec::new();
        for service in &self.snapshot.services {
            let Some(port) = service.port(DNS, Protocol::Udp) else {
                continue;
            };
            let selector = Selector::labels(&service.selector);
            let backends = self.pods.iter().filter(|pod| {
                !service.selector.is_empty()
                    && pod.namespace == service.namespace
                    && selector.matches(&pod.labels)
            });
            for pod in backends {
                let number = match &port.target {
                    PortRef::Number(number) => Some(*number),
                    PortRef::Name(name) => pod.numbers_of(name, Protocol::Udp).next(),
                };
                let target = Target::pod(&pod.namespace, &pod.name);
                servers.extend(number.map(|number| (target, number)));
            }
        }
        servers
    }
}

fn has_rule_for_dns(policies: &[NetworkPolicy], pod: &Pod, protocol: Protocol) -> bool {
    let mut isolating = policies
        .iter()
        .filter(|policy| policy.namespace == pod.namespace && policy.pods.matches(&pod.labels))
        .filter(|policy| policy.isolates(Direction::Egress));
    isolating.any(|policy| {
        policy.egress.iter().any(|rule| {
            rule.ports.is_empty()
                || rule.ports.iter().any(|port| {
                    port.protocol == protocol
                        && match &port.port {
                            PortRange::Any | PortRange::Named(_) => true,
                            PortRange::Numbers { first, last } => (*first..=*last).contains(&DNS),
                        }
                })
        })
    })
}
