//! The endpoint slices of a service: one for each set of ports that its pods have. Pure.
//!
//! Names depend on the service and a number only, so that making a slice twice is refused and not done.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use super::members::{Member, Port};
use super::{Action, CHANGED_AT, inherited};
use crate::controllers::matching::Labels;
use crate::controllers::template::letters;
use crate::controllers::world::{controlled_by, controller_of, name_of, namespace_of, uid_of};

const SERVICE: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const OURS: &str = "endpointslice-controller.k8s.io";

/// Our slices, by namespace and name of their service.
pub(super) fn by_service(slices: &[Arc<EndpointSlice>]) -> HashMap<(&str, &str), Vec<&EndpointSlice>> {
    let mut grouped: HashMap<_, Vec<&EndpointSlice>> = HashMap::new();
    for slice in slices {
        let labels = slice.labels();
        let is_ours = labels.get(MANAGED_BY).is_some_and(|manager| manager == OURS);
        if let Some(service) = labels.get(SERVICE).filter(|_| is_ours) {
            let key = (namespace_of(slice.as_ref()), service.as_str());
            grouped.entry(key).or_default().push(slice);
        }
    }
    grouped
}

pub(super) fn decide(
    service: &Service,
    members: &[Member<'_>],
    existing: &[&EndpointSlice],
    now: Timestamp,
) -> Vec<Action> {
    // Slices of an earlier service of the same name are left to the garbage collector.
    let is_own = |slice: &&&EndpointSlice| controller_of(**slice).is_some_and(|owner| owner.uid == uid_of(service));
    let mut free: Vec<&EndpointSlice> = existing.iter().filter(is_own).copied().collect();
    free.sort_by_key(|slice| slice.name_any());
    let mut taken: Vec<String> = free.iter().map(|slice| slice.name_any()).collect();
    let labels = labels(service);
    let mut wanted: Vec<_> = groups(members).into_iter().map(Some).collect();
    let mut actions = Vec::new();
    // First those that stay what they are, so that a change of one group does not move the others.
    for group in &mut wanted {
        let ports = group.as_ref().map(|(ports, _)| slice_ports(ports));
        let same = free.iter().position(|slice| ports.as_ref() == Some(&slice.ports.clone().unwrap_or_default()));
        if let (Some(index), Some((ports, endpoints))) = (same, group.clone()) {
            actions.extend(updated(free.remove(index), &labels, &ports, endpoints, now));
            *group = None;
        }
    }
    for (ports, endpoints) in wanted.into_iter().flatten() {
        if free.is_empty() {
            let slice = new_slice(service, &labels, &ports, endpoints, &mut taken, now);
            actions.push(Action::CreateSlice(Box::new(slice)));
        } else {
            actions.extend(updated(free.remove(0), &labels, &ports, endpoints, now));
        }
    }
    actions.extend(free.into_iter().map(|slice| Action::DeleteSlice(Box::new(slice.clone()))));
    actions
}

/// The endpoints for each set of ports; a service without pods still has one slice, with nothing in it.
fn groups(members: &[Member<'_>]) -> BTreeMap<Vec<Port>, Vec<Endpoint>> {
    let mut groups: BTreeMap<Vec<Port>, Vec<Endpoint>> = BTreeMap::new();
    for member in members {
        groups.entry(member.ports.clone()).or_default().push(endpoint(member));
    }
    if groups.is_empty() {
        groups.insert(Vec::new(), Vec::new());
    }
    groups
}

fn endpoint(member: &Member<'_>) -> Endpoint {
    Endpoint {
        addresses: vec![member.address.to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some(member.ready),
            serving: Some(member.serving),
            terminating: Some(member.terminating),
        }),
        hostname: member.hostname.clone(),
        node_name: member.node(),
        target_ref: Some(member.target()),
        ..Default::default()
    }
}

fn slice_ports(ports: &[Port]) -> Vec<EndpointPort> {
    let ports = ports.iter().map(|port| EndpointPort {
        name: Some(port.name.clone()),
        protocol: Some(port.protocol.clone()),
        port: Some(port.port),
        app_protocol: port.app_protocol.clone(),
    });
    ports.collect()
}

fn labels(service: &Service) -> Labels {
    let mut labels = inherited(service);
    labels.insert(SERVICE.to_owned(), name_of(service).to_owned());
    labels.insert(MANAGED_BY.to_owned(), OURS.to_owned());
    labels
}

fn updated(
    slice: &EndpointSlice,
    labels: &Labels,
    ports: &[Port],
    endpoints: Vec<Endpoint>,
    now: Timestamp,
) -> Option<Action> {
    let ports = slice_ports(ports);
    let is_same =
        slice.endpoints == endpoints && slice.ports.clone().unwrap_or_default() == ports && slice.labels() == labels;
    if is_same {
        return None;
    }
    let mut slice = slice.clone();
    slice.endpoints = endpoints;
    slice.ports = Some(ports);
    slice.metadata.labels = Some(labels.clone());
    slice.annotations_mut().insert(CHANGED_AT.to_owned(), now.to_string());
    Some(Action::ReplaceSlice(Box::new(slice)))
}

fn new_slice(
    service: &Service,
    labels: &Labels,
    ports: &[Port],
    endpoints: Vec<Endpoint>,
    taken: &mut Vec<String>,
    now: Timestamp,
) -> EndpointSlice {
    let mut names = (0..)
        .map(|number: u32| format!("{}-{}", name_of(service), letters(&format!("{}/{number}", uid_of(service)), 5)));
    let name = names.find(|name| !taken.contains(name)).unwrap_or_default();
    taken.push(name.clone());
    EndpointSlice {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels.clone()),
            annotations: Some([(CHANGED_AT.to_owned(), now.to_string())].into()),
            owner_references: Some(vec![controlled_by(service)]),
            ..Default::default()
        },
        address_type: "IPv4".to_owned(),
        endpoints,
        ports: Some(slice_ports(ports)),
    }
}
