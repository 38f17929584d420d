//! From a manifest to a policy: the checks that the API server makes of `networking.k8s.io/v1`.
//!
//! Must not know what a rule means.

use ipnet::IpNet;

use super::invalid::{Fault, InvalidPolicy, Problem};
use super::manifest::{
    Manifest, NumberOrName, WrittenBlock, WrittenExpression, WrittenPeer, WrittenPort, WrittenSelector,
};
use super::{Direction, IpBlock, NetworkPolicy, Peer, PortMatch, PortRange, Rule};
use crate::labels::{Requirement, Selector};
use crate::transport::Protocol;

impl TryFrom<Manifest> for NetworkPolicy {
    type Error = InvalidPolicy;

    fn try_from(manifest: Manifest) -> Result<Self, InvalidPolicy> {
        let Manifest { metadata, spec } = manifest;
        let mut check = Check::default();
        let pods = check.selector("spec.podSelector", spec.pod_selector);
        let ingress = spec.ingress.unwrap_or_default().into_iter().enumerate();
        let ingress = ingress.map(|(at, rule)| check.rule(Direction::Ingress, at, rule.from, rule.ports)).collect();
        let egress = spec.egress.unwrap_or_default().into_iter().enumerate();
        let egress = egress.map(|(at, rule)| check.rule(Direction::Egress, at, rule.to, rule.ports)).collect();
        let types = check.types(spec.policy_types.unwrap_or_default());
        let policy = Self {
            namespace: metadata.namespace.unwrap_or_else(|| "default".to_owned()),
            name: metadata.name,
            pods,
            ingress,
            egress,
            types,
        };
        if check.problems.is_empty() {
            Ok(policy)
        } else {
            Err(InvalidPolicy { policy: policy.to_string(), problems: check.problems })
        }
    }
}

/// Gathers all problems of one policy instead of stopping at the first. What a faulty field is
/// read as does not matter: the policy is refused.
#[derive(Default)]
struct Check {
    problems: Vec<Problem>,
}

impl Check {
    fn refuse(&mut self, path: impl Into<String>, fault: Fault) {
        self.problems.push(Problem { path: path.into(), fault });
    }

    fn types(&mut self, written: Vec<String>) -> Vec<Direction> {
        if written.len() > 2 {
            self.refuse("spec.policyTypes", Fault::TooManyPolicyTypes(written.len()));
        }
        let mut types = Vec::new();
        for (at, name) in written.into_iter().enumerate() {
            match name.as_str() {
                "Ingress" => types.push(Direction::Ingress),
                "Egress" => types.push(Direction::Egress),
                _ => self.refuse(format!("spec.policyTypes[{at}]"), Fault::NotAPolicyType(name)),
            }
        }
        types
    }

    fn rule(
        &mut self,
        direction: Direction,
        at: usize,
        peers: Option<Vec<WrittenPeer>>,
        ports: Option<Vec<WrittenPort>>,
    ) -> Rule {
        let path = format!("spec.{direction}[{at}]");
        let list = direction.peer_list();
        let peers = peers.unwrap_or_default().into_iter().enumerate();
        let ports = ports.unwrap_or_default().into_iter().enumerate();
        Rule {
            ports: ports.filter_map(|(at, port)| self.port(&format!("{path}.ports[{at}]"), port)).collect(),
            peers: peers.filter_map(|(at, peer)| self.peer(&format!("{path}.{list}[{at}]"), peer)).collect(),
        }
    }

    fn peer(&mut self, path: &str, peer: WrittenPeer) -> Option<Peer> {
        let has_selector = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
        match peer.ip_block {
            Some(_) if has_selector => {
                self.refuse(path, Fault::BlockBesideSelector);
                None
            }
            Some(block) => self.block(&format!("{path}.ipBlock"), block),
            None if !has_selector => {
                self.refuse(path, Fault::NoPeer);
                None
            }
            None => {
                let mut selector = |name: &str, written: Option<WrittenSelector>| {
                    written.map(|written| self.selector(&format!("{path}.{name}"), written))
                };
                let pods = selector("podSelector", peer.pod_selector);
                let namespaces = selector("namespaceSelector", peer.namespace_selector);
                Some(Peer::Pods { pods, namespaces })
            }
        }
    }

