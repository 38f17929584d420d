//! Endpoints: which pods a service means, as endpoint slices and as the older Endpoints object.
//!
//! The decisions are in [`members`], [`slices`] and [`legacy`]; this file looks and carries out.

mod legacy;
mod members;
mod slices;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::DeleteParams;

use super::drive::{Controller, Round};
use super::matching::Labels;
use super::world::{World, is_deleting, name_of, namespace_of};
use super::write::{self, WriteError};

const COMPONENT: &str = "endpointslice-controller";
/// When the change happened that an object tells of; proxies measure their delay by it.
const CHANGED_AT: &str = "endpoints.kubernetes.io/last-change-trigger-time";
const HEADLESS: &str = "service.kubernetes.io/headless";

pub(super) struct EndpointSlices {
    pub(super) client: Client,
    pub(super) world: World,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    CreateSlice(Box<EndpointSlice>),
    ReplaceSlice(Box<EndpointSlice>),
    DeleteSlice(Box<EndpointSlice>),
    CreateEndpoints(Box<Endpoints>),
    ReplaceEndpoints(Box<Endpoints>),
    DeleteEndpoints(Box<Endpoints>),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, kind, meta) = match self {
            Self::CreateSlice(slice) => ("creating", "endpoint slice", &slice.metadata),
            Self::ReplaceSlice(slice) => ("updating", "endpoint slice", &slice.metadata),
            Self::DeleteSlice(slice) => ("deleting", "endpoint slice", &slice.metadata),
            Self::CreateEndpoints(old) => ("creating", "endpoints", &old.metadata),
            Self::ReplaceEndpoints(old) => ("updating", "endpoints", &old.metadata),
            Self::DeleteEndpoints(old) => ("deleting", "endpoints", &old.metadata),
        };
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        write!(f, "{verb} {kind} `{namespace}/{}`", meta.name.as_deref().unwrap_or_default())
    }
}

impl Controller for EndpointSlices {
    async fn round(&mut self) -> Round {
        let actions = decide(
            &self.world.services.state(),
            &self.world.pods.state(),
            &self.world.endpoint_slices.state(),
            &self.world.endpoints.state(),
            Timestamp::now(),
        );
        write::carry_out(COMPONENT, actions, |action| self.act(action)).await
    }
}

impl EndpointSlices {
    async fn act(&self, action: Action) -> Result<(), (String, WriteError)> {
        let what = action.to_string();
        let background = DeleteParams::background;
        let done = match action {
            Action::CreateSlice(slice) => write::create(&self.client, slice.as_ref()).await.map(drop),
            Action::ReplaceSlice(slice) => write::replace(&self.client, slice.as_ref()).await,
            Action::DeleteSlice(slice) => write::delete(&self.client, slice.as_ref(), background()).await,
            Action::CreateEndpoints(old) => write::create(&self.client, old.as_ref()).await.map(drop),
            Action::ReplaceEndpoints(old) => write::replace(&self.client, old.as_ref()).await,
            Action::DeleteEndpoints(old) => write::delete(&self.client, old.as_ref(), background()).await,
        };
        done.map_err(|cause| (what, cause))
    }
}

fn decide(
    services: &[Arc<Service>],
    pods: &[Arc<Pod>],
    slices: &[Arc<EndpointSlice>],
    endpoints: &[Arc<Endpoints>],
    now: Timestamp,
) -> Vec<Action> {
    let mut pods_in: HashMap<&str, Vec<&Pod>> = HashMap::new();
    for pod in pods {
        pods_in.entry(namespace_of(pod.as_ref())).or_default().push(pod);
    }
    let existing = slices::by_service(slices);
    let named: HashMap<_, &Endpoints> =
        endpoints.iter().map(|old| ((namespace_of(old.as_ref()), name_of(old.as_ref())), old.as_ref())).collect();
    let mut actions = Vec::new();
    for service in services {
        let Some(selector) = members::selector(service) else {
            continue;
        };
        if is_deleting(service.as_ref()) {
            continue;
        }
        let key = (namespace_of(service.as_ref()), name_of(service.as_ref()));
        let here = pods_in.get(key.0).map_or(&[][..], Vec::as_slice);
        let members = members::members(service, selector, here);
        let slices = existing.get(&key).map_or(&[][..], Vec::as_slice);
        actions.extend(slices::decide(service, &members, slices, now));
        actions.extend(legacy::decide(service, &members, named.get(&key).copied(), now));
    }
    actions.extend(legacy::abandoned(services, endpoints));
    actions
}

/// The labels that a service hands on to what is derived from it.
fn inherited(service: &Service) -> Labels {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    if members::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
