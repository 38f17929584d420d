//! What a name at or below that of a service means: its address, its endpoints, its ports, or an alias. Pure.

use std::net::Ipv4Addr;

use super::index::{Entry, Index, Kind, Port, Target};
use super::zone::{Asked, Data, Meaning, Record, below, meaning, one, records};

/// Aliases that lead to aliases are followed this far.
const ALIASES: usize = 8;

/// Which ports of a service are meant.
#[derive(Clone, Copy)]
struct Wanted<'n> {
    port: Option<(&'n str, &'n str)>,
}

impl Wanted<'_> {
    fn means(self, port: &Port) -> bool {
        self.port.is_none_or(|(name, protocol)| port.name == name && port.protocol == protocol)
    }

    fn any(self, ports: &[Port]) -> bool {
        self.port.is_none() || ports.iter().any(|port| self.means(port))
    }
}

/// A name at or below that of a service that is there.
pub(super) struct Seat<'n> {
    pub(super) index: &'n Index,
    pub(super) name: &'n str,
    pub(super) service: &'n str,
    pub(super) namespace: &'n str,
    pub(super) entry: &'n Entry,
}

impl Seat<'_> {
    pub(super) fn meaning(&self, before: &[&str], asked: Asked) -> Meaning {
        match before {
            [] => self.whole(Wanted { port: None }, asked),
            [label] => {
                let named = self.entry.endpoints.iter().filter(|target| target.label == *label);
                self.ends(named.collect(), Wanted { port: None }, asked)
            }
            [port, protocol] => match (port.strip_prefix('_'), protocol.strip_prefix('_')) {
                (Some(port), Some(protocol)) => self.whole(Wanted { port: Some((port, protocol)) }, asked),
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
        format!("{}.{}.svc.{}", self.service, self.namespace, self.index.domain)
    }

    fn cluster_ports(&self, address: Ipv4Addr, wanted: Wanted<'_>) -> Meaning {
        let target = self.full_name();
        let ports: Vec<&Port> = self.entry.ports.iter().filter(|port| wanted.means(port)).collect();
        let answers = ports.iter().map(|port| self.service_record(port, ports.len(), &target));
        let additional = Record { name: target.clone(), data: Data::Address(address) };
        records(answers.collect(), vec![additional])
    }

    fn service_record(&self, port: &Port, of: usize, target: &str) -> Record {
        // The weights of all targets add up to about a hundred.
        let weight = u16::try_from(100 / of.max(1)).unwrap_or(1).max(1);
        let data = Data::Service { port: port.number, weight, target: target.to_owned() };
        Record { name: self.name.to_owned(), data }
    }

    /// The endpoints themselves. Where none is ready there is no name.
    fn ends(&self, targets: Vec<&Target>, wanted: Wanted<'_>, asked: Asked) -> Meaning {
        let meant: Vec<&Target> = targets.into_iter().filter(|target| wanted.any(&target.ports)).collect();
        if meant.is_empty() {
            return Meaning::NoSuchName;
        }
        match asked {
            Asked::Address => {
                let mut addresses: Vec<Ipv4Addr> = meant.iter().map(|target| target.address).collect();
                addresses.dedup();
                let answers = addresses
                    .into_iter()
                    .map(|address| Record { name: self.name.to_owned(), data: Data::Address(address) });
                records(answers.collect(), Vec::new())
            }
            Asked::Service => self.end_ports(&meant, wanted),
            _ => Meaning::NoData,
        }
    }

    fn end_ports(&self, targets: &[&Target], wanted: Wanted<'_>) -> Meaning {
        let whole = self.full_name();
        let ports = |target: &&&Target| target.ports.iter().filter(|port| wanted.means(port)).count();
        let total: usize = targets.iter().map(|target| ports(&target)).sum();
        let (mut answers, mut additional) = (Vec::new(), Vec::new());
        for target in targets {
            let name = format!("{}.{whole}", target.label);
            for port in target.ports.iter().filter(|port| wanted.means(port)) {
                answers.push(self.service_record(port, total, &name));
            }
            additional.push(Record { name, data: Data::Address(target.address) });
        }
        records(answers, additional)
    }

    /// An alias, and what it leads to as far as that is in the cluster.
    fn external(&self, target: &str, asked: Asked) -> Meaning {
        if !matches!(asked, Asked::Address | Asked::Alias) {
            return Meaning::NoData;
        }
        let mut answers = vec![Record { name: self.name.to_owned(), data: Data::Alias(target.to_owned()) }];
        let mut next = Some(target.to_owned()).filter(|_| asked == Asked::Address);
        while let Some(name) = next.take() {
            let is_loop = answers.iter().any(|record| record.name == name);
            if is_loop || answers.len() >= ALIASES {
                break;
            }
            if let Some((record, target)) = alias(self.index, &name) {
                answers.push(record);
                next = Some(target);
            } else if let Meaning::Records { answers: more, .. } = meaning(self.index, &name, asked) {
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
    let record = Record { name: name.to_owned(), data: Data::Alias(target.clone()) };
    Some((record, target.clone()))
}
