//! What a name in the cluster's domain means: the rules of Kubernetes' DNS specification, as CoreDNS keeps them. Pure.
//!
//! It knows nothing of messages on the wire.

use std::net::Ipv4Addr;

use super::index::{Entry, Index, Kind, Port, Target};

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
    Service {
        port: u16,
        weight: u16,
        target: String,
    },
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
/// Aliases that lead to aliases are followed this far.
const ALIASES: usize = 8;

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
            Some(entry) => Seat {
                index,
                name,
                service,
                namespace,
                entry,
            }
            .meaning(before, asked),
            None => Meaning::NoSuchName,
        },
        _ => Meaning::NoSuchName,
    }
}

fn below<'n>(name: &'n str, domain: &str) -> Option<&'n str> {
    name.strip_suffix(domain)?.strip_suffix('.')
}

fn exists(there: bool) -> Meaning {
    if there {
        Meaning::NoData
    } else {
        Meaning::NoSuchName
    }
}

fn one(holds: bool, name: &str, data: Data) -> Meaning {
    if !holds {
        return Meaning::NoData;
    }
    let answers = vec![Record {
        name: name.to_owned(),
        data,
    }];
    Meaning::Records {
        answers,
        additional: Vec::new(),
    }
}

fn apex(index: &Index, name: &str, asked: Asked) -> Meaning {
    match asked {
        Asked::Authority => one(true, name, Data::Authority),
        Asked::NameServer => {
            let server = format!("ns.dns.{}", index.domain);
            let additional = index.own.map(|address| Record {
                name: server.clone(),
                data: Data::Address(address),
            });
            Meaning::Records {
                answers: vec![Record {
                    name: name.to_owned(),
                    data: Data::NameServer(server),
                }],
                additional: additional.into_iter().collect(),
            }
        }
        _ => Meaning::NoData,
    }
}

fn pointer(index: &Index, name: &str, reversed: &str, asked: Asked) -> Meaning {
    let mut parts: Vec<&str> = reversed.split('.').collect();
    parts.reverse();
    let names = parts
        .join(".")
        .parse()
        .ok()
        .and_then(|address: Ipv4Addr| index.names.get(&address));
    let Some(names) = names else {
        return Meaning::OtherAddress;
    };
    if asked != Asked::Pointer {
        return Meaning::NoData;
    }
    let answers = names.iter().map(|target| Record {
        name: name.to_owned(),
        data: Data::Pointer(target.clone()),
    });
    Meaning::Records {
        answers: answers.collect(),
        additional: Vec::new(),
    }
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

/// Which ports of a service are meant.
#[derive(Clone, Copy)]
struct Wanted<'n> {
    port: Option<(&'n str, &'n str)>,
}

impl Wanted<'_> {
    fn means(self, port: &Port) -> bool {
        self.port
            .is_none_or(|(name, protocol)| port.name == name && port.protocol == protocol)
    }

    fn any(self, ports: &[Port]) -> bool {
        self.port.is_none() || ports.iter().any(|port| self.means(port))
    }
}

/// A name at or below that of a service that is there.
struct Seat<'n> {
    index: &'n Index,
    name: &'n str,
    service: &'n str,
    namespace: &'n str,
    entry: &'n Entry,
}

