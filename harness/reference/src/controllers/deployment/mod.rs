//! Deployments: each version of the pod template is a replica set, and a rollout moves replicas from the old ones
//! to the new one.
//!
//! The decisions are in [`rollout`] and [`progress`]; this file looks, carries out and tells.

mod bounds;
mod progress;
mod revision;
mod rollout;

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::Client;
use kube::api::DeleteParams;
use serde_json::json;

use super::drive::{Controller, Round, earliest};
use super::events::{Note, Recorder};
use super::log;
use super::matching::owns;
use super::pod_state::is_finished;
use super::world::{World, by_controller, controller_of, name_of, namespace_of, orphans, uid_of};
use super::write::{self, WriteError};
pub(super) use bounds::{Rounding, share};
use rollout::{Action, Seen, decide};

const COMPONENT: &str = "deployment-controller";

pub(super) struct Deployments {
    pub(super) client: Client,
    pub(super) world: World,
    pub(super) recorder: Recorder,
}

impl Controller for Deployments {
    async fn round(&mut self) -> Round {
        let (actions, again) = self.look(Timestamp::now());
        let round = write::carry_out(COMPONENT, actions, |(deployment, action)| self.act(deployment, action)).await;
        round.look_again(again)
    }
}

impl Deployments {
    fn look(&self, now: Timestamp) -> (Vec<(Arc<Deployment>, Action)>, Option<std::time::Duration>) {
        let replica_sets = self.world.replica_sets.state();
        let (owned, free) = (by_controller(&replica_sets), orphans(&replica_sets));
        let pods = self.pods_left();
        let (mut actions, mut again) = (Vec::new(), None);
        for deployment in self.world.deployments.state() {
            let seen = Seen {
                owned: owned.get(uid_of(deployment.as_ref())).map_or(&[][..], Vec::as_slice),
                adoptable: adoptable(&deployment, &free),
                pods: &pods,
            };
            let decision = decide(&deployment, &seen, now);
            again = earliest(again, decision.again);
            actions.extend(decision.actions.into_iter().map(|action| (deployment.clone(), action)));
        }
        (actions, again)
    }

    /// How many pods of each replica set still run, those on their way out included.
    fn pods_left(&self) -> HashMap<String, usize> {
        let mut left = HashMap::new();
        for pod in self.world.pods.state() {
            if let Some(owner) = controller_of(pod.as_ref())
                && !is_finished(&pod)
            {
                *left.entry(owner.uid.clone()).or_default() += 1;
            }
        }
        left
    }

    async fn act(&self, deployment: Arc<Deployment>, action: Action) -> Result<(), (String, WriteError)> {
        let what =
            format!("{action} of deployment `{}/{}`", namespace_of(deployment.as_ref()), name_of(deployment.as_ref()));
        let done = match action {
            Action::Create(replica_set) => self.create(&deployment, &replica_set).await,
            Action::Scale { replica_set, to, patch } => {
                let done = write::merge(&self.client, replica_set.as_ref(), patch).await;
                if done.is_ok() {
                    self.tell_scaled(&deployment, &replica_set, replicas(&replica_set), to);
                }
                done
            }
            Action::Annotate { replica_set, patch } | Action::Adopt { replica_set, patch } => {
                write::merge(&self.client, replica_set.as_ref(), patch).await
            }
            Action::Forget(replica_set) => {
                write::delete(&self.client, replica_set.as_ref(), DeleteParams::background()).await
            }
            Action::Revision(patch) => write::merge(&self.client, deployment.as_ref(), patch).await,
            Action::Status(patch) => write::merge_status(&self.client, deployment.as_ref(), patch).await,
        };
        done.map_err(|cause| (what, cause))
    }

    async fn create(&self, deployment: &Deployment, replica_set: &ReplicaSet) -> Result<(), WriteError> {
        match write::create(&self.client, replica_set).await {
            Ok(created) => {
                self.tell_scaled(deployment, &created, 0, replicas(&created));
                Ok(())
            }
            Err(cause) if cause.is_stale() => {
                self.evade(deployment, replica_set).await?;
                Err(cause)
            }
            Err(cause) if cause.is_terminating() => Err(cause),
            Err(cause) => {
                let message =
                    format!("Failed to create new replica set {:?}: {}", name_of(replica_set), cause.message());
                self.recorder.record(COMPONENT, Note::warning(deployment, "ReplicaSetCreateError", message));
                Err(cause)
            }
        }
    }

    /// Counts a collision, which changes the hash, when the name belongs to a replica set that is not ours.
    /// If it is ours, the watch has only not shown it yet.
    async fn evade(&self, deployment: &Deployment, wanted: &ReplicaSet) -> Result<(), WriteError> {
        let (namespace, name) = (namespace_of(wanted), name_of(wanted));
        let is_foreign = |set: &ReplicaSet| controller_of(set).is_some_and(|owner| owner.uid != uid_of(deployment));
        let taken = self
            .world
            .replica_sets
            .find(|set| name_of(set) == name && namespace_of(set) == namespace && is_foreign(set));
        if taken.is_none() {
            return Ok(());
        }
        let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
        let patch = json!({"status": {"collisionCount": collisions.unwrap_or(0) + 1}});
        write::merge_status(&self.client, deployment, patch).await
    }

    fn tell_scaled(&self, deployment: &Deployment, replica_set: &ReplicaSet, from: i32, to: i32) {
        let way = if to >= from { "up" } else { "down" };
        let message = format!("Scaled {way} replica set {} from {from} to {to}", name_of(replica_set));
        log::info(COMPONENT, format_args!("{}/{}: {message}", namespace_of(deployment), name_of(deployment)));
        self.recorder.record(COMPONENT, Note::normal(deployment, "ScalingReplicaSet", message));
    }
}

/// Replica sets without a controller that the selector of `deployment` selects.
fn adoptable<'r>(deployment: &Deployment, free: &HashMap<&str, Vec<&'r ReplicaSet>>) -> Vec<&'r ReplicaSet> {
    let Some(spec) = &deployment.spec else {
        return Vec::new();
    };
    let here = free.get(namespace_of(deployment)).map_or(&[][..], Vec::as_slice);
    let selected = |set: &&&ReplicaSet| owns(&spec.selector, set.metadata.labels.as_ref());
    here.iter().filter(selected).copied().collect()
}

/// How many pods of `replica_set` serve.
fn available(replica_set: &ReplicaSet) -> i32 {
    replica_set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

/// How many pods `replica_set` is to have.
fn replicas(replica_set: &ReplicaSet) -> i32 {
    replica_set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}
