//! Which nodes are silent: a lease that was not renewed for longer than the grace period.
//!
//! What counts is when a renewal was seen here, not the time that is written in it, so the clocks of nodes do not
//! matter. Knows nothing of node objects.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Heartbeats {
    grace: Duration,
    /// The last renewal of each node and when it was first seen.
    heard: HashMap<String, (Option<Timestamp>, Instant)>,
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct Heard {
    pub(super) silent: HashSet<String>,
    /// When the next node falls silent if it is not heard.
    pub(super) next: Option<Duration>,
}

impl Heartbeats {
    pub(super) fn new(grace: Duration) -> Self {
        Self {
            grace,
            heard: HashMap::new(),
        }
    }

    /// Takes note of `renewals`, by node. A node is given the grace period from when it is first seen.
    pub(super) fn hear(
        &mut self,
        nodes: &[&str],
        renewals: &HashMap<&str, Option<Timestamp>>,
        now: Instant,
    ) -> Heard {
        self.heard.retain(|name, _| nodes.contains(&name.as_str()));
        let mut result = Heard::default();
        for &name in nodes {
            let renewal = renewals.get(name).copied().flatten();
            let entry = self.heard.entry(name.to_owned()).or_insert((renewal, now));
            if entry.0 != renewal {
                *entry = (renewal, now);
            }
            let left = (entry.1 + self.grace).saturating_duration_since(now);
            if left.is_zero() {
                result.silent.insert(name.to_owned());
            } else {
                result.next = Some(result.next.map_or(left, |next| next.min(left)));
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn at(second: i64) -> Option<Timestamp> {
        Some(Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn silence_is_counted_from_what_was_seen_here() {
        let mut beats = Heartbeats::new(Duration::from_secs(4));
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut hear = |renewal, after: u32| {
            beats.hear(
                &["n1"],
                &HashMap::from([("n1", renewal)]),
                start + second * after,
            )
        };
        assert_eq!(
            hear(at(9_000), 0).next,
            Some(second * 4),
            "its clock may be years ahead"
        );
        assert_eq!(hear(at(9_001), 3).next, Some(second * 4));
        assert_eq!(hear(at(9_001), 6).next, Some(second));
        assert_eq!(hear(at(9_001), 7).silent, HashSet::from(["n1".to_owned()]));
        assert_eq!(
            hear(at(1), 8).silent,
            HashSet::new(),
            "any renewal is a sign of life"
        );
    }

    #[test]
    fn a_node_without_a_lease_falls_silent_too() {
        let mut beats = Heartbeats::new(Duration::from_secs(4));
        let start = Instant::now();
        assert!(
            beats
                .hear(&["n1"], &HashMap::new(), start)
                .silent
                .is_empty()
        );
        let late = beats.hear(&["n1"], &HashMap::new(), start + Duration::from_secs(4));
        assert_eq!(
            late,
            Heard {
                silent: HashSet::from(["n1".to_owned()]),
                next: None
            }
        );
    }
}
