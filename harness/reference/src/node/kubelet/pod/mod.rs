//! The life of one pod on its node: sandbox, containers, end. One task per pod, so that a pod that is stuck holds up
//! nobody.

mod containers;
pub mod sandbox;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use cknet_kernel::sandbox::Sandbox;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodSpec};
use kube::api::{DeleteParams, Preconditions};
use tokio::sync::watch;

use super::backoff::Backoff;
use super::context::{API_PATIENCE, NodeContext};
use super::events::{Severity, Subject};
use super::files::is_host_network;
use super::journal::journal;
use super::node_object::NETWORK_NOT_READY;
use super::publisher::{PodKey, Publisher};
use super::record::RecordFile;
use super::registry::Containers;
use super::runner::Role;
use super::status::{ContainerView, PodView, pod_status};
use super::until::until;

/// How long the last status may take to be told before the pod is deleted all the same.
const LAST_WORD: Duration = Duration::from_secs(5);

/// What the API says about a pod.
#[derive(Clone, Debug)]
pub struct Desired {
    pub pod: Arc<Pod>,
    /// The API does not know the pod any more.
    pub gone: bool,
}

impl Desired {
    pub fn is_leaving(&self) -> bool {
        self.gone || self.pod.metadata.deletion_timestamp.is_some()
    }

    pub fn image(&self, role: Role, index: usize) -> Option<&str> {
        let spec = self.pod.spec.as_ref()?;
        let container = match role {
            Role::Main => spec.containers.get(index),
            Role::Init | Role::Sidecar => spec.init_containers.as_ref()?.get(index),
        };
        container?.image.as_deref()
    }

    pub fn has_image(&self, role: Role, index: usize, image: &str) -> bool {
        self.image(role, index).unwrap_or_default() == image
    }
}

/// A sandbox with what belongs to it.
#[derive(Clone)]
pub struct Place {
    pub sandbox: Sandbox,
    pub address: Option<Ipv4Addr>,
    pub record: Arc<RecordFile>,
}

/// How the time of a pod's containers ended.
enum End {
    /// The pod is to go.
    Left,
    /// Everything has run to its end; the pod stays to be looked at.
    Finished,
    /// The kubelet stops; the containers go on.
    Shutdown,
}

/// The pod as its own task sees it.
struct PodActor {
    node: Arc<NodeContext>,
    key: PodKey,
    desired: watch::Receiver<Desired>,
    publisher: Publisher,
    view: PodView,
    conditions: Vec<PodCondition>,
    entries: Containers,
}

/// Lives through the whole life of the pod `key`. `record` is what a kubelet before this one left of it.
pub async fn live(node: Arc<NodeContext>, key: PodKey, desired: watch::Receiver<Desired>, record: Option<RecordFile>) {
    let registry = node.registry.clone();
    let actor = PodActor::new(node, key.clone(), desired);
    registry.enter(&key.namespace, &key.name, &key.uid, actor.entries.clone());
    actor.live(record).await;
    registry.leave(&key.namespace, &key.name, &key.uid);
}

impl PodActor {
    fn new(node: Arc<NodeContext>, key: PodKey, desired: watch::Receiver<Desired>) -> Self {
        let pod = Arc::clone(&desired.borrow().pod);
        let spec = pod.spec.clone().unwrap_or_default();
        let told = pod.status.clone().unwrap_or_default();
        let has_init = spec.init_containers.as_ref().is_some_and(|init| !init.is_empty());
        let views = |containers: &[k8s_openapi::api::core::v1::Container], reason: &str| -> Vec<ContainerView> {
            containers
                .iter()
                .map(|container| {
                    ContainerView::waiting(&container.name, container.image.as_deref().unwrap_or_default(), reason)
                })
                .collect()
        };
        let reason = if has_init { "PodInitializing" } else { "ContainerCreating" };
        let view = PodView {
            since: told.start_time.map_or_else(Timestamp::now, |time| time.0),
            sandboxed: false,
            address: None,
            init: views(spec.init_containers.as_deref().unwrap_or_default(), reason),
            main: views(&spec.containers, reason),
        };
        let entries: Containers =
            view.init.iter().chain(&view.main).map(|container| (container.name.clone(), Arc::default())).collect();
        entries.values().for_each(|entry| entry.waits(reason));
        let publisher = Publisher::start(node.config.client.clone(), key.clone());
        Self { node, key, desired, publisher, view, conditions: told.conditions.unwrap_or_default(), entries }
    }

    fn pod(&self) -> Arc<Pod> {
        Arc::clone(&self.desired.borrow().pod)
    }

    fn spec(&self) -> PodSpec {
        self.pod().spec.clone().unwrap_or_default()
    }

    fn told(&self) -> (Vec<ContainerStatus>, Vec<ContainerStatus>) {
        let status = self.pod().status.clone().unwrap_or_default();
        (status.init_container_statuses.unwrap_or_default(), status.container_statuses.unwrap_or_default())
    }

    fn publish(&mut self) {
        let pod = self.pod();
        let status = pod_status(&pod, &self.view, self.node.config.node_ip, &self.conditions, Timestamp::now());
        self.conditions = status.conditions.clone().unwrap_or_default();
        self.publisher.publish(status);
    }

