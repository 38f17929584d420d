//! What controllers and the scheduler do about Deployments, DaemonSets and nodes, and the kubelet about images.

use std::collections::BTreeSet;

use libtest_mimic::Trial;

use super::cluster::{IMAGE, SOON, deployment, shared};
use super::program::{eventually, table};
use super::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("workloads::a_deployment_rolls_out", a_deployment_rolls_out),
        trial("workloads::a_deployment_is_scaled", a_deployment_is_scaled),
        trial("workloads::a_deleted_pod_is_replaced", a_deleted_pod_is_replaced),
        trial("workloads::a_daemonset_is_on_every_node", a_daemonset_is_on_every_node),
        trial("workloads::a_cordoned_node_gets_no_pods", a_cordoned_node_gets_no_pods),
        trial("workloads::the_probe_image_answers_without_arguments", the_probe_image_answers_without_arguments),
        trial("workloads::an_unknown_image_is_named", an_unknown_image_is_named),
        trial("workloads::waits_end_when_what_they_wait_for_comes", waits_end_when_what_they_wait_for_comes),
        trial("workloads::events_tell_the_life_of_a_pod", events_tell_the_life_of_a_pod),
    ]
}

fn a_deployment_rolls_out() {
    let space = shared().space("rollout");
    assert_eq!(space.ok_with("create -f -", &deployment("web", 2)), "deployment.apps/web created\n");
    let said = space.ok("rollout status deployment/web --timeout=30s");
    assert!(said.ends_with("deployment \"web\" successfully rolled out\n"), "{said}");
    let text = space.ok("get deployment web -o wide");
    let rows = table(&text);
    assert_eq!(rows[0], ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "CONTAINERS", "IMAGES", "SELECTOR"]);
    assert_eq!((&rows[1][..4], &rows[1][5..]), (&["web", "2/2", "2", "2"][..], &["probe", IMAGE, "app=web"][..]));
    let described = space.ok("describe deployment web");
    for expected in [
        "Replicas:               2 desired | 2 updated | 2 total | 2 available | 0 unavailable\n",
        "StrategyType:           RollingUpdate\n",
        "  Available      True    MinimumReplicasAvailable\n  Progressing    True    NewReplicaSetAvailable\n",
        "Scaled up replica set web-",
    ] {
        assert!(described.contains(expected), "no `{expected}` in:\n{described}");
    }
    // A change of the template makes a second ReplicaSet, and the first one shrinks to nothing.
    let change = r#"{"spec":{"template":{"metadata":{"annotations":{"turn":"2"}}}}}"#;
    space.ok(&format!("patch deployment web -p '{change}'"));
    space.ok("rollout status deployment/web --timeout=30s");
    assert_eq!(space.field("deployment web", ".metadata.annotations.deployment\\.kubernetes\\.io/revision"), "2");
    let sets =
        space.ok("get replicasets --sort-by=.metadata.creationTimestamp -o 'jsonpath={.items[*].spec.replicas}'");
    let sets: BTreeSet<&str> = sets.split(' ').collect();
    assert_eq!(sets, BTreeSet::from(["0", "2"]));
    assert_eq!(space.ok("rollout restart deployment/web"), "deployment.apps/web restarted\n");
    space.ok("rollout status deployment/web --timeout=30s");
}

fn a_deployment_is_scaled() {
    let space = shared().space("scaled");
    space.ok_with("apply -f -", &deployment("web", 1));
    space.ok("rollout status deployment/web --timeout=30s");
    assert_eq!(space.ok("scale deployment web --replicas=4"), "deployment.apps/web scaled\n");
    space.ok("wait --for=jsonpath={.status.readyReplicas}=4 deployment/web --timeout=30s");
    let nodes = space.ok("get pods -l app=web -o 'jsonpath={.items[*].spec.nodeName}'");
    let nodes: BTreeSet<&str> = nodes.split(' ').collect();
    assert_eq!(nodes, BTreeSet::from(["cp1", "w1", "w2"]), "four pods are spread over three nodes");
    space.ok("scale deployment web --current-replicas=4 --replicas=0");
    eventually("no pod is left", SOON, || match space.ok("get pods -o name") {
        left if left.is_empty() => Ok(()),
        left => Err(left),
    });
    assert_eq!(
        space.fails("scale deployment web --current-replicas=3 --replicas=1", ""),
        "error: Expected replicas to be 3, was 0\n"
    );
}

