//! Who has lost its owners, and whose deletion waits for whom. Pure.

use std::collections::{HashMap, HashSet};
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ApiResource;
use kube::core::GroupVersionKind;

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// Kinds that the collector sees; an owner of another kind is taken to be there.
const KINDS: [(&str, &str, &str); 13] = [
    ("v1", "Node", "nodes"),
    ("v1", "Pod", "pods"),
    ("v1", "Service", "services"),
    ("v1", "Endpoints", "endpoints"),
    ("v1", "ConfigMap", "configmaps"),
    ("v1", "Secret", "secrets"),
    ("v1", "ServiceAccount", "serviceaccounts"),
    ("apps/v1", "Deployment", "deployments"),
    ("apps/v1", "DaemonSet", "daemonsets"),
    ("apps/v1", "ReplicaSet", "replicasets"),
    ("discovery.k8s.io/v1", "EndpointSlice", "endpointslices"),
    ("coordination.k8s.io/v1", "Lease", "leases"),
    ("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
];

pub(super) fn known_kind(api_version: &str, kind: &str) -> Option<ApiResource> {
    let (_, kind, plural) = KINDS.iter().find(|known| known.0 == api_version && known.1 == kind)?;
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let gvk = GroupVersionKind::gvk(group, version, kind);
    Some(ApiResource::from_gvk_with_plural(&gvk, plural))
}

/// An object as far as ownership goes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    pub(super) resource: ApiResource,
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) version: Option<String>,
    pub(super) owners: Vec<OwnerReference>,
    pub(super) finalizers: Vec<String>,
    pub(super) deleting: bool,
}

impl Item {
    pub(super) fn place(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.name),
            None => self.name.clone(),
        }
    }

    /// Whether this object is being deleted in the way that `finalizer` stands for.
    fn waits_as(&self, finalizer: &str) -> bool {
        self.deleting && self.finalizers.iter().any(|other| other == finalizer)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// Deletes an object whose owners seem to be gone.
    Collect { item: Item, owners: Vec<OwnerReference> },
    /// Deletes an object before its owner.
    DeleteFirst { item: Item },
    /// Makes an object forget an owner that is deleted without it.
    Disown { item: Item, owner: String },
    /// Lets an object go that waited for others.
    Release { item: Item, finalizer: &'static str },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, item) = match self {
            Self::Collect { item, .. } | Self::DeleteFirst { item } => ("deleting", item),
            Self::Disown { item, .. } => ("orphaning", item),
            Self::Release { item, .. } => ("releasing", item),
        };
        write!(f, "{verb} {} `{}`", item.resource.kind, item.place())
    }
}

pub(super) fn decide(items: &[Item]) -> Vec<Action> {
    let living: HashSet<&str> = items.iter().map(|item| item.uid.as_str()).collect();
    let mut dependents: HashMap<&str, Vec<&Item>> = HashMap::new();
    for item in items {
        for owner in &item.owners {
            dependents.entry(&owner.uid).or_default().push(item);
        }
    }
    let mut actions: Vec<_> = items.iter().filter_map(|item| collect(item, &living)).collect();
    for item in items {
        let owned = dependents.get(item.uid.as_str()).map_or(&[][..], Vec::as_slice);
        if item.waits_as(FOREGROUND) {
            actions.extend(foreground(item, owned));
        } else if item.waits_as(ORPHAN) {
            actions.extend(orphan(item, owned));
        }
    }
    actions
}

fn collect(item: &Item, living: &HashSet<&str>) -> Option<Action> {
    let is_gone = |owner: &OwnerReference| {
        !living.contains(owner.uid.as_str()) && known_kind(&owner.api_version, &owner.kind).is_some()
    };
    let is_lost = !item.deleting && !item.owners.is_empty() && item.owners.iter().all(is_gone);
    is_lost.then(|| Action::Collect { item: item.clone(), owners: item.owners.clone() })
}

fn foreground(item: &Item, owned: &[&Item]) -> Vec<Action> {
    let blocks = |dependent: &&&Item| {
        let mut owners = dependent.owners.iter();
        owners.any(|owner| owner.uid == item.uid && owner.block_owner_deletion == Some(true))
    };
    let mut actions: Vec<_> = owned
        .iter()
        .filter(|dependent| !dependent.deleting)
        .map(|dependent| Action::DeleteFirst { item: (*dependent).clone() })
        .collect();
    if owned.iter().filter(blocks).count() == 0 {
        actions.push(Action::Release { item: item.clone(), finalizer: FOREGROUND });
    }
    actions
}

fn orphan(item: &Item, owned: &[&Item]) -> Vec<Action> {
    if owned.is_empty() {
        return vec![Action::Release { item: item.clone(), finalizer: ORPHAN }];
    }
    let owner = &item.uid;
    let disowned = owned.iter().map(|dependent| Action::Disown { item: (*dependent).clone(), owner: owner.clone() });
    disowned.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn item(kind: &str, name: &str, owners: &[(&str, &str)]) -> Item {
        let owner = |&(kind, name): &(&str, &str)| OwnerReference {
            api_version: if kind == "Widget" { "example.org/v1" } else { "apps/v1" }.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
            uid: name.to_owned(),
            block_owner_deletion: Some(true),
            controller: None,
        };
        let api_version = if kind == "Pod" { "v1" } else { "apps/v1" };
        Item {
            resource: known_kind(api_version, kind).unwrap(),
            namespace: Some("shop".to_owned()),
            name: name.to_owned(),
            uid: name.to_owned(),
            version: Some("1".to_owned()),
            owners: owners.iter().map(owner).collect(),
            finalizers: Vec::new(),
            deleting: false,
        }
    }

    fn deleting(mut item: Item, finalizer: &str) -> Item {
        item.deleting = true;
        item.finalizers.push(finalizer.to_owned());
        item
    }

    fn told(items: &[Item]) -> Vec<String> {
        decide(items).iter().map(Action::to_string).collect()
    }

    #[test]
    fn what_lost_all_owners_goes() {
        let set = item("ReplicaSet", "set", &[]);
        let kept = item("Pod", "kept", &[("ReplicaSet", "set")]);
        let shared = item("Pod", "shared", &[("ReplicaSet", "set"), ("ReplicaSet", "gone")]);
        let lost = item("Pod", "lost", &[("ReplicaSet", "gone")]);
        let foreign = item("Pod", "foreign", &[("Widget", "gone")]);
        let free = item("Pod", "free", &[]);
        assert_eq!(told(&[set, kept, shared, lost, foreign, free]), ["deleting Pod `shop/lost`"]);
    }

    #[test]
    fn a_deletion_in_the_foreground_waits_for_what_is_owned() {
        let set = deleting(item("ReplicaSet", "set", &[]), FOREGROUND);
        let pod = item("Pod", "pod", &[("ReplicaSet", "set")]);
        assert_eq!(told(&[set.clone(), pod.clone()]), ["deleting Pod `shop/pod`"]);
        assert_eq!(told(&[set.clone(), deleting(pod, "other")]), Vec::<String>::new());
        assert_eq!(told(&[set]), ["releasing ReplicaSet `shop/set`"]);
    }

    #[test]
    fn orphaning_cuts_the_tie_first() {
        let set = deleting(item("ReplicaSet", "set", &[]), ORPHAN);
        let pod = item("Pod", "pod", &[("ReplicaSet", "set")]);
        assert_eq!(told(&[set.clone(), pod]), ["orphaning Pod `shop/pod`"]);
        assert_eq!(told(&[set]), ["releasing ReplicaSet `shop/set`"]);
    }
}
