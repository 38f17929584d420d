//! What a deployment needs next: the new replica set, more of the new, less of the old. Pure.
//!
//! One round takes one step; the change it makes rings the bell for the next. A decision on an old state is harmless:
//! replica sets have fixed names, and scaling names the version of the object it was decided on.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::bounds::bounds;
use super::progress::{self, Totals};
use super::revision::{DESIRED, MAXIMUM, REVISION, forgotten, hash_of, is_of, new_replica_set, next_revision};
use super::{available, replicas};
use crate::controllers::world::{controlled_by, is_deleting, name_of, uid_of};
use crate::controllers::write::status_patch;

/// What a deployment has.
pub(super) struct Seen<'a> {
    pub(super) owned: &'a [&'a ReplicaSet],
    pub(super) adoptable: Vec<&'a ReplicaSet>,
    /// Pods left by the uid of their replica set.
    pub(super) pods: &'a HashMap<String, usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    Adopt { replica_set: Box<ReplicaSet>, patch: Value },
    Create(Box<ReplicaSet>),
    Scale { replica_set: Box<ReplicaSet>, to: i32, patch: Value },
    Annotate { replica_set: Box<ReplicaSet>, patch: Value },
    Forget(Box<ReplicaSet>),
    Revision(Value),
    Status(Value),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Adopt { replica_set, .. } => {
                write!(f, "adopting replica set `{}`", replica_set.name_any())
            }
            Self::Create(set) => write!(f, "creating replica set `{}`", set.name_any()),
            Self::Scale { replica_set, to, .. } => {
                write!(f, "scaling replica set `{}` to {to}", replica_set.name_any())
            }
            Self::Annotate { replica_set, .. } => {
                write!(f, "annotating replica set `{}`", replica_set.name_any())
            }
            Self::Forget(set) => write!(f, "deleting old replica set `{}`", set.name_any()),
            Self::Revision(_) => write!(f, "writing the revision"),
            Self::Status(_) => write!(f, "writing the status"),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Decision {
    pub(super) actions: Vec<Action>,
    pub(super) again: Option<Duration>,
}

/// The deployment with its numbers worked out.
struct Rollout<'a> {
    deployment: &'a Deployment,
    spec: &'a DeploymentSpec,
    replicas: i32,
    /// Pods allowed beyond and below `replicas` during the rollout.
    surge: i32,
    unavailable: i32,
    recreate: bool,
    hash: String,
    newest: Option<&'a ReplicaSet>,
    /// The other replica sets, oldest first.
    old: Vec<&'a ReplicaSet>,
}

pub(super) fn decide(deployment: &Deployment, seen: &Seen<'_>, now: Timestamp) -> Decision {
    let Some(spec) = &deployment.spec else {
        return Decision::default();
    };
    if is_deleting(deployment) {
        return Decision::default();
    }
    let rollout = Rollout::new(deployment, spec, seen.owned);
    let mut actions: Vec<_> = seen.adoptable.iter().map(|set| adopt(deployment, set)).collect();
    if actions.is_empty() {
        actions.extend(rollout.step(seen.pods));
    }
    let created = actions.iter().find_map(|action| match action {
        Action::Create(set) => Some(name_of(set.as_ref()).to_owned()),
        _ => None,
    });
    let totals = Totals {
        replicas: rollout.replicas,
        unavailable: rollout.unavailable,
        newest: rollout.newest,
        all: seen.owned,
        created,
    };
    let (status, again) = progress::status(deployment, spec, &totals, now);
    if deployment.status.as_ref() != Some(&status) {
        actions.push(Action::Status(status_patch(deployment.status.as_ref(), &status)));
    }
    Decision { actions, again }
}

fn adopt(deployment: &Deployment, set: &ReplicaSet) -> Action {
    let mut owners = set.owner_references().to_vec();
    owners.push(controlled_by(deployment));
    Action::Adopt {
        replica_set: Box::new(set.clone()),
        patch: json!({"metadata": {
            "resourceVersion": set.metadata.resource_version, "ownerReferences": owners}}),
    }
}