fn a_deleted_pod_is_replaced() {
    let space = shared().space("replaced");
    space.ok_with("apply -f -", &deployment("web", 1));
    space.ok("rollout status deployment/web --timeout=30s");
    let before = space.ok("get pods -o name");
    assert_eq!(before.lines().count(), 1, "{before}");
    space.ok(&format!("delete {}", before.trim()));
    let after = eventually("another pod runs", SOON, || {
        let after = space.ok("get pods --field-selector status.phase=Running -o name");
        if after.is_empty() || after == before { Err(after) } else { Ok(after) }
    });
    assert!(after.starts_with("pod/web-") && after.lines().count() == 1, "{after}");
    let owner = space.field(after.trim(), ".metadata.ownerReferences[0].kind");
    assert_eq!(owner, "ReplicaSet");
    // What it made goes with it.
    space.ok("delete deployment web");
    eventually("no pod is left", SOON, || match space.ok("get replicasets,pods -o name") {
        left if left.is_empty() => Ok(()),
        left => Err(left),
    });
}

fn a_daemonset_is_on_every_node() {
    let space = shared().space("everywhere");
    let text = deployment("agent", 1).replace("\"Deployment\"", "\"DaemonSet\"").replace("\"replicas\":1,", "");
    assert_eq!(space.ok_with("apply -f -", &text), "daemonset.apps/agent created\n");
    let said = space.ok("rollout status daemonset/agent --timeout=30s");
    assert!(said.ends_with("daemon set \"agent\" successfully rolled out\n"), "{said}");
    let text = space.ok("get daemonset agent");
    let rows = table(&text);
    assert_eq!(rows[0], ["NAME", "DESIRED", "CURRENT", "READY", "UP-TO-DATE", "AVAILABLE", "NODE SELECTOR", "AGE"]);
    assert_eq!(rows[1][..7], ["agent", "3", "3", "3", "3", "3", "<none>"]);
    let nodes = space.ok("get pods --sort-by=.spec.nodeName -o 'jsonpath={.items[*].spec.nodeName}'");
    assert_eq!(nodes, "cp1 w1 w2");
    // Narrowed to one node, the others lose their pods.
    space.ok(
        r#"patch daemonset agent -p '{"spec":{"template":{"spec":{"nodeSelector":{"kubernetes.io/hostname":"w1"}}}}}'"#,
    );
    eventually("only w1 has one", SOON, || {
        match space.ok("get pods --field-selector status.phase=Running -o 'jsonpath={.items[*].spec.nodeName}'") {
            nodes if nodes == "w1" => Ok(()),
            nodes => Err(nodes),
        }
    });
}

/// A node that belongs to this trial alone: pods that tolerate nothing else are drawn to it by its label.
fn a_cordoned_node_gets_no_pods() {
    let cluster = super::cluster::breakable();
    let _turn = super::broken::turn();
    let space = cluster.space("cordoned");
    assert_eq!(cluster.kubectl("cordon w1"), "node/w1 cordoned\n");
    assert_eq!(cluster.kubectl("cordon w1"), "node/w1 already cordoned\n");
    let row = cluster.kubectl("get node w1 --no-headers");
    assert_eq!(row.split_whitespace().nth(1), Some("Ready,SchedulingDisabled"));
    let picky = deployment("web", 1)
        .replace("\"containers\"", "\"nodeSelector\":{\"kubernetes.io/hostname\":\"w1\"},\"containers\"");
    space.ok_with("apply -f -", &picky);
    let event = eventually("the scheduler says why not", SOON, || {
        let said = space.ok("get events --field-selector reason=FailedScheduling -o 'jsonpath={.items[*].message}'");
        if said.is_empty() { Err("no event".into()) } else { Ok(said) }
    });
    assert_eq!(
        event,
        "0/3 nodes are available: 1 node(s) were unschedulable, 2 node(s) didn't match Pod's node affinity/selector. \
         preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
    );
    assert_eq!(space.ok("get pods -o 'jsonpath={.items[0].status.phase}{.items[0].spec.nodeName}'"), "Pending");
    assert_eq!(cluster.kubectl("uncordon w1"), "node/w1 uncordoned\n");
    space.ok("rollout status deployment/web --timeout=30s");
    assert_eq!(space.ok("get pods -o 'jsonpath={.items[0].spec.nodeName}'"), "w1");
}

fn the_probe_image_answers_without_arguments() {
    let space = shared().space("plain");
    assert_eq!(
        space.ok(&format!("create deployment web --image={IMAGE} --replicas=2")),
        "deployment.apps/web created\n"
    );
    space.ok("rollout status deployment/web --timeout=30s");
    assert_eq!(space.ok("expose deployment web --port=80 --target-port=8080"), "service/web exposed\n");
    assert_eq!(space.ok(&format!("run one --image={IMAGE}")), "pod/one created\n");
    space.ok("wait --for=condition=Ready pod/one --timeout=30s");
    eventually("the service answers", SOON, || match space.connect("one", "web:80") {
        ended if ended.starts_with("allowed by plain/web-") => Ok(()),
        ended => Err(ended),
    });
}

