//! Objects of mixed kinds, as `kubectl get ... -o json` lists them, sorted into a snapshot.

use serde::Deserialize;

use super::{EndpointSlice, Namespace, Node, Pod, Service, Snapshot};
use crate::policy::NetworkPolicy;

/// One Kubernetes object, told apart by its `kind`.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind")]
pub enum Object {
    Namespace(Namespace),
    Pod(Pod),
    Node(Node),
    Service(Service),
    EndpointSlice(EndpointSlice),
    NetworkPolicy(NetworkPolicy),
    /// Any other kind means nothing to the network here.
    #[serde(other)]
    Other,
}

impl Extend<Object> for Snapshot {
    fn extend<T: IntoIterator<Item = Object>>(&mut self, objects: T) {
        for object in objects {
            match object {
                Object::Namespace(namespace) => self.namespaces.push(namespace),
                Object::Pod(pod) => self.pods.push(pod),
                Object::Node(node) => self.nodes.push(node),
                Object::Service(service) => self.services.push(service),
                Object::EndpointSlice(slice) => self.endpoint_slices.push(slice),
                Object::NetworkPolicy(policy) => self.policies.push(policy),
                Object::Other => {}
            }
        }
    }
}

impl FromIterator<Object> for Snapshot {
    fn from_iter<T: IntoIterator<Item = Object>>(objects: T) -> Self {
        let mut snapshot = Self::default();
        snapshot.extend(objects);
        snapshot
    }
}