    fn block(&mut self, path: &str, block: WrittenBlock) -> Option<Peer> {
        let cidr = self.cidr(format!("{path}.cidr"), block.cidr)?;
        let mut except = Vec::new();
        for (at, part) in block.except.unwrap_or_default().into_iter().enumerate() {
            let path = format!("{path}.except[{at}]");
            let Some(part) = self.cidr(path.clone(), part) else {
                continue;
            };
            if part == cidr || !cidr.contains(&part) {
                self.refuse(path, Fault::NotASubset { part, cidr });
            }
            except.push(part);
        }
        Some(Peer::Block(IpBlock::new(cidr, except)))
    }

    fn cidr(&mut self, path: String, written: String) -> Option<IpNet> {
        match written.parse::<IpNet>() {
            Ok(net) => Some(net.trunc()),
            Err(_) => {
                self.refuse(path, Fault::NotACidr(written));
                None
            }
        }
    }

    fn port(&mut self, path: &str, written: WrittenPort) -> Option<PortMatch> {
        let protocol = match written.protocol.as_deref() {
            None | Some("TCP") => Protocol::Tcp,
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            Some(other) => {
                let fault = Fault::NotAProtocol(other.to_owned());
                self.refuse(format!("{path}.protocol"), fault);
                return None;
            }
        };
        let port = self.range(path, written.port, written.end_port)?;
        Some(PortMatch { protocol, port })
    }

    fn range(&mut self, path: &str, port: Option<NumberOrName>, end: Option<i64>) -> Option<PortRange> {
        let end_path = format!("{path}.endPort");
        match (port, end) {
            (None, None) => Some(PortRange::Any),
            (None, Some(_)) => {
                self.refuse(end_path, Fault::EndWithoutPort);
                None
            }
            (Some(NumberOrName::Name(name)), end) => {
                if end.is_some() {
                    self.refuse(end_path, Fault::EndOfNamedPort(name.clone()));
                }
                if !is_port_name(&name) {
                    self.refuse(format!("{path}.port"), Fault::NotAPortName(name.clone()));
                }
                Some(PortRange::Named(name))
            }
            (Some(NumberOrName::Number(first)), end) => {
                let first = self.number(format!("{path}.port"), first)?;
                let last = match end {
                    Some(last) => self.number(end_path.clone(), last)?,
                    None => first,
                };
                if last < first {
                    self.refuse(end_path, Fault::EndBeforePort { first, last });
                }
                Some(PortRange::Numbers { first, last })
            }
        }
    }

    fn number(&mut self, path: String, written: i64) -> Option<u16> {
        match u16::try_from(written) {
            Ok(number) if number > 0 => Some(number),
            _ => {
                self.refuse(path, Fault::NotAPortNumber(written));
                None
            }
        }
    }

    fn selector(&mut self, path: &str, written: WrittenSelector) -> Selector {
        let labels = written.match_labels.unwrap_or_default();
        let mut requirements: Vec<_> = labels.into_iter().map(|(key, value)| Requirement::Is(key, value)).collect();
        let expressions = written.match_expressions.unwrap_or_default();
        for (at, expression) in expressions.into_iter().enumerate() {
            let path = format!("{path}.matchExpressions[{at}]");
            requirements.extend(self.expression(&path, expression));
        }
        Selector::of(requirements)
    }

    fn expression(&mut self, path: &str, written: WrittenExpression) -> Option<Requirement> {
        let WrittenExpression { key, operator, values } = written;
        let values = values.unwrap_or_default();
        let fault = match operator.as_str() {
            "In" | "NotIn" if values.is_empty() => Some(Fault::ValuesMissing(operator.clone())),
            "Exists" | "DoesNotExist" if !values.is_empty() => Some(Fault::ValuesForbidden(operator.clone())),
            _ => None,
        };
        if let Some(fault) = fault {
            self.refuse(format!("{path}.values"), fault);
        }
        let values = values.into_iter().collect();
        match operator.as_str() {
            "In" => Some(Requirement::In(key, values)),
            "NotIn" => Some(Requirement::NotIn(key, values)),
            "Exists" => Some(Requirement::Exists(key)),
            "DoesNotExist" => Some(Requirement::DoesNotExist(key)),
            _ => {
                let fault = Fault::NotAnOperator(operator);
                self.refuse(format!("{path}.operator"), fault);
                None
            }
        }
    }
}

/// The form of service names that Kubernetes asks of a port name (RFC 6335, section 5.1).
fn is_port_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=15).contains(&name.len())
        && name.bytes().all(allowed)
        && name.bytes().any(|byte| byte.is_ascii_lowercase())
        && !name.contains("--")
        && !name.starts_with('-')
        && !name.ends_with('-')
}