fn an_unknown_image_is_named() {
    let space = shared().space("images");
    space.ok("run web --image=postgres:17");
    let reason = eventually("the kubelet gives up for now", SOON, || {
        match space.field("pod web", ".status.containerStatuses[0].state.waiting.reason") {
            reason if reason == "ImagePullBackOff" => Ok(reason),
            reason => Err(reason),
        }
    });
    let row = space.ok("get pod web --no-headers");
    assert_eq!(row.split_whitespace().collect::<Vec<_>>()[..4], ["web", "0/1", &reason, "0"]);
    let described = space.ok("describe pod web");
    let why = "Failed to pull image \"postgres:17\": the reference distribution runs no container images: `postgres:17` is not \
               one of `cknet-probe`, ";
    for expected in [
        why,
        "Error: ErrImagePull\n",
        "Back-off pulling image \"postgres:17\"\n",
        "      Reason:       ImagePullBackOff\n",
    ] {
        assert!(described.contains(expected), "no `{expected}` in:\n{described}");
    }
    assert_eq!(
        space.fails("logs web", ""),
        "Error from server (BadRequest): container \"web\" in pod \"web\" is waiting to start: trying and failing to pull image\n"
    );
}

fn waits_end_when_what_they_wait_for_comes() {
    let space = shared().space("waits");
    assert_eq!(
        space.fails("wait --for=condition=Ready pod/one --timeout=1s", ""),
        "Error from server (NotFound): pods \"one\" not found\n"
    );
    space.pods(&[("one", "one", "w1", &[])]);
    assert_eq!(space.ok("wait --for=condition=Ready pod/one --timeout=20s"), "pod/one condition met\n");
    assert_eq!(
        space.ok("wait --for=jsonpath={.status.phase}=Running pod/one --timeout=20s"),
        "pod/one condition met\n"
    );
    assert_eq!(
        space.run("wait --for=jsonpath={.status.phase}=Failed pod/one --timeout=300ms").err,
        "error: timed out waiting for the condition on pods/one\n"
    );
    // One that takes its time to end, so that kubectl finds it there.
    let slow = r#"{"spec":{"terminationGracePeriodSeconds":3}}"#;
    let deaf = r#"trap "" TERM; while :; do sleep 0.1; done"#;
    space.ok(&format!("run slow --image={IMAGE} --overrides '{slow}' --command -- sh -c '{deaf}'"));
    space.ok("wait --for=condition=Ready pod/slow --timeout=20s");
    assert_eq!(space.ok("delete pod slow --wait=false").split_once(" deleted").unwrap().0, "pod \"slow\"");
    assert_eq!(space.ok("get pod slow --no-headers").split_whitespace().nth(2), Some("Terminating"));
    assert_eq!(space.ok("wait --for=delete pod/slow --timeout=20s"), "pod/slow condition met\n");
    assert_eq!(space.fails("get pod slow", ""), "Error from server (NotFound): pods \"slow\" not found\n");
    // A pod that ends by itself, and one that fails.
    for (name, script, phase) in [("good", "exit 0", "Succeeded"), ("bad", "exit 4", "Failed")] {
        space.ok(&format!("run {name} --image={IMAGE} --restart=Never --command -- sh -c '{script}'"));
        let line = format!("wait --for=jsonpath={{.status.phase}}={phase} pod/{name} --timeout=20s");
        assert_eq!(space.ok(&line), format!("pod/{name} condition met\n"));
    }
    assert_eq!(space.field("pod bad", ".status.containerStatuses[0].state.terminated.exitCode"), "4");
    assert_eq!(
        space.ok("get pod bad --no-headers").split_whitespace().collect::<Vec<_>>()[..3],
        ["bad", "0/1", "Error"]
    );
    assert_eq!(
        space.ok("get pod good --no-headers").split_whitespace().collect::<Vec<_>>()[..3],
        ["good", "0/1", "Completed"]
    );
}

fn events_tell_the_life_of_a_pod() {
    let space = shared().space("events");
    space.ok(&format!("run one --image={IMAGE}"));
    space.ok("wait --for=condition=Ready pod/one --timeout=30s");
    let node = space.field("pod one", ".spec.nodeName");
    let told = || {
        space.ok("get events --field-selector involvedObject.name=one -o 'jsonpath={range .items[*]}{.reason}: {.message}{\"\\n\"}{end}'")
    };
    let expected: BTreeSet<String> = [
        format!("Scheduled: Successfully assigned events/one to {node}"),
        format!("Pulled: Container image \"{IMAGE}\" already present on machine"),
        "Created: Created container: one".into(),
        "Started: Started container one".into(),
    ]
    .into();
    eventually("four events", SOON, || {
        let seen: BTreeSet<String> = told().lines().map(String::from).collect();
        if seen == expected { Ok(()) } else { Err(format!("{seen:#?}")) }
    });
    let text = space.ok("get events");
    assert_eq!(table(&text)[0], ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]);
    let text = space.ok("events --for pod/one");
    assert!(text.contains("Started container one"), "{text}");
    space.ok("delete pod one");
    eventually("its end is told", SOON, || match told() {
        all if all.contains("Killing: Stopping container one\n") => Ok(()),
        all => Err(all),
    });
}
