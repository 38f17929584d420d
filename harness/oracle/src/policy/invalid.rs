//! Why the API server would refuse a policy, and how that reads.

use ipnet::IpNet;
use thiserror::Error;

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
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ")
}
