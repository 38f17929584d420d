//! Findings about name resolution: what egress isolation takes from those who forget DNS.

use super::{Finding, Review};
use crate::flow::{Endpoint, Flow, Target};
use crate::labels::Selector;
use crate::oracle::Oracle;
use crate::policy::{Direction, NetworkPolicy, PortRange};
use crate::prediction::Because;
use crate::profile::Profile;
use crate::snapshot::{Pod, Snapshot};
use crate::transport::{PortRef, Protocol};

/// The port of DNS.
const DNS: u16 = 53;

/// How to find out whether a pod reaches DNS.
enum Resolution {
    /// By asking for each server.
    Servers { oracle: Box<Oracle>, servers: Vec<(Target, u16)> },
    /// By looking for a rule for the port, where the snapshot has no DNS server.
    AnyRule { policies: Vec<NetworkPolicy> },
}

impl Review<'_> {
    pub(super) fn name_resolution(&mut self) {
        if !self.policy.isolates(Direction::Egress) {
            return;
        }
        let resolution = self.resolution();
        let pods: Vec<_> = self.subjects().filter(|pod| !pod.host_network).collect();
        let (resolving, deaf): (Vec<_>, Vec<_>) =
            pods.into_iter().partition(|pod| resolution.works(pod, Protocol::Udp));
        let lacking_tcp = resolving.into_iter();
        let lacking_tcp = lacking_tcp.filter(|pod| !resolution.works(pod, Protocol::Tcp));
        let deaf: Vec<_> = deaf.iter().map(ToString::to_string).collect();
        let lacking_tcp: Vec<_> = lacking_tcp.map(ToString::to_string).collect();
        if !deaf.is_empty() {
            self.advise("spec.egress", Finding::NoNameResolution { pods: deaf });
        }
        if !lacking_tcp.is_empty() {
            let pods = lacking_tcp;
            self.advise("spec.egress", Finding::NameResolutionWithoutTcp { pods });
        }
    }

    fn resolution(&self) -> Resolution {
        let policies = self.policies_with_this();
        let servers = self.dns_servers();
        if servers.is_empty() {
            return Resolution::AnyRule { policies };
        }
        let cluster = Snapshot { policies, ..self.snapshot.clone() };
        Resolution::Servers { oracle: Box::new(Oracle::new(&cluster, Profile::calico())), servers }
    }

    fn policies_with_this(&self) -> Vec<NetworkPolicy> {
        let mut policies = self.snapshot.policies.clone();
        policies.retain(|other| (&other.namespace, &other.name) != (&self.policy.namespace, &self.policy.name));
        policies.push(self.policy.clone());
        policies
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
                !service.selector.is_empty() && pod.namespace == service.namespace && selector.matches(&pod.labels)
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

impl Resolution {
    fn works(&self, pod: &Pod, protocol: Protocol) -> bool {
        match self {
            Self::Servers { oracle, servers } => servers.iter().any(|(server, port)| {
                let from = Endpoint::pod(&pod.namespace, &pod.name);
                let flow = Flow::over(protocol, from, server.clone(), *port);
                match oracle.predict(&flow) {
                    Ok(answer) => answer.source().is_some_and(Because::passes),
                    // A pod without an address resolves nothing yet, whatever the policies say.
                    Err(_) => true,
                }
            }),
            Self::AnyRule { policies } => has_rule_for_dns(policies, pod, protocol),
        }
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
