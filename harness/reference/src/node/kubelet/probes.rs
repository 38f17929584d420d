//! The startup, readiness and liveness probes of one running container: when they are made and what their results
//! mean. How a probe is made is in [`super::checks`].
//!
//! A real kubelet probes once a period, and a period is at least a second. Here a container that was never ready is
//! also looked at in between, more and more seldom, so that a pod that is ready is known to be; such an extra look
//! counts only when it succeeds. The first one that can end a container is a period after it began.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::checks::{Checker, Failure};

const FIRST_LOOK: Duration = Duration::from_millis(5);

/// What the probes found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    Started,
    Ready(bool),
    /// A probe failed; the sentence is for an event.
    Unhealthy(String),
}

/// Probes `container` until it has to be killed; the answer is why. Never returns for a healthy one.
pub async fn watch(container: &Container, checker: &Checker, findings: &mpsc::Sender<Finding>) -> String {
    if let Some(probe) = &container.startup_probe
        && let Err(verdict) = startup(probe, checker, findings).await
    {
        return verdict;
    }
    say(findings, Finding::Started).await;
    let ready = async {
        match &container.readiness_probe {
            Some(probe) => readiness(probe, checker, findings).await,
            None => say(findings, Finding::Ready(true)).await,
        }
        std::future::pending().await
    };
    let alive = async {
        match &container.liveness_probe {
            Some(probe) => liveness(probe, checker, findings).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        verdict = alive => verdict,
        () = ready => std::future::pending().await,
    }
}

async fn say(findings: &mpsc::Sender<Finding>, finding: Finding) {
    // A runner that went away needs no findings.
    let _ = findings.send(finding).await;
}

async fn complain(findings: &mpsc::Sender<Finding>, kind: &str, failure: &Failure) {
    let text = format!("{kind} probe {}: {}", if failure.errored { "errored" } else { "failed" }, failure.message);
    say(findings, Finding::Unhealthy(text)).await;
}

async fn startup(probe: &Probe, checker: &Checker, findings: &mpsc::Sender<Finding>) -> Result<(), String> {
    let timing = Timing::of(probe);
    tokio::time::sleep(timing.initial_delay).await;
    let mut failures = 0;
    let mut looks = Looks::new(&timing, Instant::now());
    loop {
        let counts = looks.counts(Instant::now());
        match checker.check(probe, timing.timeout).await {
            Ok(()) => return Ok(()),
            Err(failure) if counts => {
                complain(findings, "Startup", &failure).await;
                failures += 1;
                if failures >= timing.failures {
                    return Err("failed startup probe".into());
                }
            }
            Err(_) => {}
        }
        tokio::time::sleep_until(looks.next(Instant::now())).await;
    }
}

async fn readiness(probe: &Probe, checker: &Checker, findings: &mpsc::Sender<Finding>) {
    let timing = Timing::of(probe);
    tokio::time::sleep(timing.initial_delay).await;
    let (mut failures, mut successes, mut is_ready) = (0, 0, false);
    let mut looks = Looks::new(&timing, Instant::now());
    // A failure of who is not ready yet changes nothing, so its event may come at once.
    looks.due = Instant::now();
    loop {
        let counts = looks.counts(Instant::now());
        match checker.check(probe, timing.timeout).await {
            Ok(()) => {
                (failures, successes) = (0, successes + 1);
                looks.settle(Instant::now());
                if !is_ready && successes >= timing.successes {
                    is_ready = true;
                    say(findings, Finding::Ready(true)).await;
                }
            }
            Err(failure) if counts => {
                (failures, successes) = (failures + 1, 0);
                complain(findings, "Readiness", &failure).await;
                if is_ready && failures >= timing.failures {
                    is_ready = false;
                    say(findings, Finding::Ready(false)).await;
                }
            }
            Err(_) => {}
        }
        tokio::time::sleep_until(looks.next(Instant::now())).await;
    }
}

async fn liveness(probe: &Probe, checker: &Checker, findings: &mpsc::Sender<Finding>) -> String {
    let timing = Timing::of(probe);
    tokio::time::sleep(timing.initial_delay).await;
    let mut failures = 0;
    let mut looks = Looks::new(&timing, Instant::now());
    looks.gap = None;
    tokio::time::sleep_until(looks.due).await;
    loop {
        looks.counts(Instant::now());
        match checker.check(probe, timing.timeout).await {
            Ok(()) => failures = 0,
            Err(failure) => {
                complain(findings, "Liveness", &failure).await;
                failures += 1;
                if failures >= timing.failures {
                    return "failed liveness probe".into();
                }
            }
        }
        tokio::time::sleep_until(looks.next(Instant::now())).await;
    }
}

/// The numbers of a probe with their defaults.
struct Timing {
    initial_delay: Duration,
    period: Duration,
    timeout: Duration,
    failures: i32,
    successes: i32,
}

impl Timing {
    fn of(probe: &Probe) -> Self {
        let seconds = |given: Option<i32>, default: i32, least: i32| {
            Duration::from_secs(given.filter(|seconds| *seconds >= least).unwrap_or(default).unsigned_abs().into())
        };
        Self {
            initial_delay: seconds(probe.initial_delay_seconds, 0, 0),
            period: seconds(probe.period_seconds, 10, 1),
            timeout: seconds(probe.timeout_seconds, 1, 1),
            failures: probe.failure_threshold.unwrap_or(3).max(1),
            successes: probe.success_threshold.unwrap_or(1).max(1),
        }
    }
}

/// When to look: once a period, and before the first success also in between.
struct Looks {
    period: Duration,
    /// The time to the next extra look; `None` once there are no more of them.
    gap: Option<Duration>,
    /// The next regular look.
    due: Instant,
}

impl Looks {
    /// The ticks of a kubelet go from before the container runs, so the first one that finds it is about a period
    /// later, or at the end of the initial delay, which is over `now`.
    fn new(timing: &Timing, now: Instant) -> Self {
        let due = if timing.initial_delay < timing.period { now + timing.period - timing.initial_delay } else { now };
        Self { period: timing.period, gap: Some(FIRST_LOOK), due }
    }

    /// Whether the look being made is the regular one of its period. To be asked once per look.
    fn counts(&mut self, now: Instant) -> bool {
        let regular = now >= self.due;
        if regular {
            self.due = now + self.period;
        }
        regular
    }

    /// No more looks in between.
    fn settle(&mut self, now: Instant) {
        if self.gap.take().is_some() {
            self.due = now + self.period;
        }
    }

    /// When to look after a look that ended `now`.
    fn next(&mut self, now: Instant) -> Instant {
        match self.gap {
            None => self.due,
            Some(gap) => {
                self.gap = Some((gap * 2).min(self.period));
                (now + gap).min(self.due)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn extra_looks_come_between_the_regular_ones_until_the_first_success() {
        let begun = Instant::now();
        let mut looks = Looks { period: Duration::from_millis(100), gap: Some(FIRST_LOOK), due: begun };
        let (mut seen, mut now) = (Vec::new(), begun);
        for _ in 0..8 {
            seen.push(((now - begun).as_millis(), looks.counts(now)));
            now = looks.next(now);
        }
        let expected =
            [(0, true), (5, false), (15, false), (35, false), (75, false), (100, true), (200, true), (300, true)];
        assert_eq!(seen, expected);
        looks.settle(now);
        let next = looks.next(now);
        assert_eq!(next - now, Duration::from_millis(100));
        assert!(looks.counts(next));
    }

    #[test]
    fn a_container_that_has_only_begun_is_not_counted_against() {
        let now = Instant::now();
        let first = |delay: i32| {
            let probe = Probe { initial_delay_seconds: Some(delay), period_seconds: Some(3), ..Probe::default() };
            (Looks::new(&Timing::of(&probe), now).due - now).as_secs()
        };
        assert_eq!((first(0), first(1), first(3), first(9)), (3, 2, 0, 0));
    }

    #[test]
    fn the_numbers_of_a_probe_default_as_documented() {
        let timing = Timing::of(&Probe { period_seconds: Some(0), ..Probe::default() });
        assert_eq!((timing.period, timing.timeout), (Duration::from_secs(10), Duration::from_secs(1)));
        assert_eq!((timing.initial_delay, timing.failures, timing.successes), (Duration::ZERO, 3, 1));
    }
}
