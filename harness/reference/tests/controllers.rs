//! The controllers against the API server of the distribution, with kubelets that only pretend.
// How long things took is told to whoever runs this with `--nocapture`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod api_support;
mod controllers_support;

use std::collections::BTreeMap;
use std::time::Duration;

use cknet_reference::addons::{self, AddonSpec, Encapsulation};
use controllers_support::{Cluster, DEADLINE, awaited, becomes, from};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Event, Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::time::Instant;

fn merge_patch(patch: Value) -> (PatchParams, Patch<Value>) {
    (PatchParams::default(), Patch::Merge(patch))
}

fn node_counts(pods: &[Pod]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for pod in pods {
        let node = pod.spec.as_ref().unwrap().node_name.clone().unwrap_or_default();
        *counts.entry(node).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn a_deployment_comes_up_spread_and_is_told_of() {
    let cluster = Cluster::start(&["n1", "n2", "n3"]).await;
    let start = Instant::now();
    cluster.deploy("default", "web", 6, json!({})).await;
    let deployment = cluster.rolled_out("default", "web").await;
    eprintln!("6 pods rolled out after {:?}", start.elapsed());
    assert_eq!(deployment.annotations()["deployment.kubernetes.io/revision"], "1");
    let pods = cluster.pods("default").await;
    assert_eq!(node_counts(&pods).into_values().collect::<Vec<_>>(), [2, 2, 2]);
    let hash = &pods[0].labels()["pod-template-hash"];
    assert!(pods.iter().all(|pod| pod.name_any().starts_with(&format!("web-{hash}-"))));
    let events = cluster.in_namespace::<Event>("default");
    for reason in ["ScalingReplicaSet", "SuccessfulCreate", "Scheduled"] {
        awaited(reason, || async {
            let all = events.list(&ListParams::default()).await.unwrap().items;
            all.into_iter().find(|event| event.reason.as_deref() == Some(reason))
        })
        .await;
    }
}

#[tokio::test]
async fn exactly_as_many_pods_as_asked_for() {
    let cluster = Cluster::start(&["n1"]).await;
    let pods = cluster.in_namespace::<Pod>("default");
    cluster.deploy("default", "web", 40, json!({})).await;
    cluster.rolled_out("default", "web").await;
    let api = cluster.in_namespace::<Deployment>("default");
    for replicas in [5, 25, 0, 10] {
        let (params, patch) = merge_patch(json!({"spec": {"replicas": replicas}}));
        api.patch("web", &params, &patch).await.unwrap();
        becomes("number of pods", replicas, || async { pods.list(&ListParams::default()).await.unwrap().items.len() })
            .await;
    }
    let sets = cluster.in_namespace::<ReplicaSet>("default").list(&ListParams::default()).await.unwrap();
    assert_eq!(sets.items.len(), 1);
    let events = cluster.in_namespace::<Event>("default").list(&ListParams::default()).await.unwrap().items;
    let created = events.iter().filter(|event| event.reason.as_deref() == Some("FailedCreate")).count();
    assert_eq!(created, 0);
}

#[tokio::test]
async fn a_new_template_rolls_and_an_old_one_comes_back() {
    let cluster = Cluster::start(&["n1", "n2"]).await;
    cluster.deploy("default", "web", 3, json!({})).await;
    cluster.rolled_out("default", "web").await;
    let api = cluster.in_namespace::<Deployment>("default");
    for (image, revision) in [("two", "2"), ("one", "3")] {
        let containers = json!([{"name": "c", "image": image, "ports": [{"name": "http", "containerPort": 8080}]}]);
        let (params, patch) = merge_patch(json!({"spec": {"template": {"spec": {"containers": containers}}}}));
        api.patch("web", &params, &patch).await.unwrap();
        let deployment = cluster.rolled_out("default", "web").await;
        awaited("the revision", || async {
            let found = api.get("web").await.unwrap();
            (found.annotations()["deployment.kubernetes.io/revision"] == revision).then_some(())
        })
        .await;
        assert!(
            deployment
                .status
                .unwrap()
                .conditions
                .unwrap()
                .iter()
                .any(|condition| { condition.type_ == "Available" && condition.status == "True" })
        );
        let pods = cluster.pods("default").await;
        let images = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        assert!(images.clone().all(|pod| pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some(image)));
    }
    let sets = cluster.in_namespace::<ReplicaSet>("default").list(&ListParams::default()).await.unwrap();
    assert_eq!(sets.items.len(), 2, "the first replica set was used again");
}

#[tokio::test]
async fn what_is_deleted_takes_along_what_it_owns() {
    let cluster = Cluster::start(&["n1"]).await;
    let api = cluster.in_namespace::<Deployment>("default");
    let sets = cluster.in_namespace::<ReplicaSet>("default");
    for params in [DeleteParams::background(), DeleteParams::foreground()] {
        cluster.deploy("default", "web", 2, json!({})).await;
        cluster.rolled_out("default", "web").await;
        api.delete("web", &params).await.unwrap();
        becomes("deployments, sets and pods", (0, 0, 0), || async {
            let count = ListParams::default();
            (
                api.list(&count).await.unwrap().items.len(),
                sets.list(&count).await.unwrap().items.len(),
                cluster.pods("default").await.len(),
            )
        })
        .await;
    }
    cluster.deploy("default", "web", 2, json!({})).await;
    cluster.rolled_out("default", "web").await;
    api.delete("web", &DeleteParams::orphan()).await.unwrap();
    awaited("the deployment to go", || async { api.get_opt("web").await.unwrap().is_none().then_some(()) }).await;
    let left = sets.list(&ListParams::default()).await.unwrap().items;
    assert_eq!((left.len(), cluster.pods("default").await.len()), (1, 2));
    assert!(left[0].owner_references().is_empty());
    cluster.deploy("default", "web", 2, json!({})).await;
    cluster.rolled_out("default", "web").await;
    assert_eq!(sets.get(&left[0].name_any()).await.unwrap().owner_references().len(), 1, "adopted again");
}

#[tokio::test]
async fn a_service_follows_its_pods() {
    let cluster = Cluster::start(&["n1", "n2"]).await;
    let service: Service = from(json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"},
        "ports": [{"port": 80, "targetPort": "http"}]}}));
    let services = cluster.in_namespace::<Service>("default");
    services.create(&PostParams::default(), &service).await.unwrap();
    cluster.deploy("default", "web", 3, json!({})).await;
    let slices = cluster.in_namespace::<EndpointSlice>("default");
    let params = ListParams::default().labels("kubernetes.io/service-name=web");
    let ready = || async {
        let found = slices.list(&params).await.unwrap().items;
        let ends = found.iter().flat_map(|slice| &slice.endpoints);
        ends.filter(|end| end.conditions.as_ref().unwrap().ready == Some(true)).count()
    };
    becomes("ready endpoints", 3, ready).await;
    let slice = slices.list(&params).await.unwrap().items.remove(0);
    assert_eq!(slice.ports.as_ref().unwrap()[0].port, Some(8080));
    let endpoints = cluster.in_namespace::<Endpoints>("default");
    becomes("addresses", 3, || async {
        let found = endpoints.get_opt("web").await.unwrap();
        found.map_or(0, |found| {
            found.subsets.iter().flatten().flat_map(|subset| subset.addresses.iter().flatten()).count()
        })
    })
    .await;
    let (params, patch) = merge_patch(json!({"spec": {"replicas": 1}}));
    cluster.in_namespace::<Deployment>("default").patch("web", &params, &patch).await.unwrap();
    becomes("ready endpoints", 1, ready).await;
    services.delete("web", &DeleteParams::background()).await.unwrap();
    becomes("slices and endpoints", (0, false), || async {
        (
            slices.list(&ListParams::default().labels("kubernetes.io/service-name=web")).await.unwrap().items.len(),
            endpoints.get_opt("web").await.unwrap().is_some(),
        )
    })
    .await;
}

