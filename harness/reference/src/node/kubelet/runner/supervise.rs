//! A running container: probed, stopped when it has to be, awaited.

use std::pin::pin;

use cknet_kernel::child::{Child, Exit};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;
use nix::sys::signal::Signal;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::attempt::Attempt;
use super::{Role, Runner, grace_of};
use crate::node::kubelet::checks::Checker;
use crate::node::kubelet::events::Severity;
use crate::node::kubelet::journal::journal;
use crate::node::kubelet::probes::{self, Finding};
use crate::node::kubelet::registry::Running;
use crate::node::kubelet::status::{State, Termination};
use crate::node::kubelet::until::until;

impl Runner {
    /// Stays with a running process until it has ended; `None` when the kubelet itself is to end.
    pub(super) async fn accompany(&mut self, attempt: Attempt) -> Option<Termination> {
        let Attempt { child, id, since, inside, output, console } = attempt;
        self.view.state = State::Running { since };
        self.view.started = false;
        self.view.ready = false;
        self.entry.typed_at_with(console.clone());
        self.entry.runs(inside.clone());
        let container = self.spec();
        if container.startup_probe.is_none() && self.role != Role::Init {
            self.view.started = true;
            self.view.ready = container.readiness_probe.is_none();
        }
        self.report().await;
        self.say(Severity::Normal, "Started", format!("Started container {}", self.view.name));
        // `None`: the process goes on without us; a successor finds it by the record.
        self.look_after(&child, &container, inside).await?;
        self.entry.stopped();
        let exit = child.reap().unwrap_or(Exit::Unknown);
        if let Some(console) = console {
            console.settle().await;
        }
        output.finish().await;
        self.forget();
        self.view.started = false;
        Some(termination(exit, since, id))
    }

    /// Until the process has ended, by itself or because it had to: `Some`. `None` when the kubelet is to end.
    async fn look_after(&mut self, child: &Child, container: &Container, inside: Running) -> Option<()> {
        let (told, mut findings) = mpsc::channel(8);
        let checker = Checker::new(self.address.unwrap_or(self.node.config.node_ip), inside, container);
        let role = self.role;
        let mut probing = pin!(async {
            if role == Role::Init {
                std::future::pending().await
            } else {
                probes::watch(container, &checker, &told).await
            }
        });
        let (mut stop, mut desired) = (self.stop.clone(), self.desired.clone());
        let (index, image) = (self.index, self.view.image.clone());
        let shutdown = self.node.shutdown.clone();
        let patience = grace_of(&self.pod());
        loop {
            tokio::select! {
                _ = child.ended() => return Some(()),
                Some(finding) = findings.recv() => self.found(finding).await,
                verdict = &mut probing => {
                    // The failure that decided has its event too.
                    while let Ok(finding) = findings.try_recv() {
                        self.found(finding).await;
                    }
                    self.say(Severity::Normal, "Killing", format!("Container {} {verdict}, will be restarted", self.view.name));
                    self.end(child, Instant::now() + patience).await;
                    return Some(());
                }
                () = until(&mut stop, Option::is_some) => {
                    let deadline = self.stop.borrow().unwrap_or_else(Instant::now);
                    self.say(Severity::Normal, "Killing", format!("Stopping container {}", self.view.name));
                    self.end(child, deadline).await;
                    return Some(());
                }
                () = until(&mut desired, |desired| !desired.has_image(role, index, &image)) => {
                    self.say(Severity::Normal, "Killing", format!("Container {} definition changed, will be restarted", self.view.name));
                    self.end(child, Instant::now() + patience).await;
                    return Some(());
                }
                () = shutdown.cancelled() => return None,
            }
        }
    }

    async fn found(&mut self, finding: Finding) {
        match finding {
            Finding::Unhealthy(message) => {
                return self.say(Severity::Warning, "Unhealthy", message);
            }
            Finding::Started if self.view.started => return,
            Finding::Started => self.view.started = true,
            Finding::Ready(ready) if self.view.ready == ready => return,
            Finding::Ready(ready) => self.view.ready = ready,
        }
        self.report().await;
    }

    /// SIGTERM to the group, SIGKILL at `deadline` or at an earlier one that is ordered meanwhile.
    async fn end(&mut self, child: &Child, deadline: Instant) {
        let mut deadline = deadline;
        let mut stop = self.stop.clone();
        stop.mark_unchanged();
        if let Err(error) = child.signal(Signal::SIGTERM) {
            journal(format_args!("cannot stop container `{}` of pod `{}`: {error}", self.view.name, self.key));
        }
        loop {
            tokio::select! {
                biased;
                _ = child.ended() => return,
                () = tokio::time::sleep_until(deadline) => break,
                Ok(()) = stop.changed() => if let Some(earlier) = *stop.borrow_and_update() {
                    deadline = deadline.min(earlier);
                },
            }
        }
        if let Err(error) = child.signal(Signal::SIGKILL) {
            journal(format_args!("cannot kill container `{}` of pod `{}`: {error}", self.view.name, self.key));
        }
        let _ = child.ended().await;
    }
}

/// How a container ended, in the words of a runtime.
pub(super) fn termination(exit: Exit, since: Timestamp, id: String) -> Termination {
    let (exit_code, signal, reason, message) = match exit {
        Exit::Code(0) => (0, None, "Completed", None),
        Exit::Code(code) => (code, None, "Error", None),
        // Runtimes report 128 + signal as the code and leave the signal out.
        Exit::Signal(signal) => (128 + signal, None, "Error", None),
        Exit::Unknown => {
            let text = "The container ended while it was not this kubelet's child, so its exit code is not known";
            (137, None, "ContainerStatusUnknown", Some(text.to_string()))
        }
    };
    Termination {
        exit_code,
        signal,
        reason: reason.into(),
        message,
        began: Some(since),
        ended: Timestamp::now(),
        container: Some(id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(Exit::Code(0), 0, "Completed")]
    #[case(Exit::Code(3), 3, "Error")]
    #[case(Exit::Signal(15), 143, "Error")]
    #[case(Exit::Signal(9), 137, "Error")]
    #[case(Exit::Unknown, 137, "ContainerStatusUnknown")]
    fn an_exit_reads_as_a_runtime_reports_it(#[case] exit: Exit, #[case] code: i32, #[case] reason: &str) {
        let end = termination(exit, Timestamp::UNIX_EPOCH, "ab".into());
        assert_eq!((end.exit_code, end.reason.as_str()), (code, reason));
    }
}
