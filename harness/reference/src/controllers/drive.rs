//! The loop that every controller runs in: wait for a ring or a deadline, look at the whole state, act, again.
//!
//! It knows nothing of any kind of object. What a round does is the controller's; when the next one comes is
//! decided here.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::watched::Bell;

/// Nothing a controller waits for may take longer than this: a hanging request must not stop the others.
pub(super) const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

const FIRST_RETRY: Duration = Duration::from_millis(10);
const LAST_RETRY: Duration = Duration::from_secs(2);

/// One controller: its rounds are level-triggered, so a round that is lost or repeated does no harm.
pub(super) trait Controller: Send + 'static {
    fn round(&mut self) -> impl Future<Output = Round> + Send;
}

/// How a round ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Round {
    /// Something failed that a later try may mend.
    pub(super) failed: bool,
    /// Look again after this time even if nothing rings.
    pub(super) again: Option<Duration>,
}

impl Round {
    pub(super) fn done() -> Self {
        Self::default()
    }

    /// Asks for another round after `delay`, or earlier if that was asked for already.
    pub(super) fn look_again(mut self, delay: Option<Duration>) -> Self {
        self.again = earliest(self.again, delay);
        self
    }

    pub(super) fn and(self, other: Round) -> Self {
        Self { failed: self.failed || other.failed, again: earliest(self.again, other.again) }
    }
}

/// The shorter of two delays, where none means never.
pub(super) fn earliest(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

/// Delays that double from 10 ms to 2 s while rounds keep failing.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST_RETRY }
    }
}

impl Backoff {
    pub(crate) fn delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = (self.next * 2).min(LAST_RETRY);
        delay
    }

    pub(crate) fn reset(&mut self) {
        self.next = FIRST_RETRY;
    }
}

/// Runs `controller` until `shutdown`: once at the start, then at every ring of `bell` and when a round asked for it.
pub(super) async fn drive<C: Controller>(mut controller: C, bell: Bell, shutdown: CancellationToken) {
    let mut backoff = Backoff::default();
    let mut wake = Some(Instant::now());
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = bell.rung() => {}
            () = at(wake) => {}
        }
        let round = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            round = controller.round() => round,
        };
        let retry = if round.failed {
            Some(backoff.delay())
        } else {
            backoff.reset();
            None
        };
        wake = earliest(retry, round.again).map(|delay| Instant::now() + delay);
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use rstest::rstest;
    use tokio::sync::mpsc;

    struct Scripted {
        rounds: Vec<Round>,
        told: mpsc::UnboundedSender<Instant>,
    }

    impl Controller for Scripted {
        async fn round(&mut self) -> Round {
            self.told.send(Instant::now()).unwrap();
            self.rounds.pop().unwrap_or_default()
        }
    }

    #[test]
    fn failures_are_retried_with_growing_delays() {
        let mut backoff = Backoff::default();
        let millis: Vec<_> = (0..10).map(|_| backoff.delay().as_millis()).collect();
        assert_eq!(millis, [10, 20, 40, 80, 160, 320, 640, 1280, 2000, 2000]);
        backoff.reset();
        assert_eq!(backoff.delay(), FIRST_RETRY);
    }

    #[rstest]
    #[case::failed(Round { failed: true, again: None }, FIRST_RETRY)]
    #[case::asked(Round::done().look_again(Some(FIRST_RETRY * 2)), FIRST_RETRY * 2)]
    #[tokio::test]
    async fn another_round_comes_by_itself(#[case] first: Round, #[case] delay: Duration) {
        let (told, mut seen) = mpsc::unbounded_channel();
        let shutdown = CancellationToken::new();
        let scripted = Scripted { rounds: vec![first], told };
        let task = tokio::spawn(drive(scripted, Bell::default(), shutdown.clone()));
        let first = seen.recv().await.unwrap();
        assert!(seen.recv().await.unwrap() - first >= delay);
        shutdown.cancel();
        task.await.unwrap();
    }

    #[tokio::test]
    async fn many_rings_are_few_rounds() {
        let (told, mut seen) = mpsc::unbounded_channel();
        let (bell, shutdown) = (Bell::default(), CancellationToken::new());
        let scripted = Scripted { rounds: Vec::new(), told };
        let task = tokio::spawn(drive(scripted, bell.clone(), shutdown.clone()));
        seen.recv().await.unwrap();
        for _ in 0..100 {
            bell.ring();
        }
        seen.recv().await.unwrap();
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        // One ring wakes the sleeper, the others are one more that is still to be answered.
        let more = std::iter::from_fn(|| seen.try_recv().ok()).count();
        assert!(more <= 1, "a hundred rings made {} rounds", more + 1);
        shutdown.cancel();
        task.await.unwrap();
    }
}
