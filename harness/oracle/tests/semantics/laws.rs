//! Laws that hold for every cluster, whatever its policies.

use cknet_oracle::{Direction, NetworkPolicy, Oracle, Prediction, Profile, Rule, Selector, Snapshot};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::definition::{cells, random};
use crate::world::is_allowed;

fn predict(snapshot: &Snapshot) -> Vec<Prediction> {
    let (from, to) = cells(snapshot);
    Oracle::new(snapshot, Profile::calico()).matrix(&from, &to).unwrap()
}

fn allowed(snapshot: &Snapshot) -> Vec<bool> {
    predict(snapshot).iter().map(is_allowed).collect()
}

/// A policy that denies everything to and from every pod of a namespace.
fn deny_all(namespace: &str) -> NetworkPolicy {
    NetworkPolicy {
        namespace: namespace.to_owned(),
        name: "deny-all".to_owned(),
        pods: Selector::everything(),
        ingress: vec![],
        egress: vec![],
        types: vec![Direction::Ingress, Direction::Egress],
    }
}

fn deny_everywhere(snapshot: &mut Snapshot) {
    for namespace in ["ns-0", "ns-1", "ns-2"] {
        snapshot.policies.push(deny_all(namespace));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_policies_changes_nothing(
        snapshot in random::cluster().prop_flat_map(|snapshot| {
            let shuffled = Just(snapshot.policies.clone()).prop_shuffle();
            (Just(snapshot), shuffled)
        })
    ) {
        let (snapshot, policies) = snapshot;
        let shuffled = Snapshot { policies, ..snapshot.clone() };
        let sentences = |snapshot| predict(snapshot).iter().map(ToString::to_string).collect::<Vec<_>>();
        prop_assert_eq!(sentences(&snapshot), sentences(&shuffled));
    }

    #[test]
    fn a_rule_added_among_isolated_pods_takes_nothing_away(
        mut snapshot in random::cluster(), rule in random::rule(), at in any::<Index>(), ingress in any::<bool>(),
    ) {
        deny_everywhere(&mut snapshot);
        let before = allowed(&snapshot);
        let at = at.index(snapshot.policies.len());
        let policy = &mut snapshot.policies[at];
        // An egress rule may isolate where `policyTypes` is absent, but all pods are isolated here.
        if ingress { policy.ingress.push(rule) } else { policy.egress.push(rule) }
        let after = allowed(&snapshot);
        prop_assert!(before.iter().zip(&after).all(|(before, after)| !before || *after));
    }

    #[test]
    fn a_deny_all_gives_nothing_and_an_allow_all_takes_nothing(snapshot in random::cluster()) {
        let before = allowed(&snapshot);
        let mut denying = snapshot.clone();
        deny_everywhere(&mut denying);
        let with_denial = allowed(&denying);
        prop_assert!(before.iter().zip(&with_denial).all(|(before, after)| *before || !after));
        let mut allowing = snapshot;
        for namespace in ["ns-0", "ns-1", "ns-2"] {
            let everything = vec![Rule::default()];
            allowing.policies.push(NetworkPolicy {
                name: "allow-all".to_owned(),
                ingress: everything.clone(),
                egress: everything,
                ..deny_all(namespace)
            });
        }
        prop_assert!(allowed(&allowing).into_iter().all(|allowed| allowed));
    }

    #[test]
    fn a_policy_changes_no_flow_that_its_namespace_has_no_part_in(
        snapshot in random::cluster(), policies in random::policies(),
    ) {
        let mut with_more = snapshot.clone();
        with_more.policies.extend(policies.into_iter().enumerate().map(|(number, policy)| NetworkPolicy {
            namespace: "ns-0".to_owned(),
            name: format!("more-{number}"),
            ..policy
        }));
        let (from, to) = cells(&snapshot);
        let elsewhere = |cell: usize| {
            let (row, column) = (cell / to.len(), cell % to.len());
            snapshot.pods[row].namespace != "ns-0" && to[column].0.namespace != "ns-0"
        };
        let (before, after) = (predict(&snapshot), predict(&with_more));
        prop_assert_eq!(before.len(), from.len() * to.len());
        for cell in (0..before.len()).filter(|cell| elsewhere(*cell)) {
            prop_assert_eq!(&before[cell], &after[cell]);
        }
    }

    #[test]
    fn a_second_copy_of_a_policy_changes_nothing(snapshot in random::cluster(), which in any::<Index>()) {
        prop_assume!(!snapshot.policies.is_empty());
        let mut doubled = snapshot.clone();
        let mut copy = which.get(&snapshot.policies).clone();
        copy.name = "copy".to_owned();
        doubled.policies.push(copy);
        prop_assert_eq!(allowed(&snapshot), allowed(&doubled));
    }

    #[test]
    fn a_policy_of_both_directions_is_two_of_one_each(snapshot in random::cluster()) {
        let mut split = snapshot.clone();
        split.policies = Vec::new();
        for policy in &snapshot.policies {
            for direction in [Direction::Ingress, Direction::Egress] {
                if policy.isolates(direction) {
                    let name = format!("{}-{direction}", policy.name);
                    split.policies.push(NetworkPolicy { name, types: vec![direction], ..policy.clone() });
                }
            }
        }
        prop_assert_eq!(allowed(&snapshot), allowed(&split));
    }

    #[test]
    fn placement_on_nodes_changes_nothing(snapshot in random::cluster()) {
        let mut together = snapshot.clone();
        for pod in &mut together.pods {
            pod.node = Some("n0".to_owned());
        }
        prop_assert_eq!(allowed(&snapshot), allowed(&together));
    }

    #[test]
    fn a_prediction_never_contradicts_its_reasons(snapshot in random::cluster()) {
        for prediction in predict(&snapshot) {
            let [leg] = prediction.legs.as_slice() else { panic!("{prediction}") };
            let passes = leg.source.because.passes() && leg.destination.because.passes();
            prop_assert_eq!(passes, is_allowed(&prediction), "{}", prediction);
            prop_assert_eq!(&leg.outcome, &prediction.outcome, "{}", prediction);
        }
    }
}
