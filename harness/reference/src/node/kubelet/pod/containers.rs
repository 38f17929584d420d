//! The containers of a pod in their order: init containers one after the other, then all others at once; and back.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ContainerStatus};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{End, Place, PodActor};
use crate::node::kubelet::journal::journal;
use crate::node::kubelet::record::ContainerRecord;
use crate::node::kubelet::runner::{Report, Role, Runner, StopOrder, grace_of};
use crate::node::kubelet::status::{ContainerView, RestartPolicy, State, Termination};

/// A pod that was deleted by force is not waited for longer than this.
const FORCED_GRACE: Duration = Duration::from_secs(2);

/// The runners of one pod.
struct Crew {
    runners: JoinSet<Role>,
    reports: mpsc::Sender<Report>,
    stop: StopOrder,
    begun_init: usize,
    begun_main: bool,
    alive_main: usize,
}

impl PodActor {
    /// Runs the containers in `place` until all have ended. `adopted`: a kubelet before this one had begun.
    pub(super) async fn run_containers(&mut self, place: &Place, adopted: bool) -> End {
        let (reports, mut reported) = mpsc::channel(32);
        let (order, stop) = watch::channel(None::<Instant>);
        let mut crew = Crew { runners: JoinSet::new(), reports, stop, begun_init: 0, begun_main: false, alive_main: 0 };
        let mut desired = self.desired.clone();
        loop {
            if self.node.shutdown.is_cancelled() {
                crew.runners.shutdown().await;
                return End::Shutdown;
            }
            let is_leaving = desired.borrow_and_update().is_leaving();
            if is_leaving {
                self.order_stop(&order);
            } else {
                self.begin_what_may(&mut crew, place, adopted);
            }
            self.publish();
            if crew.runners.is_empty() && is_leaving {
                return End::Left;
            }
            if !is_leaving && self.has_run_to_its_end(&crew) {
                if crew.runners.is_empty() {
                    return End::Finished;
                }
                // Only sidecars are left.
                self.order_stop(&order);
            }
            tokio::select! {
                biased;
                // First: runners end then without their containers having ended.
                () = self.node.shutdown.cancelled() => {}
                Some(report) = reported.recv() => self.take_in(report),
                Some(ended) = crew.runners.join_next() => {
                    // A runner reports before it ends, and all it reported counts before its end does.
                    while let Ok(report) = reported.try_recv() {
                        self.take_in(report);
                    }
                    match ended {
                        Ok(Role::Main) => crew.alive_main -= 1,
                        Ok(_) => {}
                        Err(error) => journal(format_args!("a container of pod `{}` was lost: {error}", self.key)),
                    }
                }
                _ = desired.changed() => {}
            }
        }
    }

    fn take_in(&mut self, report: Report) {
        let views = if report.role == Role::Main { &mut self.view.main } else { &mut self.view.init };
        if let Some(view) = views.get_mut(report.index) {
            *view = report.view;
        }
    }

    /// Tells the runners by when they must have stopped; an earlier time replaces a later one.
    fn order_stop(&self, order: &watch::Sender<Option<Instant>>) {
        let desired = self.desired.borrow();
        let grace = grace_of(&desired.pod);
        let grace = if desired.gone { grace.min(FORCED_GRACE) } else { grace };
        drop(desired);
        let deadline = Instant::now() + grace;
        order.send_if_modified(|known| {
            let earlier = known.is_none_or(|known| deadline < known);
            if earlier {
                *known = Some(deadline);
            }
            earlier
        });
    }

    /// Whether nothing that counts runs any more or will run.
    fn has_run_to_its_end(&self, crew: &Crew) -> bool {
        if crew.begun_main {
            return crew.alive_main == 0;
        }
        let never = RestartPolicy::of(&self.spec()) == RestartPolicy::Never;
        let failed = |view: &ContainerView| matches!(&view.state, State::Terminated(end) if end.exit_code != 0);
        never && self.view.init.iter().any(failed)
    }

