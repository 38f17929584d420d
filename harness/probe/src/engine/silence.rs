//! When a pass stops listening: one deadline shared by all its cells. Pure arithmetic on the clock's readings.

use std::time::{Duration, Instant};

/// The shared deadline: `quiet` after the last probe that left or the last packet that came back, and never later
/// than `cap` after the last probe that left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Silence {
    quiet: Duration,
    cap: Duration,
    launched: Instant,
    heard: Instant,
}

impl Silence {
    pub(super) fn new(quiet: Duration, cap: Duration, now: Instant) -> Self {
        Self { quiet, cap, launched: now, heard: now }
    }

    pub(super) fn launched(&mut self, at: Instant) {
        self.launched = at;
    }

    pub(super) fn heard(&mut self, at: Instant) {
        self.heard = at;
    }

    /// Whether the time is up even for those who keep talking.
    pub(super) fn is_capped(&self, now: Instant) -> bool {
        now >= self.launched + self.cap
    }

    /// How much longer even the slowest answer is waited for.
    pub(super) fn until_cap(&self, now: Instant) -> Duration {
        (self.launched + self.cap).saturating_duration_since(now)
    }

    /// How much longer to listen.
    pub(super) fn remaining(&self, now: Instant) -> Duration {
        let last = self.launched.max(self.heard);
        (last + self.quiet).min(self.launched + self.cap).saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn it_runs_from_the_last_launch_and_again_from_each_answer_up_to_the_cap() {
        let start = Instant::now();
        let mut silence = Silence::new(MS(50), MS(120), start);
        assert_eq!(silence.remaining(start + MS(10)), MS(40));
        silence.launched(start + MS(20));
        assert_eq!(silence.remaining(start + MS(20)), MS(50));
        silence.heard(start + MS(60));
        assert_eq!(silence.remaining(start + MS(60)), MS(50));
        silence.heard(start + MS(110));
        assert_eq!(silence.remaining(start + MS(110)), MS(30));
        assert_eq!(silence.remaining(start + MS(200)), MS(0));
    }
}