impl Seat<'_> {
    fn meaning(&self, before: &[&str], asked: Asked) -> Meaning {
        match before {
            [] => self.whole(Wanted { port: None }, asked),
            [label] => {
                let named = self
                    .entry
                    .endpoints
                    .iter()
                    .filter(|target| target.label == *label);
                self.ends(named.collect(), Wanted { port: None }, asked)
            }
            [port, protocol] => match (port.strip_prefix('_'), protocol.strip_prefix('_')) {
                (Some(port), Some(protocol)) => self.whole(
                    Wanted {
                        port: Some((port, protocol)),
                    },
                    asked,
                ),
                _ => Meaning::NoSuchName,
            },
            _ => Meaning::NoSuchName,
        }
    }

    fn whole(&self, wanted: Wanted<'_>, asked: Asked) -> Meaning {
        match &self.entry.kind {
            Kind::Headless => self.ends(self.entry.endpoints.iter().collect(), wanted, asked),
            Kind::External(target) => self.external(target, asked),
            Kind::Cluster(_) if !wanted.any(&self.entry.ports) => Meaning::NoSuchName,
            Kind::Cluster(address) => match asked {
                Asked::Address => one(true, self.name, Data::Address(*address)),
                Asked::Service => self.cluster_ports(*address, wanted),
                _ => Meaning::NoData,
            },
        }
    }

    fn full_name(&self) -> String {
        format!(
            "{}.{}.svc.{}",
            self.service, self.namespace, self.index.domain
        )
    }

    fn cluster_ports(&self, address: Ipv4Addr, wanted: Wanted<'_>) -> Meaning {
        let target = self.full_name();
        let ports: Vec<&Port> = self
            .entry
            .ports
            .iter()
            .filter(|port| wanted.means(port))
            .collect();
        let answers = ports
            .iter()
            .map(|port| self.service_record(port, ports.len(), &target));
        let additional = Record {
            name: target.clone(),
            data: Data::Address(address),
        };
        records(answers.collect(), vec![additional])
    }

    fn service_record(&self, port: &Port, of: usize, target: &str) -> Record {
        // The weights of all targets add up to about a hundred.
        let weight = u16::try_from(100 / of.max(1)).unwrap_or(1).max(1);
        let data = Data::Service {
            port: port.number,
            weight,
            target: target.to_owned(),
        };
        Record {
            name: self.name.to_owned(),
            data,
        }
    }

    /// The endpoints themselves. Where none is ready there is no name.
    fn ends(&self, targets: Vec<&Target>, wanted: Wanted<'_>, asked: Asked) -> Meaning {
        let meant: Vec<&Target> = targets
            .into_iter()
            .filter(|target| wanted.any(&target.ports))
            .collect();
        if meant.is_empty() {
            return Meaning::NoSuchName;
        }
        match asked {
            Asked::Address => {
                let mut addresses: Vec<Ipv4Addr> =
                    meant.iter().map(|target| target.address).collect();
                addresses.dedup();
                let answers = addresses.into_iter().map(|address| Record {
                    name: self.name.to_owned(),
                    data: Data::Address(address),
                });
                records(answers.collect(), Vec::new())
            }
            Asked::Service => self.end_ports(&meant, wanted),
            _ => Meaning::NoData,
        }
    }

    fn end_ports(&self, targets: &[&Target], wanted: Wanted<'_>) -> Meaning {
        let whole = self.full_name();
        let ports = |target: &&&Target| {
            target
                .ports
                .iter()
                .filter(|port| wanted.means(port))
                .count()
        };
        let total: usize = targets.iter().map(|target| ports(&target)).sum();
        let (mut answers, mut additional) = (Vec::new(), Vec::new());
        for target in targets {
            let name = format!("{}.{whole}", target.label);
            for port in target.ports.iter().filter(|port| wanted.means(port)) {
                answers.push(self.service_record(port, total, &name));
            }
            additional.push(Record {
                name,
                data: Data::Address(target.address),
            });
        }
        records(answers, additional)
    }

    /// An alias, and what it leads to as far as that is in the cluster.
    fn external(&self, target: &str, asked: Asked) -> Meaning {
        if !matches!(asked, Asked::Address | Asked::Alias) {
            return Meaning::NoData;
        }
        let mut answers = vec![Record {
            name: self.name.to_owned(),
            data: Data::Alias(target.to_owned()),
        }];
        let mut next = Some(target.to_owned()).filter(|_| asked == Asked::Address);
        while let Some(name) = next.take() {
            let is_loop = answers.iter().any(|record| record.name == name);
            if is_loop || answers.len() >= ALIASES {
                break;
            }
            if let Some((record, target)) = alias(self.index, &name) {
                answers.push(record);
                next = Some(target);
            } else if let Meaning::Records { answers: more, .. } = meaning(self.index, &name, asked)
            {
                answers.extend(more);
            }
        }
        records(answers, Vec::new())
    }
}

/// The alias that `name` is, if it is one.
fn alias(index: &Index, name: &str) -> Option<(Record, String)> {
    let labels: Vec<&str> = below(name, &index.domain)?.split('.').collect();
    let [service, namespace, "svc"] = labels.as_slice() else {
        return None;
    };
    let Kind::External(target) = &index.service(namespace, service)?.kind else {
        return None;
    };
    let record = Record {
        name: name.to_owned(),
        data: Data::Alias(target.clone()),
    };
    Some((record, target.clone()))
}

fn records(answers: Vec<Record>, additional: Vec<Record>) -> Meaning {
    if answers.is_empty() {
        return Meaning::NoData;
    }
    Meaning::Records {
        answers,
        additional,
    }
}

#[cfg(test)]
#[path = "zone_tests.rs"]
mod tests;
