//! Tells the API the status of one pod: always the latest, never two at once, again until it is taken.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::context::API_PATIENCE;
use super::journal::journal;

/// A pod object of the API: its name may be taken by another one later, its uid is not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodKey {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl PodKey {
    /// The key of an object of the API; `None` for one that is not stored.
    pub fn of(pod: &Pod) -> Option<Self> {
        let meta = &pod.metadata;
        Some(Self { namespace: meta.namespace.clone()?, name: meta.name.clone()?, uid: meta.uid.clone()? })
    }

    pub fn api(&self, client: Client) -> Api<Pod> {
        Api::namespaced(client, &self.namespace)
    }
}

impl std::fmt::Display for PodKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

/// Publishes in the background.
#[derive(Debug)]
pub struct Publisher {
    wanted: watch::Sender<Option<Arc<PodStatus>>>,
    task: JoinHandle<()>,
}

impl Publisher {
    pub fn start(client: Client, key: PodKey) -> Self {
        let (wanted, latest) = watch::channel(None);
        Self { wanted, task: tokio::spawn(publish(client, key, latest)) }
    }

    /// Replaces what the API should know; the same again is nothing.
    pub fn publish(&self, status: PodStatus) {
        self.wanted.send_if_modified(|known| {
            let differs = known.as_deref() != Some(&status);
            if differs {
                *known = Some(Arc::new(status));
            }
            differs
        });
    }

    /// Waits until the last status is told, at most `patience`.
    pub async fn finish(self, patience: Duration) {
        drop(self.wanted);
        let abort = self.task.abort_handle();
        if tokio::time::timeout(patience, self.task).await.is_err() {
            abort.abort();
        }
    }
}

async fn publish(client: Client, key: PodKey, mut latest: watch::Receiver<Option<Arc<PodStatus>>>) {
    let pods = key.api(client);
    // An error here means that the sender is gone and everything was told.
    while latest.changed().await.is_ok() {
        let mut delay = Duration::from_millis(50);
        loop {
            let Some(status) = latest.borrow_and_update().clone() else {
                break;
            };
            match tell(&pods, &key, &status).await {
                Told::Yes => break,
                Told::NoSuchPod => return,
                Told::NotNow(problem) => {
                    journal(format_args!("cannot tell the status of pod `{key}`: {problem}"));
                    tokio::select! {
                        () = tokio::time::sleep(delay) => {}
                        newer = latest.changed() => if newer.is_ok() { latest.mark_changed() } else { tokio::time::sleep(delay).await },
                    }
                    delay = (delay * 2).min(Duration::from_secs(2));
                }
            }
        }
    }
}

enum Told {
    Yes,
    NoSuchPod,
    NotNow(String),
}

async fn tell(pods: &Api<Pod>, key: &PodKey, status: &PodStatus) -> Told {
    // The uid makes a patch for a pod that was replaced meanwhile fail.
    let patch = json!({"metadata": {"uid": key.uid}, "status": status});
    let parameters = PatchParams::default();
    let patch = Patch::Strategic(patch);
    match tokio::time::timeout(API_PATIENCE, pods.patch_status(&key.name, &parameters, &patch)).await {
        Ok(Ok(_)) => Told::Yes,
        Ok(Err(kube::Error::Api(problem))) if problem.code == 404 => Told::NoSuchPod,
        // Either another pod has the name now, or somebody wrote at the same time.
        Ok(Err(kube::Error::Api(problem))) if is_gone(pods, key).await => {
            journal(format_args!("the status of pod `{key}` was refused: {}", problem.message));
            Told::NoSuchPod
        }
        Ok(Err(error)) => Told::NotNow(error.to_string()),
        Err(_) => Told::NotNow(format!("no answer in {} s", API_PATIENCE.as_secs())),
    }
}

async fn is_gone(pods: &Api<Pod>, key: &PodKey) -> bool {
    match tokio::time::timeout(API_PATIENCE, pods.get_metadata_opt(&key.name)).await {
        Ok(Ok(found)) => found.is_none_or(|pod| pod.metadata.uid.as_ref() != Some(&key.uid)),
        _ => false,
    }
}
