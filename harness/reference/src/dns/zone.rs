//! What a name in the cluster's domain means: the rules of Kubernetes' DNS specification, as CoreDNS keeps them. Pure.
//!
//! It knows nothing of messages on the wire.

use std::net::Ipv4Addr;

use super::index::Index;
use super::service::Seat;

/// What is asked about a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Address,
    Service,
    Pointer,
    Alias,
    Authority,
    NameServer,
    Text,
    /// Something that no name here has.
    Other,
}

/// A record, with the name it is about.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    pub(super) name: String,
    pub(super) data: Data,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Data {
    Address(Ipv4Addr),
    Service { port: u16, weight: u16, target: String },
    Pointer(String),
    Alias(String),
    Authority,
    NameServer(String),
    Text(&'static str),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Meaning {
    Records {
        answers: Vec<Record>,
        additional: Vec<Record>,
    },
    /// The name is there, but has nothing of what is asked for.
    NoData,
    NoSuchName,
    /// Not for the cluster to say.
    Outside,
    /// The address of nothing in the cluster: somebody else may know it.
    OtherAddress,
}

/// The version of the specification that these rules follow.
const VERSION: &str = "1.1.0";

/// What `name`, in small letters and without a dot at the end, means when `asked` is asked of it.
pub(super) fn meaning(index: &Index, name: &str, asked: Asked) -> Meaning {
    if let Some(reversed) = name.strip_suffix(".in-addr.arpa") {
        return pointer(index, name, reversed, asked);
    }
    if name == index.domain {
        return apex(index, name, asked);
    }
    let Some(rest) = below(name, &index.domain) else {
        return Meaning::Outside;
    };
    let labels: Vec<&str> = rest.split('.').collect();
    match labels.as_slice() {
        ["dns-version"] => one(asked == Asked::Text, name, Data::Text(VERSION)),
        ["dns"] | ["svc"] | ["pod"] => Meaning::NoData,
        ["ns", "dns"] => match index.own {
            Some(address) => one(asked == Asked::Address, name, Data::Address(address)),
            None => Meaning::NoData,
        },
        [namespace, "svc" | "pod"] => exists(index.namespaces.contains(*namespace)),
        [pod, namespace, "pod"] => pod_address(index, name, pod, namespace, asked),
        [before @ .., service, namespace, "svc"] => match index.service(namespace, service) {
            Some(entry) => Seat { index, name, service, namespace, entry }.meaning(before, asked),
            None => Meaning::NoSuchName,
        },
        _ => Meaning::NoSuchName,
    }
}

pub(super) fn below<'n>(name: &'n str, domain: &str) -> Option<&'n str> {
    name.strip_suffix(domain)?.strip_suffix('.')
}

fn exists(there: bool) -> Meaning {
    if there { Meaning::NoData } else { Meaning::NoSuchName }
}

pub(super) fn one(holds: bool, name: &str, data: Data) -> Meaning {
    if !holds {
        return Meaning::NoData;
    }
    let answers = vec![Record { name: name.to_owned(), data }];
    Meaning::Records { answers, additional: Vec::new() }
}

fn apex(index: &Index, name: &str, asked: Asked) -> Meaning {
    match asked {
        Asked::Authority => one(true, name, Data::Authority),
        Asked::NameServer => {
            let server = format!("ns.dns.{}", index.domain);
            let additional = index.own.map(|address| Record { name: server.clone(), data: Data::Address(address) });
            Meaning::Records {
                answers: vec![Record { name: name.to_owned(), data: Data::NameServer(server) }],
                additional: additional.into_iter().collect(),
            }
        }
        _ => Meaning::NoData,
    }
}

fn pointer(index: &Index, name: &str, reversed: &str, asked: Asked) -> Meaning {
    let mut parts: Vec<&str> = reversed.split('.').collect();
    parts.reverse();
    let names = parts.join(".").parse().ok().and_then(|address: Ipv4Addr| index.names.get(&address));
    let Some(names) = names else {
        return Meaning::OtherAddress;
    };
    if asked != Asked::Pointer {
        return Meaning::NoData;
    }
    let answers = names.iter().map(|target| Record { name: name.to_owned(), data: Data::Pointer(target.clone()) });
    Meaning::Records { answers: answers.collect(), additional: Vec::new() }
}

/// A pod's name is its address: whether there is such a pod is not looked at, but its namespace has to be there.
fn pod_address(index: &Index, name: &str, pod: &str, namespace: &str, asked: Asked) -> Meaning {
    if !index.namespaces.contains(namespace) {
        return Meaning::NoSuchName;
    }
    let is_dashed = pod.chars().all(|c| c.is_ascii_digit() || c == '-');
    match pod.replace('-', ".").parse() {
        Ok(address) if is_dashed => one(asked == Asked::Address, name, Data::Address(address)),
        _ => Meaning::NoSuchName,
    }
}

pub(super) fn records(answers: Vec<Record>, additional: Vec<Record>) -> Meaning {
    if answers.is_empty() {
        return Meaning::NoData;
    }
    Meaning::Records { answers, additional }
}

#[cfg(test)]
#[path = "zone_tests.rs"]
mod tests;
