//! What the `ports` of a rule mean: protocols, numbers, ranges and names.
//!
//! Knows one rule at a time; which pods serve a named port is found out by `peers`.

use std::collections::{BTreeMap, BTreeSet};

use cknet_kernel::nft::{Field, Key, Protocol, Rule};
use k8s_openapi::api::networking::v1::NetworkPolicyPort;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::world::protocol;

/// One alternative of a rule's ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PortMatch {
    /// Every port of every protocol, and protocols without ports.
    Anything,
    Protocol(Protocol),
    /// Ranges of ports, both ends included, that neither overlap nor touch.
    Numbers(Protocol, Vec<(u16, u16)>),
    Named(Protocol, String),
}

/// The alternatives of a rule. Absent or empty means anything; entries that mean nothing give no alternative.
pub(super) fn alternatives(ports: Option<&Vec<NetworkPolicyPort>>) -> Vec<PortMatch> {
    let entries = match ports {
        Some(entries) if !entries.is_empty() => entries,
        _ => return vec![PortMatch::Anything],
    };
    let mut whole = BTreeSet::new();
    let mut numbers: BTreeMap<Protocol, Vec<(u16, u16)>> = BTreeMap::new();
    let mut names = BTreeSet::new();
    for entry in entries {
        let Some(protocol) = protocol(entry.protocol.as_deref()) else { continue };
        match &entry.port {
            None => {
                whole.insert(protocol);
            }
            Some(IntOrString::String(name)) => {
                names.insert((protocol, name.clone()));
            }
            Some(IntOrString::Int(first)) => {
                if let (Ok(first), Ok(last)) = (u16::try_from(*first), u16::try_from(entry.end_port.unwrap_or(*first)))
                {
                    numbers.entry(protocol).or_default().push((first, last));
                }
            }
        }
    }
    numbers.retain(|protocol, _| !whole.contains(protocol));
    let whole_matches = whole.iter().map(|protocol| PortMatch::Protocol(*protocol));
    let number_matches = numbers.into_iter().map(|(protocol, ranges)| PortMatch::Numbers(protocol, merged(ranges)));
    let named = names.into_iter().filter(|(protocol, _)| !whole.contains(protocol));
    let named_matches = named.map(|(protocol, name)| PortMatch::Named(protocol, name));
    whole_matches.chain(number_matches).chain(named_matches).collect()
}

fn merged(mut ranges: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    ranges.retain(|(first, last)| first <= last);
    ranges.sort_unstable();
    let mut joined: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match joined.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = (*end).max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}

/// `rule`, narrowed to `protocol` and the port ranges; `None` if there is no port at all.
pub(super) fn with_numbers(rule: Rule, protocol: Protocol, ranges: &[(u16, u16)]) -> Option<Rule> {
    let rule = rule.protocol(protocol);
    match ranges {
        [] => None,
        [(first, last)] => Some(rule.dports(*first, *last)),
        many => Some(rule.one_of(Field::DestinationPort, many.iter().map(|(first, last)| Key::range(*first, *last)))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("[]", vec![PortMatch::Anything])]
    #[case("[{}]", vec![PortMatch::Protocol(Protocol::TCP)])]
    #[case("[{port: 80}]", vec![PortMatch::Numbers(Protocol::TCP, vec![(80, 80)])])]
    #[case("[{port: 80}, {port: 81}, {port: 90, endPort: 99}, {port: 95, endPort: 120}]",
        vec![PortMatch::Numbers(Protocol::TCP, vec![(80, 81), (90, 120)])])]
    #[case("[{port: 80, protocol: UDP}, {protocol: UDP}, {port: dns, protocol: UDP}]",
        vec![PortMatch::Protocol(Protocol::UDP)])]
    #[case("[{port: http}, {port: 53, protocol: UDP}]",
        vec![PortMatch::Numbers(Protocol::UDP, vec![(53, 53)]), PortMatch::Named(Protocol::TCP, "http".into())])]
    #[case("[{port: 80, protocol: DCCP}]", vec![])]
    #[case("[{port: 65535, endPort: 65535, protocol: SCTP}, {port: 65534, protocol: SCTP}]",
        vec![PortMatch::Numbers(Protocol::SCTP, vec![(65534, 65535)])])]
    fn meanings(#[case] ports: &str, #[case] expected: Vec<PortMatch>) {
        let ports: Vec<NetworkPolicyPort> = serde_saphyr::from_str(ports).unwrap();
        assert_eq!(alternatives(Some(&ports)), expected);
    }
}
