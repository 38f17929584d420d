//! The life of one container: started, probed, awaited, started again as its pod's policy says, stopped.
//!
//! It reports every change of its state and owns nothing of its pod; when to start at all is the pod's affair.

mod attempt;
mod supervise;
mod waiting;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use cknet_kernel::sandbox::Sandbox;
use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::backoff::Backoff;
use super::context::NodeContext;
use super::events::{Severity, Subject};
use super::pod::Desired;
use super::publisher::PodKey;
use super::record::{ContainerRecord, RecordFile};
use super::registry::ContainerEntry;
use super::status::{ContainerView, RestartPolicy, State, Termination};
use waiting::Interrupted;

/// What part a container plays in its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs to success before the next one.
    Init,
    /// Starts among the init containers and stays.
    Sidecar,
    Main,
}

/// A change that a pod is told of.
#[derive(Debug)]
pub struct Report {
    pub role: Role,
    pub index: usize,
    pub view: ContainerView,
}

/// When a container must be dead; `None` while it may live.
pub type StopOrder = watch::Receiver<Option<Instant>>;

/// Runs one container.
pub struct Runner {
    pub node: Arc<NodeContext>,
    pub key: PodKey,
    pub role: Role,
    pub index: usize,
    pub sandbox: Sandbox,
    pub address: Option<Ipv4Addr>,
    pub record: Arc<RecordFile>,
    pub entry: Arc<ContainerEntry>,
    pub desired: watch::Receiver<Desired>,
    pub stop: StopOrder,
    pub reports: mpsc::Sender<Report>,
    pub view: ContainerView,
}

/// Why nothing was started.
enum NotStarted {
    Image(String),
    Configuration(String),
    /// It counts as an attempt that has ended.
    Failed(Termination),
}

impl Runner {
    /// Until the container has ended for good or is stopped. `adopted` is its process from before a restart of the
    /// kubelet, where that is still known.
    pub async fn run(mut self, adopted: Option<ContainerRecord>) {
        let mut adopted = adopted;
        let mut backoff = Backoff::default();
        let mut failures = 0_u32;
        while self.stop.borrow().is_none() {
            let begun = match adopted.take() {
                Some(record) => self.adopt(&record).await,
                None => self.begin().await,
            };
            let end = match begun {
                Ok(attempt) => self.accompany(attempt).await,
                Err(NotStarted::Failed(end)) => {
                    self.say(
                        Severity::Warning,
                        "Failed",
                        format!("Error: {}", end.message.as_deref().unwrap_or_default()),
                    );
                    Some(end)
                }
                Err(NotStarted::Image(message)) => {
                    self.hold_for_image(message, &mut backoff).await;
                    continue;
                }
                Err(NotStarted::Configuration(message)) => {
                    self.hold_for_configuration(message, &mut backoff).await;
                    continue;
                }
            };
            let Some(end) = end else { return };
            if let Some(began) = end.began {
                let lasted = end.ended.duration_since(began).unsigned_abs();
                backoff.reset_after(lasted);
                failures = if lasted >= Duration::from_secs(20) { 0 } else { failures };
            }
            let comes_back = self.comes_back(end.exit_code);
            self.view.state = State::Terminated(end.clone());
            self.view.ready = self.role == Role::Init && end.exit_code == 0;
            self.report().await;
            if !comes_back {
                return;
            }
            failures += 1;
            self.view.last = Some(end);
            // As with a kubelet, the first restart is at once.
            if failures > 1 && self.hold_back(backoff.next()).await == Err(Interrupted::Stopped) {
                break;
            }
            self.view.restarts += 1;
        }
        self.close_unstarted().await;
    }

    fn comes_back(&self, exit_code: i32) -> bool {
        if self.stop.borrow().is_some() {
            return false;
        }
        let policy = self.pod().spec.as_ref().map_or(RestartPolicy::Always, RestartPolicy::of);
        match self.role {
            Role::Main => policy.restarts(exit_code),
            Role::Sidecar => true,
            Role::Init => exit_code != 0 && policy != RestartPolicy::Never,
        }
    }

    fn pod(&self) -> Arc<Pod> {
        Arc::clone(&self.desired.borrow().pod)
    }

    /// The container's spec as the pod has it now.
    fn spec(&self) -> Container {
        let pod = self.pod();
        let spec = pod.spec.as_ref();
        let found = match self.role {
            Role::Main => spec.and_then(|spec| spec.containers.get(self.index)),
            _ => spec.and_then(|spec| spec.init_containers.as_ref()?.get(self.index)),
        };
        found.cloned().unwrap_or_default()
    }

    fn subject(&self) -> Subject {
        let list = if self.role == Role::Main { "containers" } else { "initContainers" };
        Subject {
            kind: "Pod",
            namespace: self.key.namespace.clone(),
            name: self.key.name.clone(),
            uid: self.key.uid.clone(),
            field: Some(format!("spec.{list}{{{}}}", self.view.name)),
        }
    }

    fn say(&self, severity: Severity, reason: &'static str, message: impl Into<String>) {
        self.node.events.say(self.subject(), severity, reason, message);
    }

    async fn report(&self) {
        if let State::Waiting { reason, .. } = &self.view.state {
            self.entry.waits(reason);
        }
        let report = Report { role: self.role, index: self.index, view: self.view.clone() };
        // A pod that went away needs no reports.
        let _ = self.reports.send(report).await;
    }

    /// A container that was stopped before it could start is shown as ended.
    async fn close_unstarted(&mut self) {
        if matches!(self.view.state, State::Waiting { .. }) && self.view.last.is_some() {
            self.view.state = self.view.last.clone().map_or_else(|| self.view.state.clone(), State::Terminated);
            self.report().await;
        }
    }
}

/// How long the containers of a pod may take to end, unless the deletion says otherwise.
pub fn grace_of(pod: &Pod) -> Duration {
    let ordered = pod.metadata.deletion_grace_period_seconds;
    let own = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    Duration::from_secs(ordered.or(own).unwrap_or(30).try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(None, None, 30)]
    #[case(None, Some(1), 1)]
    #[case(Some(0), Some(30), 0)]
    #[case(Some(-1), None, 0)]
    fn the_deletion_decides_about_the_grace_period(
        #[case] ordered: Option<i64>,
        #[case] own: Option<i64>,
        #[case] expected: u64,
    ) {
        let mut pod = Pod::default();
        pod.metadata.deletion_grace_period_seconds = ordered;
        pod.spec.get_or_insert_default().termination_grace_period_seconds = own;
        assert_eq!(grace_of(&pod), Duration::from_secs(expected));
    }
}
