//! How long to wait before the next try.

use std::time::Duration;

/// Kubernetes starts at 10 s and doubles to 5 min, which is made for production; a conformance run has no such time.
const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);

/// A delay that doubles from 0.2 s to 10 s.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    tries: u32,
}

impl Backoff {
    /// The delay before the next try.
    pub fn next(&mut self) -> Duration {
        let delay = FIRST.saturating_mul(1 << self.tries.min(16)).min(LONGEST);
        self.tries += 1;
        delay
    }

    /// Starts over, as after something that lasted: like a kubelet, twice the longest delay counts as lasting.
    pub fn reset_after(&mut self, lasted: Duration) {
        if lasted >= LONGEST * 2 {
            self.tries = 0;
        }
    }
}

/// A duration as Go prints it, for texts that people know from Kubernetes.
pub fn in_go_words(duration: Duration) -> String {
    match duration {
        short if short < Duration::from_secs(1) => format!("{}ms", short.as_millis()),
        long => format!("{}s", long.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn the_delay_doubles_up_to_ten_seconds() {
        let mut backoff = Backoff::default();
        let delays: Vec<u128> = (0..8).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(delays, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        backoff.reset_after(Duration::from_secs(19));
        assert_eq!(backoff.next(), LONGEST);
        backoff.reset_after(Duration::from_secs(20));
        assert_eq!(backoff.next(), FIRST);
    }

    #[rstest]
    #[case(200, "200ms")]
    #[case(1600, "1.6s")]
    #[case(10_000, "10s")]
    fn durations_read_as_in_go(#[case] milliseconds: u64, #[case] expected: &str) {
        assert_eq!(in_go_words(Duration::from_millis(milliseconds)), expected);
    }
}
