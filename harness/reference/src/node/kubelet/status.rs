//! The status of a pod, computed from what its containers do. Pure.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, HostIP,
    Pod, PodCondition, PodIP, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What precedes a container's id in its status: the runtime that made it.
pub const RUNTIME: &str = "cknet";

/// A container as its runner sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerView {
    pub name: String,
    pub image: String,
    pub image_id: String,
    pub id: Option<String>,
    pub state: State,
    pub last: Option<Termination>,
    pub restarts: i32,
    pub ready: bool,
    pub started: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum State {
    Waiting { reason: String, message: Option<String> },
    Running { since: Timestamp },
    Terminated(Termination),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Termination {
    pub exit_code: i32,
    pub signal: Option<i32>,
    pub reason: String,
    pub message: Option<String>,
    pub began: Option<Timestamp>,
    pub ended: Timestamp,
    pub container: Option<String>,
}

/// A pod as its actor sees it.
#[derive(Clone, Debug)]
pub struct PodView {
    /// Since when the kubelet knows the pod.
    pub since: Timestamp,
    /// The sandbox and its network exist.
    pub sandboxed: bool,
    pub address: Option<Ipv4Addr>,
    pub init: Vec<ContainerView>,
    pub main: Vec<ContainerView>,
}

/// When a container is started again after it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

impl RestartPolicy {
    pub fn of(spec: &PodSpec) -> Self {
        match spec.restart_policy.as_deref() {
            Some("OnFailure") => Self::OnFailure,
            Some("Never") => Self::Never,
            _ => Self::Always,
        }
    }

    /// Whether a main container that ended with `exit_code` is started again.
    pub fn restarts(self, exit_code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => exit_code != 0,
            Self::Never => false,
        }
    }
}

impl ContainerView {
    /// A container that was not started yet.
    pub fn waiting(name: &str, image: &str, reason: &str) -> Self {
        Self {
            name: name.into(),
            image: image.into(),
            image_id: String::new(),
            id: None,
            state: State::Waiting { reason: reason.into(), message: None },
            last: None,
            restarts: 0,
            ready: false,
            started: false,
        }
    }

    /// Takes over what a predecessor reported and only it knows: restarts and how the last one ended.
    pub fn inherit(&mut self, told: &ContainerStatus) {
        self.restarts = told.restart_count;
        self.last = told.last_state.as_ref().and_then(|state| state.terminated.as_ref()).map(Termination::told);
    }

    /// Whether it has ended for good with success.
    pub fn succeeded(&self) -> bool {
        matches!(&self.state, State::Terminated(end) if end.exit_code == 0)
    }

    fn status(&self) -> ContainerStatus {
        ContainerStatus {
            name: self.name.clone(),
            image: self.image.clone(),
            image_id: self.image_id.clone(),
            container_id: self.id.as_deref().map(full_id),
            state: Some(self.state.status()),
            last_state: Some(ContainerState {
                terminated: self.last.as_ref().map(Termination::status),
                ..Default::default()
            }),
            restart_count: self.restarts,
            ready: self.ready,
            started: Some(self.started),
            ..Default::default()
        }
    }
}

/// An id as it is shown in a status.
fn full_id(id: &str) -> String {
    format!("{RUNTIME}://{id}")
}

impl State {
    fn status(&self) -> ContainerState {
        let mut status = ContainerState::default();
        match self {
            Self::Waiting { reason, message } => {
                status.waiting = Some(ContainerStateWaiting { reason: Some(reason.clone()), message: message.clone() });
            }
            Self::Running { since } => {
                status.running = Some(ContainerStateRunning { started_at: Some(Time(*since)) });
            }
            Self::Terminated(end) => status.terminated = Some(end.status()),
        }
        status
    }
}

impl Termination {
    fn status(&self) -> ContainerStateTerminated {
        ContainerStateTerminated {
            exit_code: self.exit_code,
            signal: self.signal,
            reason: Some(self.reason.clone()),
            message: self.message.clone(),
            started_at: self.began.map(Time),
            finished_at: Some(Time(self.ended)),
            container_id: self.container.as_deref().map(full_id),
        }
    }

    /// Reads an end back that was told before.
    pub fn told(told: &ContainerStateTerminated) -> Self {
        let prefix = format!("{RUNTIME}://");
        Self {
            exit_code: told.exit_code,
            signal: told.signal,
            reason: told.reason.clone().unwrap_or_default(),
            message: told.message.clone(),
            began: told.started_at.as_ref().map(|time| time.0),
            ended: told.finished_at.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            container: told.container_id.as_ref().map(|id| id.strip_prefix(&prefix).unwrap_or(id).into()),
        }
    }
}

