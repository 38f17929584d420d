//! The scheduler: binds pods that have no node to one that admits them.
//!
//! The decisions are in [`decide`]; this file looks, binds and tells.

mod decide;
mod filter;
mod neighbours;

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::drive::{Controller, Round};
use super::events::{Note, Recorder};
use super::log;
use super::pod_state::{condition, node_of};
use super::world::{World, name_of, namespace_of, uid_of};
use super::write::{self, WriteError};
use decide::{Verdict, decide};

const COMPONENT: &str = "default-scheduler";

/// A binding that the watch has not shown after this time is looked at again.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) struct Scheduler {
    client: Client,
    world: World,
    recorder: Recorder,
    /// Pods bound by earlier rounds that the watch still shows without a node, by uid.
    assumed: Mutex<HashMap<String, (String, Instant)>>,
}

impl Controller for Scheduler {
    async fn round(&mut self) -> Round {
        let (pods, nodes) = (self.world.pods.state(), self.world.nodes.state());
        let assumed = self.assumed.get_mut();
        let unbound = pods.iter().filter(|pod| node_of(pod).is_none());
        let unbound: std::collections::HashSet<&str> = unbound.map(|pod| uid_of(pod.as_ref())).collect();
        let now = Instant::now();
        assumed.retain(|uid, (_, until)| unbound.contains(uid.as_str()) && *until > now);
        let bound = assumed.iter().map(|(uid, (node, _))| (uid.clone(), node.clone())).collect();
        let verdicts = decide(&pods, &nodes, &bound);
        let round = write::carry_out(COMPONENT, verdicts, |verdict| self.act(verdict)).await;
        let waits = !self.assumed.get_mut().is_empty();
        round.look_again(waits.then_some(PATIENCE))
    }
}

impl Scheduler {
    pub(super) fn new(client: Client, world: World, recorder: Recorder) -> Self {
        Self { client, world, recorder, assumed: Mutex::default() }
    }

    async fn act(&self, verdict: Verdict) -> Result<(), (String, WriteError)> {
        match verdict {
            Verdict::Bind { pod, node } => {
                let what = format!("binding pod `{}/{}` to node `{node}`", namespace_of(pod.as_ref()), pod.name_any());
                self.bind(&pod, &node).await.map_err(|cause| (what, cause))
            }
            Verdict::Unschedulable { pod, message } => {
                let what = format!("telling that pod `{}/{}` has no node", namespace_of(pod.as_ref()), pod.name_any());
                self.refuse(&pod, message).await.map_err(|cause| (what, cause))
            }
        }
    }

    async fn bind(&self, pod: &Pod, node: &str) -> Result<(), WriteError> {
        let binding = Binding {
            metadata: ObjectMeta {
                name: pod.metadata.name.clone(),
                namespace: pod.metadata.namespace.clone(),
                uid: pod.metadata.uid.clone(),
                ..Default::default()
            },
            target: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Node".to_owned()),
                name: Some(node.to_owned()),
                ..Default::default()
            },
        };
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace_of(pod));
        let params = PostParams::default();
        write::within(api.create_subresource::<_, Value>("binding", name_of(pod), &params, &binding)).await?;
        let until = Instant::now() + PATIENCE;
        self.assumed.lock().await.insert(uid_of(pod).to_owned(), (node.to_owned(), until));
        let message = format!("Successfully assigned {}/{} to {node}", namespace_of(pod), name_of(pod));
        log::info(COMPONENT, &message);
        self.recorder.record(COMPONENT, Note::normal(pod, "Scheduled", message));
        Ok(())
    }

    async fn refuse(&self, pod: &Pod, message: String) -> Result<(), WriteError> {
        if let Some(patch) = unscheduled(pod, &message, Timestamp::now()) {
            write::merge_status(&self.client, pod, patch).await?;
            log::info(COMPONENT, format_args!("unable to schedule {}/{}: {message}", namespace_of(pod), name_of(pod)));
            self.recorder.record(COMPONENT, Note::warning(pod, "FailedScheduling", message));
        }
        Ok(())
    }
}

/// The patch that says `message` in the pod's condition; none if it says so already.
fn unscheduled(pod: &Pod, message: &str, now: Timestamp) -> Option<Value> {
    let old = condition(pod, "PodScheduled");
    let is_said = old.is_some_and(|old| {
        old.status == "False"
            && old.reason.as_deref() == Some("Unschedulable")
            && old.message.as_deref() == Some(message)
    });
    if is_said {
        return None;
    }
    let since = old.filter(|old| old.status == "False").and_then(|old| old.last_transition_time.clone());
    let new = PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "False".to_owned(),
        reason: Some("Unschedulable".to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: since.or(Some(Time(now))),
        ..Default::default()
    };
    let all = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let mut conditions: Vec<&PodCondition> = all.iter().filter(|other| other.type_ != new.type_).collect();
    conditions.push(&new);
    Some(json!({
        "metadata": {"resourceVersion": pod.metadata.resource_version},
        "status": {"phase": "Pending", "conditions": conditions},
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn the_same_refusal_is_said_once() {
        let mut pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "resourceVersion": "7"},
            "status": {"conditions": [{"type": "Other", "status": "True"}]}}))
        .unwrap();
        let patch = unscheduled(&pod, "0/1 nodes", Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(patch["status"]["conditions"][0]["type"], "Other", "other conditions stay");
        pod.status = serde_json::from_value(patch["status"].clone()).unwrap();
        assert_eq!(unscheduled(&pod, "0/1 nodes", Timestamp::UNIX_EPOCH), None);
        assert!(unscheduled(&pod, "0/2 nodes", Timestamp::UNIX_EPOCH).is_some());
    }
}