#[tokio::test]
async fn a_daemon_set_follows_nodes_and_its_template() {
    let mut cluster = Cluster::start(&["n1", "n2"]).await;
    let set: DaemonSet =
        from(json!({"metadata": {"name": "agent"}, "spec": {"selector": {"matchLabels": {"app": "agent"}},
        "template": {"metadata": {"labels": {"app": "agent"}}, "spec": {"hostNetwork": true, "containers": [
            {"name": "c", "image": "one", "ports": [{"containerPort": 9099}]}]}}}}));
    let api = cluster.in_namespace::<DaemonSet>("default");
    api.create(&PostParams::default(), &set).await.unwrap();
    let rolled = |count: i32| {
        let api = api.clone();
        move || {
            let api = api.clone();
            async move {
                let found = api.get("agent").await.unwrap();
                let status = found.status?;
                (status.observed_generation >= found.metadata.generation
                    && status.desired_number_scheduled == count
                    && status.updated_number_scheduled == Some(count)
                    && status.number_available == Some(count))
                .then_some(())
            }
        }
    };
    awaited("two agents", rolled(2)).await;
    cluster.join("n3").await;
    awaited("three agents", rolled(3)).await;
    let before: Vec<_> = cluster.pods("default").await.iter().map(ResourceExt::name_any).collect();
    let (params, _) = merge_patch(Value::Null);
    let env = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "c", "env": [{"name": "IP_AUTODETECTION_METHOD", "value": "interface=eth1"}]}]}}}});
    api.patch("agent", &params, &Patch::Strategic(env)).await.unwrap();
    awaited("three new agents", rolled(3)).await;
    let after = cluster.pods("default").await;
    assert_eq!(node_counts(&after).into_values().collect::<Vec<_>>(), [1, 1, 1]);
    assert!(after.iter().all(|pod| !before.contains(&pod.name_any())));
    Api::<Node>::all(cluster.client.clone()).delete("n3", &DeleteParams::default()).await.unwrap();
    cluster.silence("n3");
    becomes("agents by node", vec!["n1".to_owned(), "n2".to_owned()], || async {
        node_counts(&cluster.pods("default").await).into_keys().collect::<Vec<_>>()
    })
    .await;
}

