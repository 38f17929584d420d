//! Writes whose effect the watch has not shown yet.
//!
//! A controller that creates objects with generated names must not decide again before it sees what it has just
//! made, or it makes it twice. It knows nothing of kinds: objects are uids.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// An object that was made and went away between two looks is never seen: after this time it is forgotten.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Write {
    Created,
    Deleted,
}

/// What the watch shows of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Missing,
    Living,
    Deleting,
}

#[derive(Debug, Default)]
pub(super) struct Unseen {
    writes: HashMap<String, Vec<(String, Write, Instant)>>,
}

impl Unseen {
    /// Notes a write to the object `uid` on behalf of `owner`.
    pub(super) fn note(&mut self, owner: &str, uid: &str, write: Write, now: Instant) {
        let entry = (uid.to_owned(), write, now + PATIENCE);
        self.writes.entry(owner.to_owned()).or_default().push(entry);
    }

    /// Forgets what `shown` shows by now.
    pub(super) fn settle(&mut self, now: Instant, shown: impl Fn(&str) -> Shown) {
        self.writes.retain(|_, writes| {
            writes.retain(|(uid, write, until)| {
                let settled = match write {
                    Write::Created => shown(uid) != Shown::Missing,
                    Write::Deleted => shown(uid) != Shown::Living,
                };
                !settled && *until > now
            });
            !writes.is_empty()
        });
    }

    /// Whether decisions on behalf of `owner` would be made on old news.
    pub(super) fn waits(&self, owner: &str) -> bool {
        self.writes.contains_key(owner)
    }

    /// When the oldest write is given up, unless it is seen before.
    pub(super) fn patience(&self, now: Instant) -> Option<Duration> {
        let untils = self.writes.values().flatten().map(|(_, _, until)| *until);
        untils.min().map(|until| until.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(Write::Created, Shown::Missing, true)]
    #[case(Write::Created, Shown::Living, false)]
    #[case(Write::Created, Shown::Deleting, false)]
    #[case(Write::Deleted, Shown::Living, true)]
    #[case(Write::Deleted, Shown::Deleting, false)]
    #[case(Write::Deleted, Shown::Missing, false)]
    fn waits_until_shown(#[case] write: Write, #[case] shown: Shown, #[case] waits: bool) {
        let (mut unseen, now) = (Unseen::default(), Instant::now());
        unseen.note("owner", "uid", write, now);
        unseen.settle(now, |_| shown);
        assert_eq!(unseen.waits("owner"), waits);
        assert!(!unseen.waits("somebody else"));
    }

    #[test]
    fn gives_up_after_a_while() {
        let (mut unseen, now) = (Unseen::default(), Instant::now());
        unseen.note("owner", "uid", Write::Created, now);
        let late = now + unseen.patience(now).unwrap();
        unseen.settle(late, |_| Shown::Missing);
        assert!(!unseen.waits("owner"));
        assert_eq!(unseen.patience(late), None);
    }
}