impl<'a> Rollout<'a> {
    fn new(deployment: &'a Deployment, spec: &'a DeploymentSpec, owned: &[&'a ReplicaSet]) -> Self {
        let hash = hash_of(deployment, spec);
        let mut sorted = owned.to_vec();
        sorted.sort_by_key(|set| (set.creation_timestamp(), set.name_any()));
        let newest = sorted.iter().copied().find(|set| is_of(set, &hash) && !is_deleting(*set));
        let old = |set: &&ReplicaSet| newest.is_none_or(|newest| uid_of(newest) != uid_of(*set));
        let strategy = spec.strategy.as_ref();
        let replicas = spec.replicas.unwrap_or(1);
        let (surge, unavailable) = bounds(spec, replicas);
        Self {
            deployment,
            spec,
            replicas,
            surge,
            unavailable,
            recreate: strategy.and_then(|s| s.type_.as_deref()) == Some("Recreate"),
            old: sorted.iter().copied().filter(old).collect(),
            hash,
            newest,
        }
    }

    fn step(&self, pods: &HashMap<String, usize>) -> Vec<Action> {
        if self.spec.paused == Some(true) {
            return self.scale_paused();
        }
        let mut actions = self.revise();
        let step = if self.recreate { self.recreate(pods) } else { self.roll() };
        actions.extend(step);
        if actions.is_empty() && self.is_complete() {
            let forgotten = forgotten(self.spec, &self.old).into_iter();
            actions.extend(forgotten.map(|set| Action::Forget(Box::new(set.clone()))));
        }
        actions
    }

    /// A paused rollout makes no new replica set, but what is there follows the number of replicas.
    fn scale_paused(&self) -> Vec<Action> {
        let active: Vec<_> = self.all().filter(|set| replicas(set) > 0).collect();
        match (active.as_slice(), self.newest) {
            ([only], _) => self.scale(only, self.replicas).into_iter().collect(),
            ([], Some(newest)) => self.scale(newest, self.replicas).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    fn recreate(&self, pods: &HashMap<String, usize>) -> Vec<Action> {
        let down: Vec<_> = self.old.iter().filter_map(|set| self.scale(set, 0)).collect();
        if !down.is_empty() {
            return down;
        }
        if self.old.iter().any(|set| pods.get(uid_of(*set)).is_some_and(|&left| left > 0)) {
            return Vec::new();
        }
        match self.newest {
            Some(newest) => self.scale(newest, self.replicas).into_iter().collect(),
            None => vec![self.create(self.replicas)],
        }
    }

    fn roll(&self) -> Vec<Action> {
        let wanted = self.new_replicas();
        let Some(newest) = self.newest else {
            return vec![self.create(wanted)];
        };
        if let Some(action) = self.scale(newest, wanted) {
            return vec![action];
        }
        self.shrink_old(newest)
    }

    /// How many replicas the new replica set may have now.
    fn new_replicas(&self) -> i32 {
        let current = self.newest.map_or(0, replicas);
        if current >= self.replicas {
            return self.replicas;
        }
        let total: i32 = self.all().map(replicas).sum();
        let room = (self.replicas + self.surge - total).max(0);
        current + room.min(self.replicas - current)
    }

    /// Takes replicas off the old ones: first those that do not serve anyway, then as many as may be missing.
    fn shrink_old(&self, newest: &ReplicaSet) -> Vec<Action> {
        let total: i32 = self.all().map(replicas).sum();
        let least = self.replicas - self.unavailable;
        let new_missing = replicas(newest) - available(newest);
        let mut may_go = total - least - new_missing;
        if may_go <= 0 {
            return Vec::new();
        }
        let mut targets: Vec<i32> = self.old.iter().map(|set| replicas(set)).collect();
        for (target, set) in targets.iter_mut().zip(&self.old) {
            let broken = (*target - available(set)).clamp(0, may_go);
            *target -= broken;
            may_go -= broken;
        }
        let mut spare: i32 = self.all().map(available).sum::<i32>() - least;
        for target in &mut targets {
            let gone = (*target).min(spare.min(may_go)).max(0);
            *target -= gone;
            spare -= gone;
            may_go -= gone;
        }
        let scaled = self.old.iter().zip(targets);
        scaled.filter_map(|(set, target)| self.scale(set, target)).collect()
    }

    fn all(&self) -> impl Iterator<Item = &'a ReplicaSet> {
        self.newest.into_iter().chain(self.old.iter().copied())
    }

    fn is_complete(&self) -> bool {
        self.newest.is_some_and(|newest| replicas(newest) == self.replicas && available(newest) == self.replicas)
            && self.old.iter().all(|set| replicas(set) == 0)
    }

    fn create(&self, replicas: i32) -> Action {
        let mut annotations = self.counts();
        annotations.insert(REVISION.to_owned(), next_revision(&self.old).to_string());
        let set = new_replica_set(self.deployment, self.spec, &self.hash, replicas, annotations);
        Action::Create(Box::new(set))
    }

    fn scale(&self, set: &ReplicaSet, to: i32) -> Option<Action> {
        if replicas(set) == to || is_deleting(set) {
            return None;
        }
        let patch = json!({
            "metadata": {
                "resourceVersion": set.metadata.resource_version,
                "annotations": self.counts(),
            },
            "spec": {"replicas": to},
        });
        let replica_set = Box::new(set.clone());
        Some(Action::Scale { replica_set, to, patch })
    }

    fn counts(&self) -> BTreeMap<String, String> {
        let most = self.replicas + if self.recreate { 0 } else { self.surge };
        BTreeMap::from([(DESIRED.to_owned(), self.replicas.to_string()), (MAXIMUM.to_owned(), most.to_string())])
    }

    /// Keeps the revision numbers: the current template has the highest, also when an old one came back.
    fn revise(&self) -> Vec<Action> {
        let Some(newest) = self.newest else {
            return Vec::new();
        };
        let revision = next_revision(&self.old).max(super::revision::revision_of(newest)).to_string();
        let is_noted =
            |annotations: &BTreeMap<String, String>| annotations.get(REVISION).is_some_and(|noted| *noted == revision);
        let patch = json!({"metadata": {"annotations": {REVISION: revision}}});
        let mut actions = Vec::new();
        if !is_noted(newest.annotations()) {
            let replica_set = Box::new(newest.clone());
            actions.push(Action::Annotate { replica_set, patch: patch.clone() });
        }
        if !is_noted(self.deployment.annotations()) {
            actions.push(Action::Revision(patch));
        }
        actions
    }
}

#[cfg(test)]
#[path = "rollout_tests.rs"]
mod tests;
