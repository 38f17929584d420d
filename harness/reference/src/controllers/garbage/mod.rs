//! Garbage collection: what has lost all its owners goes, and a deletion in the foreground waits for what it owns.
//!
//! The decisions are in [`decide`]; this file looks, makes sure, and carries out.

mod decide;

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Node, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::{Client, Resource};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::drive::{Controller, Round};
use super::log;
use super::world::{World, is_deleting};
use super::write::{self, WriteError, within};
use decide::{Action, Item, decide};

const COMPONENT: &str = "garbage-collector";
/// Owners known to be gone; the memory starts anew when it is full.
const REMEMBERED: usize = 4096;

pub(super) struct Garbage {
    client: Client,
    world: World,
    /// Uids of owners that the server has said are gone. A uid never comes back.
    gone: Mutex<HashSet<String>>,
}

impl Controller for Garbage {
    async fn round(&mut self) -> Round {
        let gone = self.gone.get_mut();
        if gone.len() > REMEMBERED {
            gone.clear();
        }
        let actions = decide(&self.items());
        write::carry_out(COMPONENT, actions, |action| self.act(action)).await
    }
}

impl Garbage {
    pub(super) fn new(client: Client, world: World) -> Self {
        Self { client, world, gone: Mutex::default() }
    }

    fn items(&self) -> Vec<Item> {
        let w = &self.world;
        let mut items = Vec::new();
        add::<Node>(&mut items, w.nodes.state());
        add::<Deployment>(&mut items, w.deployments.state());
        add::<DaemonSet>(&mut items, w.daemon_sets.state());
        add::<ReplicaSet>(&mut items, w.replica_sets.state());
        add::<Pod>(&mut items, w.pods.state());
        add::<Service>(&mut items, w.services.state());
        add::<EndpointSlice>(&mut items, w.endpoint_slices.state());
        add::<Endpoints>(&mut items, w.endpoints.state());
        add::<ConfigMap>(&mut items, w.config_maps.state());
        add::<Secret>(&mut items, w.secrets.state());
        add::<ServiceAccount>(&mut items, w.service_accounts.state());
        add::<Lease>(&mut items, w.leases.state());
        add::<NetworkPolicy>(&mut items, w.network_policies.state());
        items
    }

    async fn act(&self, action: Action) -> Result<(), (String, WriteError)> {
        let what = action.to_string();
        let done = match action {
            Action::Collect { item, owners } => self.collect(&item, &owners).await,
            Action::DeleteFirst { item } => self.delete(&item, DeleteParams::foreground()).await,
            Action::Disown { item, owner } => {
                let mut owners = item.owners.clone();
                owners.retain(|other| other.uid != owner);
                self.patch(&item, json!({"ownerReferences": owners})).await
            }
            Action::Release { item, finalizer } => {
                let mut finalizers = item.finalizers.clone();
                finalizers.retain(|other| other != finalizer);
                self.patch(&item, json!({"finalizers": finalizers})).await
            }
        };
        done.map_err(|cause| (what, cause))
    }

    /// Deletes `item` if the server agrees that none of its owners is there: its own watch may be ahead of theirs.
    async fn collect(&self, item: &Item, owners: &[OwnerReference]) -> Result<(), WriteError> {
        for owner in owners {
            if !self.is_gone(item, owner).await? {
                return Ok(());
            }
        }
        self.delete(item, DeleteParams::background()).await?;
        log::info(COMPONENT, format_args!("deleted {} {}: its owner is gone", item.resource.kind, item.place()));
        Ok(())
    }

    async fn is_gone(&self, item: &Item, owner: &OwnerReference) -> Result<bool, WriteError> {
        if self.gone.lock().await.contains(&owner.uid) {
            return Ok(true);
        }
        let Some(resource) = decide::known_kind(&owner.api_version, &owner.kind) else {
            return Ok(false);
        };
        let api = self.api(&resource, item.namespace.as_deref().filter(|_| owner.kind != "Node"));
        let found = within(api.get_opt(&owner.name)).await?;
        let is_gone = found.is_none_or(|found| found.metadata.uid.as_ref() != Some(&owner.uid));
        if is_gone {
            self.gone.lock().await.insert(owner.uid.clone());
        }
        Ok(is_gone)
    }

    async fn delete(&self, item: &Item, params: DeleteParams) -> Result<(), WriteError> {
        let params = params.preconditions(Preconditions { uid: Some(item.uid.clone()), resource_version: None });
        let api = self.api(&item.resource, item.namespace.as_deref());
        within(api.delete(&item.name, &params)).await.map(drop)
    }

    async fn patch(&self, item: &Item, metadata: Value) -> Result<(), WriteError> {
        let mut metadata = metadata;
        metadata["resourceVersion"] = json!(item.version);
        let api = self.api(&item.resource, item.namespace.as_deref());
        let patch = Patch::Merge(json!({"metadata": metadata}));
        within(api.patch(&item.name, &PatchParams::default(), &patch)).await.map(drop)
    }

    fn api(&self, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, resource),
            None => Api::all_with(self.client.clone(), resource),
        }
    }
}

/// Adds what may own something or is owned by something.
fn add<K: Resource<DynamicType = ()>>(items: &mut Vec<Item>, objects: Vec<Arc<K>>) {
    let resource = ApiResource::erase::<K>(&());
    items.extend(objects.into_iter().map(|object| {
        let meta = object.meta();
        Item {
            resource: resource.clone(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            version: meta.resource_version.clone(),
            owners: meta.owner_references.clone().unwrap_or_default(),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
            deleting: is_deleting(object.as_ref()),
        }
    }));
}
