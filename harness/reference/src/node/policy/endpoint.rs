//! The two chains of one endpoint, and what differs between sending and receiving.

use std::fmt;

use cknet_kernel::nft::{Chain, Field, Rule};

use super::compile::{IpVersion, LocalEndpoint, TO_DISPATCH};

/// A side of a policy, seen from the pod it selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// To the pod.
    Ingress,
    /// From the pod.
    Egress,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

impl Side {
    /// The word in a policy's `policyTypes`.
    pub(super) fn policy_type(self) -> &'static str {
        match self {
            Self::Ingress => "Ingress",
            Self::Egress => "Egress",
        }
    }

    pub(super) fn policy_prefix(self) -> &'static str {
        match self {
            Self::Ingress => "cali-pi-",
            Self::Egress => "cali-po-",
        }
    }

    /// To and from the workload.
    fn endpoint_prefix(self) -> &'static str {
        match self {
            Self::Ingress => "cali-tw-",
            Self::Egress => "cali-fw-",
        }
    }

    /// Where the other end's address is.
    pub(super) fn peer_field(self, version: IpVersion) -> Field {
        match self {
            Self::Ingress => version.source(),
            Self::Egress => version.destination(),
        }
    }

    /// What a sender may send has its receiver asked next; what a receiver may get passes.
    pub(super) fn permit(self, rule: Rule) -> Rule {
        match self {
            Self::Ingress => rule.accept(),
            Self::Egress => rule.goto(TO_DISPATCH),
        }
    }
}

/// Everything passes without a policy; with some, what one of them permits. Policies end evaluation where they permit.
pub(super) fn chain(endpoint: &LocalEndpoint, side: Side, policies: &[String]) -> Chain {
    let mut chain = Chain::new(format!("{}{}", side.endpoint_prefix(), endpoint.interface));
    if policies.is_empty() {
        let comment = format!("{} {side}: no policy", endpoint.pod);
        return chain.with_rule(side.permit(Rule::new().counter()).comment(comment));
    }
    for policy in policies {
        chain.push(Rule::new().jump(policy));
    }
    chain.with_rule(Rule::new().counter().drop().comment(format!("{} {side}: denied", endpoint.pod)))
}
