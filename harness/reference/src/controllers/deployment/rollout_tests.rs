//! Rollouts step by step: each test plays the replica set controller by hand.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;

fn deployment(patch: Value) -> Deployment {
    let mut value = json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "d", "generation": 1},
        "spec": {
            "replicas": 4,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}},
        },
    });
    merge(&mut value, &patch);
    serde_json::from_value(value).unwrap()
}

fn merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, patch) => *into = patch.clone(),
    }
}

fn now() -> Timestamp {
    "2026-11-23T09:00:00Z".parse().unwrap()
}

/// A deployment with its replica sets, as an obedient cluster would treat them.
struct Cluster {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
    pods: HashMap<String, usize>,
}

impl Cluster {
    fn new(deployment: Deployment) -> Self {
        Self { deployment, sets: Vec::new(), pods: HashMap::new() }
    }

    fn decide(&self) -> Decision {
        let owned: Vec<_> = self.sets.iter().collect();
        let seen = Seen { owned: &owned, adoptable: Vec::new(), pods: &self.pods };
        decide(&self.deployment, &seen, now())
    }

    /// One round; whether it did more than write the status.
    fn round(&mut self) -> bool {
        let mut acted = false;
        for action in self.decide().actions {
            acted |= !matches!(action, Action::Status(_));
            self.apply(action);
        }
        acted
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::Create(mut set) => {
                set.metadata.uid = Some(format!("r{}", self.sets.len()));
                self.sets.push(*set);
            }
            Action::Scale { replica_set, patch, .. } | Action::Annotate { replica_set, patch } => {
                let set = self.sets.iter_mut().find(|set| set.metadata.uid == replica_set.metadata.uid);
                patched(set.unwrap(), &patch);
            }
            Action::Revision(patch) | Action::Status(patch) => patched(&mut self.deployment, &patch),
            Action::Forget(set) => self.sets.retain(|other| other.metadata.uid != set.metadata.uid),
            Action::Adopt { .. } => panic!("nothing to adopt"),
        }
    }

    /// All pods that are wanted exist, and those of sets that `serve` names are available.
    fn settle(&mut self, serve: impl Fn(&ReplicaSet) -> bool) {
        for set in &mut self.sets {
            let count = replicas(set);
            let available = if serve(set) { count } else { 0 };
            self.pods.insert(uid_of(&*set).to_owned(), count as usize);
            set.status = serde_json::from_value(json!({"replicas": count, "readyReplicas": available,
                "availableReplicas": available, "observedGeneration": 1}))
            .unwrap();
            set.metadata.generation = Some(1);
        }
    }

    fn counts(&self) -> Vec<i32> {
        self.sets.iter().map(replicas).collect()
    }

    fn image(&mut self, image: &str) {
        let template = &mut self.deployment.spec.as_mut().unwrap().template;
        template.spec.as_mut().unwrap().containers[0].image = Some(image.to_owned());
    }

    fn progressing(&self) -> (String, String) {
        let status = self.deployment.status.clone().unwrap();
        let condition = status.conditions.unwrap().into_iter().find(|c| c.type_ == "Progressing").unwrap();
        (condition.status, condition.reason.unwrap())
    }
}

fn patched<T: serde::Serialize + serde::de::DeserializeOwned>(object: &mut T, patch: &Value) {
    let mut value = serde_json::to_value(&*object).unwrap();
    merge(&mut value, patch);
    *object = serde_json::from_value(value).unwrap();
}

fn rolled_out(patch: Value) -> Cluster {
    let mut cluster = Cluster::new(deployment(patch));
    while cluster.round() {
        cluster.settle(|_| true);
    }
    cluster
}