/// The whole status of `pod`; `before` are the conditions told last, whose transition times are kept.
pub fn pod_status(pod: &Pod, view: &PodView, node_ip: Ipv4Addr, before: &[PodCondition], now: Timestamp) -> PodStatus {
    let spec = pod.spec.clone().unwrap_or_default();
    let phase = phase(view, RestartPolicy::of(&spec));
    let address = view.address.map(|address| address.to_string());
    let statuses = |views: &[ContainerView]| match views {
        [] => None,
        views => Some(views.iter().map(ContainerView::status).collect()),
    };
    PodStatus {
        conditions: Some(conditions(pod, view, phase, before, now)),
        phase: Some(phase.into()),
        host_ip: Some(node_ip.to_string()),
        host_ips: Some(vec![HostIP { ip: node_ip.to_string() }]),
        pod_ips: address.clone().map(|ip| vec![PodIP { ip }]),
        pod_ip: address,
        start_time: Some(Time(view.since)),
        init_container_statuses: statuses(&view.init),
        container_statuses: statuses(&view.main),
        ..Default::default()
    }
}

/// Which phase the containers put their pod in.
pub fn phase(view: &PodView, policy: RestartPolicy) -> &'static str {
    if let Some(blocking) = view.init.iter().find(|init| !(init.succeeded() || init.started)) {
        let failed = matches!(blocking.state, State::Terminated(_)) && policy == RestartPolicy::Never;
        return if failed { "Failed" } else { "Pending" };
    }
    let (mut waiting, mut running, mut stopped, mut succeeded) = (0, 0, 0, 0);
    for container in &view.main {
        match &container.state {
            State::Running { .. } => running += 1,
            State::Terminated(end) => {
                stopped += 1;
                succeeded += usize::from(end.exit_code == 0);
            }
            // It has run before: between two attempts it counts as stopped.
            State::Waiting { .. } if container.last.is_some() => stopped += 1,
            State::Waiting { .. } => waiting += 1,
        }
    }
    match (waiting, running, policy) {
        (1.., _, _) => "Pending",
        (0, 1.., _) | (0, 0, RestartPolicy::Always) => "Running",
        _ if stopped == succeeded => "Succeeded",
        (_, _, RestartPolicy::Never) => "Failed",
        _ => "Running",
    }
}

struct Verdict {
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    const HOLDS: Self = Self { holds: true, reason: None, message: None };

    fn fails(reason: &'static str, message: Option<String>) -> Self {
        Self { holds: false, reason: Some(reason), message }
    }
}

fn conditions(pod: &Pod, view: &PodView, phase: &str, before: &[PodCondition], now: Timestamp) -> Vec<PodCondition> {
    let initialized = match incomplete(&view.init) {
        _ if phase == "Succeeded" => Verdict { reason: Some("PodCompleted"), ..Verdict::HOLDS },
        names if names.is_empty() => Verdict::HOLDS,
        names => {
            let message = format!("containers with incomplete status: {}", listed(&names));
            Verdict::fails("ContainersNotInitialized", Some(message))
        }
    };
    let containers_ready = containers_ready(view, phase);
    let ready = match gates_missing(pod) {
        Some(message) if containers_ready.holds => Verdict::fails("ReadinessGatesNotReady", Some(message)),
        _ => Verdict { message: containers_ready.message.clone(), ..containers_ready },
    };
    let sandboxed = Verdict { holds: view.sandboxed, ..Verdict::HOLDS };
    [
        ("PodReadyToStartContainers", sandboxed),
        ("Initialized", initialized),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
        ("PodScheduled", Verdict::HOLDS),
    ]
    .into_iter()
    .map(|(kind, verdict)| condition(kind, verdict, before, now))
    .collect()
}

fn containers_ready(view: &PodView, phase: &str) -> Verdict {
    match phase {
        "Succeeded" => return Verdict::fails("PodCompleted", None),
        "Failed" => return Verdict::fails("PodFailed", None),
        _ => {}
    }
    let unready: Vec<&str> = view.main.iter().filter(|main| !main.ready).map(|main| main.name.as_str()).collect();
    if unready.is_empty() {
        return Verdict::HOLDS;
    }
    Verdict::fails("ContainersNotReady", Some(format!("containers with unready status: {}", listed(&unready))))
}

fn incomplete(init: &[ContainerView]) -> Vec<&str> {
    init.iter().filter(|init| !(init.succeeded() || init.started)).map(|init| init.name.as_str()).collect()
}

/// A list as Go prints it.
fn listed(names: &[&str]) -> String {
    format!("[{}]", names.join(" "))
}

fn gates_missing(pod: &Pod) -> Option<String> {
    let gates = pod.spec.as_ref()?.readiness_gates.as_ref()?;
    let told = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let missing = gates.iter().find(|gate| {
        !told.iter().any(|condition| condition.type_ == gate.condition_type && condition.status == "True")
    })?;
    Some(format!("the status of pod readiness gate \"{}\" is not \"True\"", missing.condition_type))
}

fn condition(kind: &str, verdict: Verdict, before: &[PodCondition], now: Timestamp) -> PodCondition {
    let status = if verdict.holds { "True" } else { "False" };
    let unchanged = before.iter().find(|condition| condition.type_ == kind && condition.status == status);
    PodCondition {
        type_: kind.into(),
        status: status.into(),
        reason: verdict.reason.map(Into::into),
        message: verdict.message,
        last_transition_time: unchanged.and_then(|known| known.last_transition_time.clone()).or(Some(Time(now))),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests;