    fn say(&self, severity: Severity, reason: &'static str, message: impl Into<String>) {
        let subject = Subject {
            kind: "Pod",
            namespace: self.key.namespace.clone(),
            name: self.key.name.clone(),
            uid: self.key.uid.clone(),
            field: None,
        };
        self.node.events.say(subject, severity, reason, message);
    }

    async fn live(mut self, record: Option<RecordFile>) {
        let ended_before = self.ended_before();
        let place = match record {
            Some(record) => self.reopen(record).await,
            None => None,
        };
        let place = match place {
            Some(place) => Some((place, true)),
            None if ended_before => None,
            None => self.make_place().await.map(|place| (place, false)),
        };
        let mut end = if ended_before { End::Finished } else { End::Left };
        if let Some((place, adopted)) = place {
            self.view.sandboxed = true;
            self.view.address = place.address;
            end = self.run_containers(&place, adopted).await;
            if matches!(end, End::Shutdown) {
                return;
            }
            self.entries.values().for_each(|entry| entry.stopped());
            let emptied = sandbox::tear_down(&self.node, &place).await;
            if let Err(error) = emptied {
                journal(format_args!("cannot tear pod `{}` down: {error}", self.key));
            }
            self.view.sandboxed = false;
        }
        if matches!(end, End::Finished) {
            if !ended_before {
                self.publish();
            }
            if !self.leaving().await {
                return;
            }
        }
        if !self.node.shutdown.is_cancelled() {
            self.depart().await;
        }
    }

    /// Whether all its containers had run to their end already when this kubelet first saw the pod.
    fn ended_before(&self) -> bool {
        let phase = self.pod().status.as_ref().and_then(|status| status.phase.clone());
        matches!(phase.as_deref(), Some("Succeeded" | "Failed"))
    }

    /// Waits until the pod is to go; `false` when the kubelet is to end first.
    async fn leaving(&self) -> bool {
        let mut desired = self.desired.clone();
        tokio::select! {
            () = until(&mut desired, Desired::is_leaving) => true,
            () = self.node.shutdown.cancelled() => false,
        }
    }

    /// Opens what a predecessor made; when that is not possible, what is left of it is cleared away.
    async fn reopen(&mut self, record: RecordFile) -> Option<Place> {
        let record = Arc::new(record);
        match sandbox::reopen(&self.node, &record, &self.spec()).await {
            Ok(place) => Some(place),
            Err(error) => {
                journal(format_args!("pod `{}` starts anew: {error}", self.key));
                sandbox::clear(&self.node, &record).await;
                None
            }
        }
    }

    /// A sandbox, as soon as one can be had; `None` when the pod is to go or the kubelet to end first.
    async fn make_place(&mut self) -> Option<Place> {
        self.publish();
        let mut backoff = Backoff::default();
        let spec = self.spec();
        loop {
            if !is_host_network(&spec) && !self.network_is_ready().await {
                return None;
            }
            let node = Arc::clone(&self.node);
            let (key, pod) = (self.key.clone(), self.pod());
            let problem = tokio::select! {
                made = sandbox::make(&node, &key, &pod) => match made {
                    Ok(place) => return Some(place),
                    Err(problem) => problem,
                },
                _ = self.leaving() => {
                    // What was begun is known by its record.
                    sandbox::clear_unfinished(&self.node, &self.key).await;
                    return None;
                }
            };
            self.say(Severity::Warning, "FailedCreatePodSandBox", format!("Failed to create pod sandbox: {problem}"));
            tokio::select! {
                () = tokio::time::sleep(backoff.next()) => {}
                _ = self.leaving() => return None,
            }
        }
    }

    /// Waits for the network of pods; `false` when the pod is to go first.
    async fn network_is_ready(&self) -> bool {
        let mut readiness = self.node.readiness.clone();
        let is_ready = readiness.borrow_and_update().is_ok();
        if !is_ready {
            self.say(Severity::Warning, "NetworkNotReady", format!("network is not ready: {NETWORK_NOT_READY}"));
        }
        tokio::select! {
            () = until(&mut readiness, Result::is_ok) => true,
            _ = self.leaving() => false,
        }
    }

    /// Says the last word about the pod and lets the API forget it.
    async fn depart(self) {
        let Self { node, key, desired, publisher, .. } = self;
        publisher.finish(LAST_WORD).await;
        if let Err(error) = std::fs::remove_dir_all(node.config.pod_root.join(&key.uid))
            && error.kind() != std::io::ErrorKind::NotFound
        {
            journal(format_args!("cannot remove the files of pod `{key}`: {error}"));
        }
        let pods = key.api(node.config.client.clone());
        let parameters = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: Some(key.uid.clone()), resource_version: None }),
            ..DeleteParams::default()
        };
        let mut backoff = Backoff::default();
        while !desired.borrow().gone && !node.shutdown.is_cancelled() {
            match tokio::time::timeout(API_PATIENCE, pods.delete(&key.name, &parameters)).await {
                Ok(Ok(_)) => return,
                // Somebody was faster, or another pod has the name.
                Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => return,
                Ok(Err(error)) => journal(format_args!("cannot delete pod `{key}`: {error}")),
                Err(_) => journal(format_args!("cannot delete pod `{key}`: no answer")),
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next()) => {}
                () = node.shutdown.cancelled() => {}
            }
        }
    }
}
