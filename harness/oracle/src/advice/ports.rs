//! Findings about `ports`: names that nobody serves, numbers that are a Service's.

use std::collections::BTreeSet;

use super::{Finding, Review, RuleAt};
use crate::labels::Selector;
use crate::policy::{Direction, PortMatch, PortRange};
use crate::snapshot::{Pod, Service, ServicePort};
use crate::transport::{PortOf, PortRef, Protocol};

impl<'a> Review<'a> {
    pub(super) fn ports(&mut self, at: &RuleAt<'_>) {
        let servers = self.servers(at);
        // Of nobody, nothing can be said that is not said of the selector already.
        if servers.is_empty() {
            return;
        }
        for (position, port) in at.rule.ports.iter().enumerate() {
            let finding = match &port.port {
                PortRange::Named(name) => unserved(&servers, name, port.protocol),
                PortRange::Numbers { first, last } if first == last => self.of_service(&servers, *first, port),
                PortRange::Numbers { .. } | PortRange::Any => None,
            };
            if let Some(finding) = finding {
                self.advise(format!("{}.ports[{position}]", at.path()), finding);
            }
        }
    }

    /// The pods that the ports of a rule are about.
    fn servers(&self, at: &RuleAt<'_>) -> Vec<&'a Pod> {
        match at.direction {
            Direction::Ingress => self.subjects().collect(),
            Direction::Egress => {
                let peers = &at.rule.peers;
                let pods = self.pods.iter().copied();
                pods.filter(|pod| peers.is_empty() || peers.iter().any(|peer| self.means(peer, pod))).collect()
            }
        }
    }

    fn of_service(&self, servers: &[&Pod], number: u16, port: &PortMatch) -> Option<Finding> {
        let port = PortOf { number, protocol: port.protocol };
        let leads_here = |service: &&Service| {
            let selector = Selector::labels(&service.selector);
            !service.selector.is_empty()
                && servers.iter().any(|pod| pod.namespace == service.namespace && selector.matches(&pod.labels))
        };
        let declared = servers.iter().any(|pod| pod.ports.iter().any(|one| one.port() == port));
        let services: Vec<_> = self.snapshot.services.iter().filter(leads_here).collect();
        let is_target = |one: &ServicePort| one.protocol == port.protocol && one.target == PortRef::Number(number);
        if declared || services.iter().any(|service| service.ports.iter().any(is_target)) {
            return None;
        }
        services.iter().find_map(|service| {
            let found = service.port(number, port.protocol)?;
            Some(Finding::PortOfService { port, service: service.to_string(), target: found.target.to_string() })
        })
    }
}

fn unserved(servers: &[&Pod], name: &str, protocol: Protocol) -> Option<Finding> {
    let numbers_for =
        |protocol| -> BTreeSet<u16> { servers.iter().flat_map(|pod| pod.numbers_of(name, protocol)).collect() };
    let numbers = numbers_for(protocol);
    match numbers.len() {
        1 => None,
        0 => {
            let mut others = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter();
            Some(Finding::PortNameUnserved {
                name: name.to_owned(),
                protocol,
                other: others.find(|other| !numbers_for(*other).is_empty()),
            })
        }
        _ => Some(Finding::PortNameDiffers { name: name.to_owned(), numbers: numbers.into_iter().collect() }),
    }
}
