//! What the controllers see: one list+watch per kind of object, shared by all of them, and who is woken by which.
//!
//! It decides nothing and writes nothing.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Namespace, Node, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::Api;
use kube::runtime::reflector::Store;
use kube::runtime::watcher;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;

use crate::watched::{Bell, follow};

/// The bells of the controllers, named after whom they wake.
#[derive(Clone, Default)]
pub(super) struct Bells {
    pub(super) deployments: Bell,
    pub(super) replica_sets: Bell,
    pub(super) daemon_sets: Bell,
    pub(super) scheduler: Bell,
    pub(super) endpoints: Bell,
    pub(super) namespaces: Bell,
    pub(super) garbage: Bell,
    pub(super) nodes: Bell,
}

/// The watched kinds. Cheap to clone.
#[derive(Clone)]
pub(super) struct World {
    pub(super) pods: Store<Pod>,
    pub(super) nodes: Store<Node>,
    pub(super) namespaces: Store<Namespace>,
    pub(super) deployments: Store<Deployment>,
    pub(super) replica_sets: Store<ReplicaSet>,
    pub(super) daemon_sets: Store<DaemonSet>,
    pub(super) services: Store<Service>,
    pub(super) endpoint_slices: Store<EndpointSlice>,
    pub(super) endpoints: Store<Endpoints>,
    pub(super) leases: Store<Lease>,
    pub(super) config_maps: Store<ConfigMap>,
    pub(super) secrets: Store<Secret>,
    pub(super) service_accounts: Store<ServiceAccount>,
    pub(super) network_policies: Store<NetworkPolicy>,
}

impl World {
    /// Starts to follow everything; each kind rings the bells of those whose decisions depend on it.
    pub(super) fn follow(client: &Client, bells: &Bells) -> Self {
        let b = bells;
        Self {
            pods: shared(
                client,
                &[
                    &b.replica_sets,
                    &b.scheduler,
                    &b.daemon_sets,
                    &b.endpoints,
                    &b.deployments,
                    &b.nodes,
                    &b.garbage,
                    &b.namespaces,
                ],
            ),
            nodes: shared(client, &[&b.nodes, &b.scheduler, &b.daemon_sets, &b.garbage]),
            namespaces: shared(client, &[&b.namespaces]),
            deployments: shared(client, &[&b.deployments, &b.garbage, &b.namespaces]),
            replica_sets: shared(client, &[&b.replica_sets, &b.deployments, &b.garbage, &b.namespaces]),
            daemon_sets: shared(client, &[&b.daemon_sets, &b.garbage, &b.namespaces]),
            services: shared(client, &[&b.endpoints, &b.garbage, &b.namespaces]),
            endpoint_slices: shared(client, &[&b.endpoints, &b.garbage, &b.namespaces]),
            endpoints: shared(client, &[&b.endpoints, &b.garbage, &b.namespaces]),
            // Renewed every second by every kubelet, so they wake only the one who counts the seconds.
            leases: shared(client, &[&b.nodes]),
            config_maps: shared(client, &[&b.garbage, &b.namespaces]),
            secrets: shared(client, &[&b.garbage, &b.namespaces]),
            service_accounts: shared(client, &[&b.garbage, &b.namespaces]),
            network_policies: shared(client, &[&b.garbage, &b.namespaces]),
        }
    }

    /// Waits for the first list of every kind: before that, "there is none" means nothing.
    pub(super) async fn listed(&self) {
        // A store whose writer is gone ends with the runtime; there is nobody left to tell.
        let _ = tokio::join!(
            self.pods.wait_until_ready(),
            self.nodes.wait_until_ready(),
            self.namespaces.wait_until_ready(),
            self.deployments.wait_until_ready(),
            self.replica_sets.wait_until_ready(),
            self.daemon_sets.wait_until_ready(),
            self.services.wait_until_ready(),
            self.endpoint_slices.wait_until_ready(),
            self.endpoints.wait_until_ready(),
            self.leases.wait_until_ready(),
            self.config_maps.wait_until_ready(),
            self.secrets.wait_until_ready(),
            self.service_accounts.wait_until_ready(),
            self.network_policies.wait_until_ready(),
        );
    }
}

/// Follows all objects of one kind on behalf of several listeners.
fn shared<K>(client: &Client, listeners: &[&Bell]) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let bell = Bell::default();
    let store = follow(Api::all(client.clone()), watcher::Config::default(), &bell);
    let listeners: Vec<Bell> = listeners.iter().map(|&bell| bell.clone()).collect();
    tokio::spawn(async move {
        loop {
            bell.rung().await;
            listeners.iter().for_each(Bell::ring);
        }
    });
    store
}

/// The reference to the controller that manages an object, if one does.
pub(super) fn controller_of<K: Resource>(object: &K) -> Option<&OwnerReference> {
    let owners = object.meta().owner_references.as_deref().unwrap_or_default();
    owners.iter().find(|owner| owner.controller == Some(true))
}

/// Objects by the uid of the controller that manages them.
pub(super) fn by_controller<K: Resource>(objects: &[Arc<K>]) -> HashMap<&str, Vec<&K>> {
    let mut grouped: HashMap<&str, Vec<&K>> = HashMap::new();
    for object in objects {
        if let Some(owner) = controller_of(object.as_ref()) {
            grouped.entry(&owner.uid).or_default().push(object);
        }
    }
    grouped
}

/// Objects without a controller, by namespace: candidates for adoption.
pub(super) fn orphans<K: Resource>(objects: &[Arc<K>]) -> HashMap<&str, Vec<&K>> {
    let mut grouped: HashMap<&str, Vec<&K>> = HashMap::new();
    for object in objects {
        let meta = object.meta();
        if controller_of(object.as_ref()).is_none() && meta.deletion_timestamp.is_none() {
            grouped.entry(namespace_of(object.as_ref())).or_default().push(object);
        }
    }
    grouped
}

pub(super) fn namespace_of<K: Resource>(object: &K) -> &str {
    object.meta().namespace.as_deref().unwrap_or_default()
}

pub(super) fn name_of<K: Resource>(object: &K) -> &str {
    object.meta().name.as_deref().unwrap_or_default()
}

pub(super) fn uid_of<K: Resource>(object: &K) -> &str {
    object.meta().uid.as_deref().unwrap_or_default()
}

pub(super) fn is_deleting<K: Resource>(object: &K) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// A reference that makes `owner` the controller of whatever carries it.
pub(super) fn controlled_by<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: name_of(owner).to_owned(),
        uid: uid_of(owner).to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}