    fn begin_what_may(&mut self, crew: &mut Crew, place: &Place, adopted: bool) {
        let spec = self.spec();
        let init = spec.init_containers.unwrap_or_default();
        let (told_init, told_main) = self.told();
        while crew.begun_init < init.len() {
            let index = crew.begun_init;
            let before = index.checked_sub(1).and_then(|before| self.view.init.get(before));
            if before.is_some_and(|before| !(before.succeeded() || before.started)) {
                return;
            }
            crew.begun_init += 1;
            let container = &init[index];
            let role = if container.restart_policy.as_deref() == Some("Always") { Role::Sidecar } else { Role::Init };
            self.begin(crew, place, role, index, container, told_by(&told_init, container).filter(|_| adopted));
        }
        if crew.begun_main || self.view.init.iter().any(|view| !(view.succeeded() || view.started)) {
            return;
        }
        crew.begun_main = true;
        for (index, container) in spec.containers.iter().enumerate() {
            self.begin(crew, place, Role::Main, index, container, told_by(&told_main, container).filter(|_| adopted));
        }
    }

    /// Starts the runner of one container, unless it had ended for good before; `told` is its status from then.
    fn begin(
        &mut self,
        crew: &mut Crew,
        place: &Place,
        role: Role,
        index: usize,
        container: &Container,
        told: Option<&ContainerStatus>,
    ) {
        let record = place.record.read().containers.get(&container.name).cloned();
        let policy = RestartPolicy::of(&self.spec());
        let views = if role == Role::Main { &mut self.view.main } else { &mut self.view.init };
        let Some(view) = views.get_mut(index) else {
            return;
        };
        if let Some(told) = told {
            view.inherit(told);
            if let Some(end) = ended_for_good(role, policy, told, record.as_ref()) {
                view.ready = role == Role::Init;
                view.state = State::Terminated(end);
                return;
            }
        }
        if role == Role::Main {
            crew.alive_main += 1;
            if let State::Waiting { reason, .. } = &mut view.state {
                *reason = "ContainerCreating".into();
            }
        }
        let entry = self.entries.get(&container.name).map(Arc::clone).unwrap_or_default();
        let runner = Runner {
            node: Arc::clone(&self.node),
            key: self.key.clone(),
            role,
            index,
            sandbox: place.sandbox.clone(),
            address: place.address,
            record: Arc::clone(&place.record),
            entry,
            desired: self.desired.clone(),
            stop: crew.stop.clone(),
            reports: crew.reports.clone(),
            view: view.clone(),
        };
        crew.runners.spawn(async move {
            runner.run(record).await;
            role
        });
    }
}

fn told_by<'a>(told: &'a [ContainerStatus], container: &Container) -> Option<&'a ContainerStatus> {
    told.iter().find(|status| status.name == container.name)
}

/// The end of a container that had ended and stays so under its pod's policy.
fn ended_for_good(
    role: Role,
    policy: RestartPolicy,
    told: &ContainerStatus,
    record: Option<&ContainerRecord>,
) -> Option<Termination> {
    if record.is_some() {
        return None;
    }
    let end = Termination::told(told.state.as_ref()?.terminated.as_ref()?);
    let stays = match role {
        Role::Init => end.exit_code == 0 || policy == RestartPolicy::Never,
        Role::Main => !policy.restarts(end.exit_code),
        Role::Sidecar => false,
    };
    stays.then_some(end)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case(Role::Init, RestartPolicy::Always, 0, true)]
    #[case(Role::Init, RestartPolicy::Always, 1, false)]
    #[case(Role::Init, RestartPolicy::Never, 1, true)]
    #[case(Role::Main, RestartPolicy::Never, 1, true)]
    #[case(Role::Main, RestartPolicy::OnFailure, 0, true)]
    #[case(Role::Main, RestartPolicy::OnFailure, 1, false)]
    #[case(Role::Main, RestartPolicy::Always, 0, false)]
    #[case(Role::Sidecar, RestartPolicy::Never, 0, false)]
    fn after_a_restart_of_the_kubelet_only_what_has_to_run_runs_again(
        #[case] role: Role,
        #[case] policy: RestartPolicy,
        #[case] code: i32,
        #[case] stays: bool,
    ) {
        let told: ContainerStatus = serde_json::from_value(json!({
            "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": code, "finishedAt": "2027-01-15T08:00:00Z"}},
        }))
        .unwrap();
        assert_eq!(ended_for_good(role, policy, &told, None).is_some(), stays);
    }
}
