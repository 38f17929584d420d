//! What a scenario waits for: how long silence was really listened to, and what no harness could do without.
//!
//! Unavoidable are the longest `for` of each phase, one deadline for silence where silence is expected, and the time
//! that the cluster's own components take for what a step asks of them. Everything else is the harness's.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::millis;
use crate::event::Waits;
use crate::scenario::model::{Action, Check, Outcome, Phase};

/// What a scenario has waited for so far.
#[derive(Default)]
pub struct Waiting {
    /// When questions were waited for of which at least one was met by silence.
    silent: Mutex<Vec<(Instant, Instant)>>,
    hold: Duration,
    quiet: Duration,
    component: Duration,
}

impl Waiting {
    /// Something was silent from `begun` until now.
    pub fn silent_since(&self, begun: Instant) {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner).push((begun, Instant::now()));
    }

    /// A step took so long.
    pub fn step(&mut self, action: &Action, took: Duration) {
        if matches!(
            action,
            Action::StopComponent(_) | Action::StartComponent(_) | Action::Workload(_) | Action::Delete(_)
        ) {
            self.component += took;
        }
    }

    /// A phase has been looked at. Its expectations share their waits, so that the longest counts.
    pub fn phase(&mut self, phase: &Phase, quiet: Duration) {
        let of_each = phase.expect.iter().map(|expectation| {
            let hold = expectation.hold.map(|wait| wait.duration()).unwrap_or_default();
            (hold, if expects_silence(&expectation.check) { quiet } else { Duration::ZERO })
        });
        let (hold, quiet) = of_each.max_by_key(|(hold, quiet)| *hold + *quiet).unwrap_or_default();
        self.hold += hold;
        self.quiet += quiet;
    }

    /// All of it.
    pub fn sum(&self) -> Waits {
        let spans = self.silent.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Waits {
            silence_ms: millis(together(spans)),
            hold_ms: millis(self.hold),
            quiet_ms: millis(self.quiet),
            component_ms: millis(self.component),
        }
    }
}

fn expects_silence(check: &Check) -> bool {
    let silent = |outcome: Outcome| matches!(outcome, Outcome::Dropped | Outcome::Denied);
    match check {
        Check::Connectivity(flow) => silent(flow.is),
        Check::Matrix(matrix) => matrix.flows().any(|cell| silent(cell.is)),
        Check::Connection(connection) => connection.state.is_negative(),
        Check::Ping(ping) => silent(ping.is),
        _ => false,
    }
}

/// How long at least one of the spans lasted.
fn together(mut spans: Vec<(Instant, Instant)>) -> Duration {
    spans.sort_unstable();
    let mut total = Duration::ZERO;
    let mut until: Option<Instant> = None;
    for (from, to) in spans {
        let from = until.map_or(from, |until| from.max(until));
        total += to.saturating_duration_since(from);
        until = Some(until.map_or(to, |until| until.max(to)));
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_at_the_same_time_counts_once() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let spans = vec![(at(50), at(80)), (at(0), at(30)), (at(10), at(60)), (at(55), at(58))];
        assert_eq!(together(spans), Duration::from_millis(80));
        assert_eq!(together(vec![(at(0), at(10)), (at(20), at(25))]), Duration::from_millis(15));
        assert_eq!(together(Vec::new()), Duration::ZERO);
    }
}
