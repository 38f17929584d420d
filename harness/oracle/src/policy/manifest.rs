//! A NetworkPolicy as it is written, and everything the API server would refuse in it.
//!
//! Owns the wire shape and the checks of `networking.k8s.io/v1`. Must not know what a rule means.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::Deserialize;
use thiserror::Error;

use super::{Direction, IpBlock, NetworkPolicy, Peer, PortMatch, PortRange, Rule};
use crate::labels::{Requirement, Selector};
use crate::snapshot::Metadata;
use crate::transport::Protocol;

/// A NetworkPolicy in its wire shape, not yet checked.
#[derive(Debug, Clone, Deserialize)]
pub struct Manifest {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    pod_selector: WrittenSelector,
    policy_types: Option<Vec<String>>,
    ingress: Option<Vec<WrittenIngress>>,
    egress: Option<Vec<WrittenEgress>>,
}

#[derive(Debug, Clone, Deserialize)]
struct WrittenIngress {
    from: Option<Vec<WrittenPeer>>,
    ports: Option<Vec<WrittenPort>>,
}

#[derive(Debug, Clone, Deserialize)]
struct WrittenEgress {
    to: Option<Vec<WrittenPeer>>,
    ports: Option<Vec<WrittenPort>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenPeer {
    pod_selector: Option<WrittenSelector>,
    namespace_selector: Option<WrittenSelector>,
    ip_block: Option<WrittenBlock>,
}

#[derive(Debug, Clone, Deserialize)]
struct WrittenBlock {
    cidr: String,
    except: Option<Vec<String>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenPort {
    protocol: Option<String>,
    port: Option<NumberOrName>,
    end_port: Option<i64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum NumberOrName {
    Number(i64),
    Name(String),
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenSelector {
    match_labels: Option<BTreeMap<String, String>>,
    match_expressions: Option<Vec<WrittenExpression>>,
}

#[derive(Debug, Clone, Deserialize)]
struct WrittenExpression {
    key: String,
    operator: String,
    values: Option<Vec<String>>,
}

/// A policy that the API server would refuse, with every reason.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("network policy `{policy}` is invalid: {}", sentence(.problems))]
pub struct InvalidPolicy {
    /// `namespace/name`.
    pub policy: String,
    pub problems: Vec<Problem>,
}

/// One reason for refusal.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{path}`: {fault}")]
pub struct Problem {
    /// The field, as the API server writes it: `spec.ingress[0].ports[1].endPort`.
    pub path: String,
    pub fault: Fault,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    #[error("no peer is given, one of `podSelector`, `namespaceSelector`, `ipBlock` is needed")]
    NoPeer,
    #[error("`ipBlock` stands beside a selector, a peer is one or the other")]
    BlockBesideSelector,
    #[error("`{0}` is not a range of addresses like `10.9.8.0/24` or `2001:db8::/64`")]
    NotACidr(String),
    #[error("`{part}` is not a strict subset of `{cidr}`")]
    NotASubset { part: IpNet, cidr: IpNet },
    #[error("`{0}` is not a protocol of policies, use `TCP`, `UDP` or `SCTP`")]
    NotAProtocol(String),
    #[error("`{0}` is not a port number, they go from 1 to 65535")]
    NotAPortNumber(i64),
    #[error("`{0}` is not a port name: at most 15 of `a-z`, `0-9` and single `-`, with a letter")]
    NotAPortName(String),
    #[error("`endPort` needs a `port`")]
    EndWithoutPort,
    #[error("`endPort` cannot follow the named port `{0}`")]
    EndOfNamedPort(String),
    #[error("`{last}` is smaller than `port`, which is `{first}`")]
    EndBeforePort { first: u16, last: u16 },
    #[error("`{0}` is not a policy type, use `Ingress` or `Egress`")]
    NotAPolicyType(String),
    #[error("{0} policy types are given, two are the most")]
    TooManyPolicyTypes(usize),
    #[error("`{0}` is not an operator, use `In`, `NotIn`, `Exists` or `DoesNotExist`")]
    NotAnOperator(String),
    #[error("operator `{0}` needs values")]
    ValuesMissing(String),
    #[error("operator `{0}` takes no values")]
    ValuesForbidden(String),
}

fn sentence(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(Problem::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

impl TryFrom<Manifest> for NetworkPolicy {
    type Error = InvalidPolicy;

    fn try_from(manifest: Manifest) -> Result<Self, InvalidPolicy> {
        let Manifest { metadata, spec } = manifest;
        let mut check = Check::default();
        let pods = check.selector("spec.podSelector", spec.pod_selector);
        let ingress = spec.ingress.unwrap_or_default().into_iter().enumerate();
        let ingress = ingress
            .map(|(at, rule)| check.rule(Direction::Ingress, at, rule.from, rule.ports))
            .collect();
        let egress = spec.egress.unwrap_or_default().into_iter().enumerate();
        let egress = egress
            .map(|(at, rule)| check.rule(Direction::Egress, at, rule.to, rule.ports))
            .collect();
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
            Err(InvalidPolicy {
                policy: policy.to_string(),
                problems: check.problems,
            })
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
        self.problems.push(Problem {
            path: path.into(),
            fault,
        });
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
                _ => self.refuse(
                    format!("spec.policyTypes[{at}]"),
                    Fault::NotAPolicyType(name),
                ),
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
            ports: ports
                .filter_map(|(at, port)| self.port(&format!("{path}.ports[{at}]"), port))
                .collect(),
            peers: peers
                .filter_map(|(at, peer)| self.peer(&format!("{path}.{list}[{at}]"), peer))
                .collect(),
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

    fn range(
        &mut self,
        path: &str,
        port: Option<NumberOrName>,
        end: Option<i64>,
    ) -> Option<PortRange> {
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
        let mut requirements: Vec<_> = labels
            .into_iter()
            .map(|(key, value)| Requirement::Is(key, value))
            .collect();
        let expressions = written.match_expressions.unwrap_or_default();
        for (at, expression) in expressions.into_iter().enumerate() {
            let path = format!("{path}.matchExpressions[{at}]");
            requirements.extend(self.expression(&path, expression));
        }
        Selector::of(requirements)
    }

    fn expression(&mut self, path: &str, written: WrittenExpression) -> Option<Requirement> {
        let WrittenExpression {
            key,
            operator,
            values,
        } = written;
        let values = values.unwrap_or_default();
        let fault = match operator.as_str() {
            "In" | "NotIn" if values.is_empty() => Some(Fault::ValuesMissing(operator.clone())),
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                Some(Fault::ValuesForbidden(operator.clone()))
            }
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
