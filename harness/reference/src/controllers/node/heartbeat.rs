//! Which nodes are silent: their kubelet has given no sign of life for longer than the grace period.
//!
//! What counts is when a sign was seen here, not the time that is written in it, so the clocks of nodes do not
//! matter. Knows nothing of node objects.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// What the API holds that a kubelet writes while it lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Signs {
    /// When it says it renewed its lease.
    pub(super) renewed: Option<Timestamp>,
    /// When it says it posted the node's condition.
    pub(super) posted: Option<Timestamp>,
    /// Whether the condition is one that only a kubelet posts, not the one that is written when it is silent.
    pub(super) known: bool,
}

impl Signs {
    /// Whether these cannot have come about without a kubelet since `before`.
    fn are_new(self, before: Signs) -> bool {
        self.renewed != before.renewed || self.posted != before.posted || (self.known && !before.known)
    }
}

#[derive(Debug)]
pub(super) struct Heartbeats {
    grace: Duration,
    /// The last signs of each node and when they were new.
    heard: HashMap<String, (Signs, Instant)>,
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct Heard {
    pub(super) silent: HashSet<String>,
    /// When the next node falls silent if it is not heard.
    pub(super) next: Option<Duration>,
}

impl Heartbeats {
    pub(super) fn new(grace: Duration) -> Self {
        Self { grace, heard: HashMap::new() }
    }

    /// Takes note of the signs of all nodes. A node is given the grace period from when it is first seen.
    pub(super) fn hear(&mut self, nodes: &HashMap<&str, Signs>, now: Instant) -> Heard {
        self.heard.retain(|name, _| nodes.contains_key(name.as_str()));
        let mut result = Heard::default();
        for (&name, &signs) in nodes {
            let entry = self.heard.entry(name.to_owned()).or_insert((signs, now));
            if signs.are_new(entry.0) {
                entry.1 = now;
            }
            entry.0 = signs;
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

    const SECOND: Duration = Duration::from_secs(1);

    fn at(second: i64) -> Option<Timestamp> {
        Some(Timestamp::from_second(second).unwrap())
    }

    fn silent() -> Heard {
        Heard { silent: HashSet::from(["n1".to_owned()]), next: None }
    }

    #[test]
    fn silence_is_counted_from_what_was_seen_here() {
        let (mut beats, start) = (Heartbeats::new(SECOND * 4), Instant::now());
        let mut hear = |renewed, after: u32| {
            let signs = Signs { renewed, ..Signs::default() };
            beats.hear(&HashMap::from([("n1", signs)]), start + SECOND * after)
        };
        assert_eq!(hear(at(9_000), 0).next, Some(SECOND * 4), "its clock may be years ahead");
        assert_eq!(hear(at(9_001), 3).next, Some(SECOND * 4));
        assert_eq!(hear(at(9_001), 6).next, Some(SECOND));
        assert_eq!(hear(at(9_001), 7), silent());
        assert_eq!(hear(at(1), 8).next, Some(SECOND * 4), "any renewal is a sign of life");
    }

    #[test]
    fn a_condition_is_a_sign_unless_it_is_that_of_silence() {
        let (mut beats, start) = (Heartbeats::new(SECOND * 4), Instant::now());
        let mut hear = |known, after: u32| {
            let signs = Signs { known, ..Signs::default() };
            beats.hear(&HashMap::from([("n1", signs)]), start + SECOND * after)
        };
        assert_eq!(hear(true, 0).next, Some(SECOND * 4));
        assert_eq!(hear(true, 4), silent());
        assert_eq!(hear(false, 5), silent(), "that is our own word");
        assert_eq!(hear(true, 6).next, Some(SECOND * 4));
    }

    #[test]
    fn a_node_that_never_spoke_falls_silent_too() {
        let (mut beats, start) = (Heartbeats::new(SECOND * 4), Instant::now());
        let nodes = HashMap::from([("n1", Signs::default())]);
        assert!(beats.hear(&nodes, start).silent.is_empty());
        assert_eq!(beats.hear(&nodes, start + SECOND * 4), silent());
    }
}