#[test]
fn a_first_rollout_makes_one_replica_set_and_completes() {
    let cluster = rolled_out(json!({}));
    assert_eq!(cluster.counts(), [4]);
    let set = &cluster.sets[0];
    assert_eq!(set.annotations()[REVISION], "1");
    assert_eq!(set.annotations()[DESIRED], "4");
    assert_eq!(set.annotations()[MAXIMUM], "5");
    assert_eq!(set.name_any(), format!("web-{}", set.labels()["pod-template-hash"]));
    assert_eq!(set.owner_references()[0].uid, "d");
    assert_eq!(cluster.deployment.annotations()[REVISION], "1");
    let status = cluster.deployment.status.clone().unwrap();
    assert_eq!((status.replicas, status.updated_replicas, status.available_replicas), (Some(4), Some(4), Some(4)));
    assert_eq!((status.unavailable_replicas, status.observed_generation), (None, Some(1)));
    assert_eq!(cluster.progressing(), ("True".into(), "NewReplicaSetAvailable".into()));
}

#[test]
fn a_settled_deployment_needs_nothing() {
    assert_eq!(rolled_out(json!({})).decide().actions, []);
}

#[test]
fn a_rolling_update_keeps_within_its_bounds() {
    let mut cluster = rolled_out(json!({}));
    cluster.image("two");
    let mut steps = 0;
    loop {
        let acted = cluster.round();
        let total: i32 = cluster.counts().iter().sum();
        assert!(total <= 5, "more than replicas and surge: {:?}", cluster.counts());
        let serving: i32 = cluster.sets.iter().map(|set| available(set).min(replicas(set))).sum();
        assert!(serving >= 3, "fewer than allowed serve: {:?}", cluster.counts());
        cluster.settle(|_| true);
        steps += 1;
        assert!(steps < 30, "the rollout does not end");
        if !acted {
            break;
        }
    }
    assert_eq!(cluster.counts(), [0, 4]);
    assert_eq!(cluster.sets[1].annotations()[REVISION], "2");
}

#[test]
fn a_rollout_that_does_not_come_up_stops_and_times_out() {
    let mut cluster = rolled_out(json!({"spec": {"progressDeadlineSeconds": 600}}));
    cluster.image("broken");
    for _ in 0..10 {
        cluster.round();
        cluster.settle(|set| set.annotations().get(REVISION).is_some_and(|r| r == "1"));
    }
    assert_eq!(cluster.counts(), [3, 2], "three old ones still serve");
    assert_eq!(cluster.decide().again, Some(Duration::from_secs(600)));
    let owned: Vec<_> = cluster.sets.iter().collect();
    let seen = Seen { owned: &owned, adoptable: Vec::new(), pods: &cluster.pods };
    let later = now() + jiff::SignedDuration::from_secs(601);
    for action in decide(&cluster.deployment, &seen, later).actions {
        cluster.apply(action);
    }
    assert_eq!(cluster.progressing(), ("False".into(), "ProgressDeadlineExceeded".into()));
}

#[test]
fn going_back_reuses_the_old_replica_set_under_a_new_number() {
    let mut cluster = rolled_out(json!({}));
    for image in ["two", "one"] {
        cluster.image(image);
        while cluster.round() {
            cluster.settle(|_| true);
        }
    }
    assert_eq!(cluster.counts(), [4, 0]);
    assert_eq!(cluster.sets[0].annotations()[REVISION], "3");
    assert_eq!(cluster.deployment.annotations()[REVISION], "3");
}

#[test]
fn recreate_waits_until_the_last_old_pod_is_gone() {
    let mut cluster = rolled_out(json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}}));
    cluster.image("two");
    assert!(cluster.round());
    assert_eq!(cluster.counts(), [0]);
    assert!(!cluster.round(), "a pod is still on its way out");
    cluster.settle(|_| true);
    assert!(cluster.round());
    assert_eq!(cluster.counts(), [0, 4]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut cluster = rolled_out(json!({}));
    cluster.image("two");
    let spec = cluster.deployment.spec.as_mut().unwrap();
    spec.paused = Some(true);
    spec.replicas = Some(2);
    cluster.round();
    assert_eq!(cluster.counts(), [2]);
}

#[test]
fn history_beyond_the_limit_is_forgotten() {
    let mut cluster = rolled_out(json!({"spec": {"revisionHistoryLimit": 1}}));
    for image in ["two", "three"] {
        cluster.image(image);
        while cluster.round() {
            cluster.settle(|_| true);
        }
    }
    let revisions: Vec<_> = cluster.sets.iter().map(super::super::revision::revision_of).collect();
    assert_eq!(revisions, [2, 3]);
}
