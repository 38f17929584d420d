//! The Endpoints object of a service: what came before endpoint slices, and what some clients still read. Pure.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use super::members::{Member, Port, publishes_unready};
use super::{Action, CHANGED_AT, inherited};
use crate::controllers::matching::Labels;
use crate::controllers::world::{name_of, namespace_of};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const OURS: &str = "endpoint-controller";
/// The API's own bound for one of these objects.
const MOST: usize = 1000;

pub(super) fn decide(
    service: &Service,
    members: &[Member<'_>],
    existing: Option<&Endpoints>,
    now: Timestamp,
) -> Option<Action> {
    let mut labels = inherited(service);
    labels.insert(MANAGED_BY.to_owned(), OURS.to_owned());
    let subsets = subsets(members, publishes_unready(service));
    let Some(existing) = existing else {
        return Some(Action::CreateEndpoints(Box::new(new(service, labels, subsets, now))));
    };
    let is_same = existing.subsets.clone().unwrap_or_default() == subsets && existing.labels() == &labels;
    if is_same {
        return None;
    }
    let mut replacement = existing.clone();
    replacement.metadata.labels = Some(labels);
    replacement.annotations_mut().insert(CHANGED_AT.to_owned(), now.to_string());
    replacement.subsets = Some(subsets);
    Some(Action::ReplaceEndpoints(Box::new(replacement)))
}

/// Endpoints of ours whose service is gone: they have no owner that the garbage collector would follow.
pub(super) fn abandoned(services: &[Arc<Service>], endpoints: &[Arc<Endpoints>]) -> Vec<Action> {
    let living: HashSet<_> =
        services.iter().map(|service| (namespace_of(service.as_ref()), name_of(service.as_ref()))).collect();
    let is_abandoned = |old: &&Arc<Endpoints>| {
        old.labels().get(MANAGED_BY).is_some_and(|manager| manager == OURS)
            && !living.contains(&(namespace_of(old.as_ref()), name_of(old.as_ref())))
    };
    let abandoned = endpoints.iter().filter(is_abandoned);
    abandoned.map(|old| Action::DeleteEndpoints(Box::new(old.as_ref().clone()))).collect()
}

fn new(service: &Service, labels: Labels, subsets: Vec<EndpointSubset>, now: Timestamp) -> Endpoints {
    Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some([(CHANGED_AT.to_owned(), now.to_string())].into()),
            ..Default::default()
        },
        subsets: Some(subsets),
    }
}

fn subsets(members: &[Member<'_>], unready_too: bool) -> Vec<EndpointSubset> {
    let mut groups: BTreeMap<&[Port], (Vec<EndpointAddress>, Vec<EndpointAddress>)> = BTreeMap::new();
    let lasting = members.iter().filter(|member| !member.terminating || unready_too);
    for member in lasting.take(MOST) {
        let (ready, unready) = groups.entry(&member.ports).or_default();
        if member.ready { ready } else { unready }.push(EndpointAddress {
            ip: member.address.to_owned(),
            hostname: member.hostname.clone(),
            node_name: member.node(),
            target_ref: Some(member.target()),
        });
    }
    let some = |addresses: Vec<_>| (!addresses.is_empty()).then_some(addresses);
    let subsets = groups.into_iter().map(|(ports, (ready, unready))| EndpointSubset {
        addresses: some(ready),
        not_ready_addresses: some(unready),
        ports: (!ports.is_empty()).then(|| ports.iter().map(port).collect()),
    });
    subsets.collect()
}

fn port(port: &Port) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone()).filter(|name| !name.is_empty()),
        port: port.port,
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    }
}