#[tokio::test]
async fn a_pod_waits_for_a_node_that_will_do() {
    let cluster = Cluster::start(&["n1"]).await;
    cluster.set_ready("n1", "False").await;
    let nodes = Api::<Node>::all(cluster.client.clone());
    let taints = || async {
        let found = nodes.get("n1").await.unwrap().spec.unwrap_or_default().taints.unwrap_or_default();
        found.iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect::<Vec<_>>()
    };
    let not_ready = ["NoSchedule", "NoExecute"].map(|effect| format!("node.kubernetes.io/not-ready:{effect}"));
    becomes("taints", not_ready.to_vec(), taints).await;
    let pods = cluster.in_namespace::<Pod>("default");
    let pod: Pod = from(json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "one"}]}}));
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let message = awaited("a refusal", || async {
        let conditions = pods.get("p").await.unwrap().status?.conditions?;
        conditions.into_iter().find(|condition| condition.type_ == "PodScheduled")?.message
    })
    .await;
    assert_eq!(
        message,
        "0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }. \
         preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
    );
    cluster.set_ready("n1", "True").await;
    becomes("taints", Vec::new(), taints).await;
    becomes("the pod's phase", Some("Running".to_owned()), || async {
        pods.get("p").await.unwrap().status.unwrap().phase
    })
    .await;
}

#[tokio::test]
async fn a_silent_node_is_lost_and_found() {
    let mut cluster = Cluster::start(&["n1", "n2"]).await;
    cluster.deploy("default", "web", 2, json!({})).await;
    cluster.rolled_out("default", "web").await;
    cluster.silence("n2");
    let nodes = Api::<Node>::all(cluster.client.clone());
    let start = Instant::now();
    let ready = || async {
        let conditions = nodes.get("n2").await.unwrap().status.unwrap().conditions.unwrap();
        let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready").unwrap();
        (ready.status, ready.reason.unwrap_or_default())
    };
    becomes("readiness", ("Unknown".to_owned(), "NodeStatusUnknown".to_owned()), ready).await;
    assert!(start.elapsed() > Duration::from_secs(1), "before its time");
    let api = cluster.in_namespace::<Deployment>("default");
    let available = || async { api.get("web").await.unwrap().status.unwrap().available_replicas };
    becomes("available replicas", Some(1), available).await;
    awaited("the taint", || async {
        let taints = nodes.get("n2").await.unwrap().spec?.taints?;
        taints.into_iter().find(|taint| taint.key == "node.kubernetes.io/unreachable")
    })
    .await;
    cluster.speak("n2");
    cluster.set_ready("n2", "True").await;
    becomes("available replicas", Some(2), available).await;
}

#[tokio::test]
async fn a_namespace_is_emptied_before_it_goes() {
    let cluster = Cluster::start(&["n1"]).await;
    let namespaces = Api::<Namespace>::all(cluster.client.clone());
    namespaces.create(&PostParams::default(), &from(json!({"metadata": {"name": "shop"}}))).await.unwrap();
    cluster.deploy("shop", "web", 3, json!({})).await;
    let config: ConfigMap = from(json!({"metadata": {"name": "c"}, "data": {"k": "v"}}));
    cluster.in_namespace::<ConfigMap>("shop").create(&PostParams::default(), &config).await.unwrap();
    let service: Service =
        from(json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}));
    cluster.in_namespace::<Service>("shop").create(&PostParams::default(), &service).await.unwrap();
    cluster.rolled_out("shop", "web").await;
    let start = Instant::now();
    namespaces.delete("shop", &DeleteParams::default()).await.unwrap();
    awaited("the namespace to go", || async { namespaces.get_opt("shop").await.unwrap().is_none().then_some(()) })
        .await;
    eprintln!("namespace gone after {:?}", start.elapsed());
    namespaces.create(&PostParams::default(), &from(json!({"metadata": {"name": "shop"}}))).await.unwrap();
    assert!(cluster.pods("shop").await.is_empty());
}

