//! Daemon sets: one pod on every node that the template admits.
//!
//! The decisions are in [`decide`], the pods in [`pod`]; this file looks, carries out and tells.

mod decide;
mod pod;
mod update;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::DeleteParams;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::drive::{Controller, Round, earliest};
use super::events::{Note, Recorder};
use super::log;
use super::unseen::{Unseen, Write};
use super::world::{World, by_controller, name_of, namespace_of, uid_of};
use super::write::{self, WriteError};
use decide::{Action, decide};

const COMPONENT: &str = "daemonset-controller";

pub(super) struct DaemonSets {
    client: Client,
    world: World,
    recorder: Recorder,
    unseen: Mutex<Unseen>,
}

impl Controller for DaemonSets {
    async fn round(&mut self) -> Round {
        let (actions, again) = self.look(Timestamp::now());
        let round = write::carry_out(COMPONENT, actions, |(set, action)| self.act(set, action)).await;
        round.look_again(again).look_again(self.unseen.get_mut().patience(Instant::now()))
    }
}

impl DaemonSets {
    pub(super) fn new(client: Client, world: World, recorder: Recorder) -> Self {
        Self { client, world, recorder, unseen: Mutex::default() }
    }

    fn look(&mut self, now: Timestamp) -> (Vec<(Arc<DaemonSet>, Action)>, Option<Duration>) {
        let (pods, nodes) = (self.world.pods.state(), self.world.nodes.state());
        let by_uid: HashMap<&str, &Pod> = pods.iter().map(|pod| (uid_of(pod.as_ref()), pod.as_ref())).collect();
        let unseen = self.unseen.get_mut();
        unseen.settle(Instant::now(), |uid| super::shown(by_uid.get(uid).copied()));
        let owned = by_controller(&pods);
        let (mut actions, mut again) = (Vec::new(), None);
        for set in self.world.daemon_sets.state() {
            let uid = uid_of(set.as_ref());
            let owned = owned.get(uid).map_or(&[][..], Vec::as_slice);
            let decision = decide(&set, owned, &nodes, !unseen.waits(uid), now);
            again = earliest(again, decision.again);
            actions.extend(decision.actions.into_iter().map(|action| (set.clone(), action)));
        }
        (actions, again)
    }

    async fn act(&self, set: Arc<DaemonSet>, action: Action) -> Result<(), (String, WriteError)> {
        let what = format!("{action} of daemon set `{}/{}`", namespace_of(set.as_ref()), name_of(set.as_ref()));
        let done = match action {
            Action::Create { pod, .. } => self.create(&set, &pod).await,
            Action::Delete { pod, failed_on } => {
                if let Some(node) = failed_on {
                    let message = format!(
                        "Found failed daemon pod {}/{} on node {node}, will try to kill it",
                        namespace_of(pod.as_ref()),
                        name_of(pod.as_ref())
                    );
                    self.recorder.record(COMPONENT, Note::warning(set.as_ref(), "FailedDaemonPod", message));
                }
                self.delete(&set, &pod).await
            }
            Action::Status(patch) => write::merge_status(&self.client, set.as_ref(), patch).await,
        };
        done.map_err(|cause| (what, cause))
    }

    async fn create(&self, set: &DaemonSet, pod: &Pod) -> Result<(), WriteError> {
        match write::create(&self.client, pod).await {
            Ok(created) => {
                self.unseen.lock().await.note(uid_of(set), uid_of(&created), Write::Created, Instant::now());
                self.tell(set, "SuccessfulCreate", format!("Created pod: {}", name_of(&created)));
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

    async fn delete(&self, set: &DaemonSet, pod: &Pod) -> Result<(), WriteError> {
        write::delete(&self.client, pod, DeleteParams::default()).await?;
        self.unseen.lock().await.note(uid_of(set), uid_of(pod), Write::Deleted, Instant::now());
        self.tell(set, "SuccessfulDelete", format!("Deleted pod: {}", name_of(pod)));
        Ok(())
    }

    fn tell(&self, set: &DaemonSet, reason: &'static str, message: String) {
        log::info(COMPONENT, format_args!("{}/{}: {message}", namespace_of(set), name_of(set)));
        self.recorder.record(COMPONENT, Note::normal(set, reason, message));
    }
}
