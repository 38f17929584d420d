//! Replica sets: as many pods of one template as are asked for.
//!
//! The decisions are in [`decide`]; this file looks, carries out and tells.

mod decide;
mod victims;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::DeleteParams;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::drive::{Controller, Round, earliest};
use super::events::{Note, Recorder};
use super::log;
use super::unseen::{Unseen, Write};
use super::world::{World, by_controller, name_of, namespace_of, orphans, uid_of};
use super::write::{self, WriteError};
use decide::{Action, Seen, decide};

const COMPONENT: &str = "replicaset-controller";

pub(super) struct ReplicaSets {
    client: Client,
    world: World,
    recorder: Recorder,
    unseen: Mutex<Unseen>,
}

impl Controller for ReplicaSets {
    async fn round(&mut self) -> Round {
        let (actions, again) = self.look(Timestamp::now());
        let round = write::carry_out(COMPONENT, actions, |(set, action)| self.act(set, action)).await;
        round.look_again(again).look_again(self.unseen.get_mut().patience(Instant::now()))
    }
}

impl ReplicaSets {
    pub(super) fn new(client: Client, world: World, recorder: Recorder) -> Self {
        Self { client, world, recorder, unseen: Mutex::default() }
    }

    fn look(&mut self, now: Timestamp) -> (Vec<(Arc<ReplicaSet>, Action)>, Option<Duration>) {
        let pods = self.world.pods.state();
        let by_uid: HashMap<&str, &Pod> = pods.iter().map(|pod| (uid_of(pod.as_ref()), pod.as_ref())).collect();
        let unseen = self.unseen.get_mut();
        unseen.settle(Instant::now(), |uid| super::shown(by_uid.get(uid).copied()));
        let (owned, free) = (by_controller(&pods), orphans(&pods));
        let (mut actions, mut again) = (Vec::new(), None);
        for set in self.world.replica_sets.state() {
            let seen = Seen {
                owned: owned.get(uid_of(set.as_ref())).map_or(&[][..], Vec::as_slice),
                free: free.get(namespace_of(set.as_ref())).map_or(&[][..], Vec::as_slice),
                settled: !unseen.waits(uid_of(set.as_ref())),
            };
            let decision = decide(&set, &seen, now);
            again = earliest(again, decision.again);
            actions.extend(decision.actions.into_iter().map(|action| (set.clone(), action)));
        }
        (actions, again)
    }

    async fn act(&self, set: Arc<ReplicaSet>, action: Action) -> Result<(), (String, WriteError)> {
        let place = format!("`{}/{}`", namespace_of(set.as_ref()), name_of(set.as_ref()));
        match action {
            Action::Create(pod) => {
                let done = self.create(&set, &pod).await;
                done.map_err(|cause| (format!("creating a pod of replica set {place}"), cause))
            }
            Action::Delete(pod) => {
                let done = self.delete(&set, &pod).await;
                done.map_err(|cause| (format!("deleting a pod of replica set {place}"), cause))
            }
            Action::Owners { pod, patch } => {
                let done = write::merge(&self.client, pod.as_ref(), patch).await;
                done.map_err(|cause| (format!("claiming a pod for replica set {place}"), cause))
            }
            Action::Status(patch) => {
                let done = write::merge_status(&self.client, set.as_ref(), patch).await;
                done.map_err(|cause| (format!("writing the status of replica set {place}"), cause))
            }
        }
    }

    async fn create(&self, set: &ReplicaSet, pod: &Pod) -> Result<(), WriteError> {
        match write::create(&self.client, pod).await {
            Ok(created) => {
                self.unseen.lock().await.note(uid_of(set), uid_of(&created), Write::Created, Instant::now());
                let message = format!("Created pod: {}", name_of(&created));
                log::info(COMPONENT, format_args!("{}/{}: {message}", namespace_of(set), name_of(set)));
                self.recorder.record(COMPONENT, Note::normal(set, "SuccessfulCreate", message));
                Ok(())
            }
            Err(cause) if cause.is_terminating() => Err(cause),
            Err(cause) => {
                let message = format!("Error creating: {}", cause.message());
                self.recorder.record(COMPONENT, Note::warning(set, "FailedCreate", message));
                Err(cause)
            }
        }
    }

    async fn delete(&self, set: &ReplicaSet, pod: &Pod) -> Result<(), WriteError> {
        write::delete(&self.client, pod, DeleteParams::default()).await?;
        self.unseen.lock().await.note(uid_of(set), uid_of(pod), Write::Deleted, Instant::now());
        let message = format!("Deleted pod: {}", name_of(pod));
        log::info(COMPONENT, format_args!("{}/{}: {message}", namespace_of(set), name_of(set)));
        self.recorder.record(COMPONENT, Note::normal(set, "SuccessfulDelete", message));
        Ok(())
    }
}