/// Scenarios that follow each other use the same names.
#[tokio::test]
async fn a_namespace_that_comes_back_keeps_what_is_put_into_it() {
    let cluster = Cluster::start(&["n1"]).await;
    let namespaces = Api::<Namespace>::all(cluster.client.clone());
    let named = |name: &str| from::<Namespace>(json!({"metadata": {"name": name}}));
    let gone = |name: &'static str| {
        let namespaces = namespaces.clone();
        async move {
            becomes("namespaces", 0, || async { usize::from(namespaces.get_opt(name).await.unwrap().is_some()) }).await
        }
    };
    let map = from::<ConfigMap>(json!({"metadata": {"name": "kept"}}));
    for _ in 0..10 {
        namespaces.create(&PostParams::default(), &named("again")).await.unwrap();
        let maps = cluster.in_namespace::<ConfigMap>("again");
        maps.create(&PostParams::default(), &map).await.unwrap();
        // When this one has been emptied and let go, the controller has looked at everything since.
        namespaces.create(&PostParams::default(), &named("other")).await.unwrap();
        namespaces.delete("other", &DeleteParams::default()).await.unwrap();
        gone("other").await;
        assert!(maps.get_opt("kept").await.unwrap().is_some(), "the namespace was emptied once too often");
        namespaces.delete("again", &DeleteParams::default()).await.unwrap();
        gone("again").await;
    }
}

#[tokio::test]
async fn a_new_cluster_has_its_network_and_its_names() {
    let cluster = Cluster::start(&["n1", "n2", "n3"]).await;
    let spec = AddonSpec {
        bird: false,
        cni: addons::Cni::Calico,
        pod_cidr: "10.251.0.0/16".parse().unwrap(),
        service_cidr: api_support::SERVICE_CIDR.parse().unwrap(),
        block_size: 26,
        encapsulation: Encapsulation::CrossSubnet,
        autodetection: None,
        cluster_domain: "cluster.local".to_owned(),
    };
    let start = Instant::now();
    addons::apply(&cluster.client, &spec).await.unwrap();
    eprintln!("objects written after {:?}", start.elapsed());
    cluster.rolled_out("kube-system", "coredns").await;
    let sets = cluster.in_namespace::<DaemonSet>("kube-system");
    awaited("calico-node on all nodes", || async {
        let status = sets.get("calico-node").await.unwrap().status?;
        (status.number_available == Some(3)).then_some(())
    })
    .await;
    eprintln!("all of it runs after {:?}", start.elapsed());
    let dns = cluster.in_namespace::<Service>("kube-system").get("kube-dns").await.unwrap();
    assert_eq!(dns.spec.unwrap().cluster_ip.as_deref(), Some("10.252.0.10"));
    let generation = || async { sets.get("calico-node").await.unwrap().metadata.generation };
    let before = generation().await;
    addons::apply(&cluster.client, &spec).await.unwrap();
    assert_eq!(generation().await, before, "the second time nothing changes");
}

#[tokio::test]
async fn kubectl_follows_a_rollout() {
    let Some(kubectl) = kubectl() else { return };
    let cluster = Cluster::start(&["n1", "n2"]).await;
    cluster.deploy("default", "web", 3, json!({})).await;
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config");
    std::fs::write(&config, cluster.server.kubeconfig()).unwrap();
    let run = |line: &'static str| {
        let mut command = tokio::process::Command::new(&kubectl);
        command.arg("--kubeconfig").arg(&config).args(line.split(' ')).kill_on_drop(true);
        async move {
            let output = tokio::time::timeout(DEADLINE, command.output()).await.expect(line).unwrap();
            let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
            assert!(output.status.success(), "{line}: {said}");
            said
        }
    };
    assert!(run("rollout status deployment/web --timeout=15s").await.contains("successfully rolled out"));
    run("set image deployment/web c=two").await;
    assert!(run("rollout status deployment/web --timeout=15s").await.contains("successfully rolled out"));
    run("wait --for=condition=Available deployment/web --timeout=15s").await;
    run("rollout undo deployment/web").await;
    assert!(run("rollout status deployment/web --timeout=15s").await.contains("successfully rolled out"));
    assert!(run("rollout history deployment/web").await.contains('3'));
    run("scale deployment/web --replicas=1").await;
    run("delete deployment/web --cascade=foreground --timeout=15s").await;
    assert!(cluster.pods("default").await.is_empty());
}

/// A kubectl to test with; its absence is a failure only where `CKNET_REQUIRE` says so.
fn kubectl() -> Option<std::path::PathBuf> {
    let named = std::env::var_os("CKNET_KUBECTL").map(Into::into);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        named.or_else(|| std::env::split_paths(&path).map(|dir| dir.join("kubectl")).find(|file| file.is_file()));
    if found.is_none() {
        let required = std::env::var("CKNET_REQUIRE").unwrap_or_default();
        assert!(!required.split(',').any(|name| name == "kubectl"), "kubectl is required and not there");
        eprintln!("ignored: there is no kubectl in PATH, and CKNET_KUBECTL is not set");
    }
    found
}
