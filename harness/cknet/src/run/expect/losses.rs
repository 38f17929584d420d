//! Where packets get lost: the drop counters of nodes before and after flows are sent once more.
//!
//! Evidence for a story only; no verdict comes from here. Must not know which component a rule belongs to.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cknet_probe::firewall::drops::Drop;

use crate::event::LostAt;
use crate::provider::Invocation;
use crate::run::stage::Stage;

/// Longest time to read the counters of one node.
const READ: Duration = Duration::from_millis(800);

/// How the comment of a rule ends that denies a pod something; before it stands the pod and the direction.
const DENIED: &str = ": denied";

/// What nodes have dropped so far, rule by rule.
pub struct Counters(BTreeMap<String, Vec<Drop>>);

impl Counters {
    /// Reads the counters of some nodes; one that cannot be read has none.
    pub async fn read(stage: &Stage<'_>, nodes: &BTreeSet<String>) -> Self {
        let read = nodes.iter().filter_map(|name| stage.cluster.nodes.get(name)).map(|node| async move {
            let output = node.run(Invocation::new(["cknet", "drops"]), READ).await.ok()?;
            Some((node.name().to_string(), serde_json::from_slice(&output.stdout).ok()?))
        });
        Self(futures::future::join_all(read).await.into_iter().flatten().collect())
    }

    /// The place that dropped most since `before`, of those that can have to do with the pods `ends`.
    pub fn since(self, before: &Self, ends: &BTreeSet<String>) -> Option<LostAt> {
        let mut places: BTreeMap<(String, String, String), u64> = BTreeMap::new();
        for (node, drops) in self.0 {
            let earlier = before.0.get(&node)?;
            for drop in drops.into_iter().filter(|drop| concerns(&drop.matching, ends)) {
                let same = |other: &&Drop| (&other.place, other.handle) == (&drop.place, drop.handle);
                let count = earlier.iter().find(same).map_or(0, |drop| drop.packets);
                *places.entry((node.clone(), drop.place, drop.matching)).or_default() +=
                    drop.packets.saturating_sub(count);
            }
        }
        let ((node, place, matching), drops) = places.into_iter().max_by_key(|(_, drops)| *drops)?;
        let matching = Some(matching).filter(|text| !text.is_empty());
        (drops > 0).then_some(LostAt { node, place, drops, matching, last_seen: None })
    }
}

/// A rule that denies one pod something says nothing about flows of others, which may be denied at the same time.
fn concerns(matching: &str, ends: &BTreeSet<String>) -> bool {
    match matching.strip_suffix(DENIED).and_then(|subject| subject.split(' ').next()) {
        Some(pod) => ends.is_empty() || ends.contains(pod),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn counters(drops: &[(&str, u64, &str, u64)]) -> Counters {
        let drop = |(place, handle, matching, packets): &(&str, u64, &str, u64)| Drop {
            place: (*place).into(),
            handle: *handle,
            matching: (*matching).into(),
            packets: *packets,
        };
        Counters([("w1".to_string(), drops.iter().map(drop).collect())].into())
    }

    #[test]
    fn the_counter_that_rose_most_names_the_place() {
        let before =
            counters(&[("inet firewall input", 4, "udp dport 4789", 7), ("ip cni to", 9, "Invalid packet", 1)]);
        let after = counters(&[
            ("inet firewall input", 4, "udp dport 4789", 18),
            ("ip cni to", 9, "Invalid packet", 2),
            ("ip cni to", 12, "prod/other ingress: denied", 90),
        ]);
        let lost = after.since(&before, &["prod/web".to_string()].into()).unwrap();
        assert_eq!((lost.node.as_str(), lost.place.as_str(), lost.drops), ("w1", "inet firewall input", 11));
        assert_eq!(lost.matching.as_deref(), Some("udp dport 4789"));
    }

    #[test]
    fn a_denial_of_an_end_is_a_place() {
        let before = counters(&[]);
        let after = counters(&[("ip cni to", 12, "prod/web ingress: denied", 2)]);
        let lost = after.since(&before, &["prod/web".to_string()].into()).unwrap();
        assert_eq!(lost.matching.as_deref(), Some("prod/web ingress: denied"));
    }

    #[test]
    fn nothing_rose_and_nothing_is_said() {
        let same = || counters(&[("ip cni to", 9, "Invalid packet", 5)]);
        assert_eq!(same().since(&same(), &BTreeSet::new()), None);
    }
}
