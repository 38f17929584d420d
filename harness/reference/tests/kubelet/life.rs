//! Pods from their creation to their end.

use std::fs;
use std::time::{Duration, Instant};

use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::node::{TestNode, condition, container, eventually, on_a_node, shell};

async fn logs(node: &TestNode, name: &str) -> String {
    node.pods().logs(name, &Default::default()).await.unwrap()
}

fn state(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]["state"]
}

#[test]
fn a_pod_runs_is_described_and_goes_without_a_trace() {
    on_a_node(async |node| {
        node.create("web", container(json!({"args": ["--identity", "$(CKNET_IDENTITY)"]}))).await;
        let pod = node.await_running("web").await;
        assert_eq!(pod["status"]["phase"], "Running");
        assert_eq!(pod["status"]["podIP"], "10.1.0.1");
        assert_eq!(pod["status"]["hostIP"], "127.0.0.1");
        let uid = pod["metadata"]["uid"].as_str().unwrap();
        let netns = node.folder.join(format!("netns/cni-{uid}"));
        assert!(netns.exists());
        eventually("the output", async || {
            let text = logs(&node, "web").await;
            let mut lines: Vec<&str> = text.lines().collect();
            lines.sort_unstable();
            (lines == ["started: probe serve --identity default/web", "to stderr"]).then_some(())
        })
        .await;
        for start in
            ["Pulled: Container image \"cknet-probe\"", "Created: Created container: c", "Started: Started container c"]
        {
            node.await_event("web", start).await;
        }

        node.delete("web").await;
        node.await_gone("web").await;
        eventually("the namespace's end", async || (!netns.exists()).then_some(())).await;
        assert!(!node.folder.join("pods").join(uid).exists());
        assert!(node.addresses.given.lock().unwrap().is_empty());
        node.await_event("web", "Killing: Stopping container c").await;
    });
}

#[test]
fn a_pod_sees_its_own_name_network_resolver_and_variables() {
    on_a_node(async |node| {
        let script = "uname -n; cat /etc/hostname /etc/resolv.conf; grep 10.1.0 /etc/hosts; echo \"$ME $KUBERNETES_SERVICE_HOST\"; \
                      echo dev $(tail -n +3 /proc/net/dev | cut -d: -f1); exec sleep 600";
        let fields = json!({
            "command": ["/bin/sh", "-c", script],
            "env": [{"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        });
        node.create("web", container(fields)).await;
        node.await_running("web").await;
        let expected = "web\nweb\nsearch default.svc.cluster.local svc.cluster.local cluster.local\n\
                        nameserver 10.152.183.10\noptions ndots:5\n10.1.0.1\tweb\n10.1.0.1 10.152.183.1\ndev lo\n";
        eventually("the output", async || (logs(&node, "web").await == expected).then_some(())).await;
    });
}

#[test]
fn a_pod_on_the_hosts_network_has_the_hosts_address_and_name() {
    on_a_node(async |node| {
        nix::unistd::sethostname("n1-host").unwrap();
        let mut spec = shell("uname -n; readlink /proc/self/ns/net; exec sleep 600");
        spec["hostNetwork"] = json!(true);
        node.create("agent", spec).await;
        let pod = node.await_running("agent").await;
        assert_eq!(pod["status"]["podIP"], "127.0.0.1");
        let own = fs::read_link("/proc/thread-self/ns/net").unwrap();
        let expected = format!("n1-host\n{}\n", own.display());
        eventually("the output", async || (logs(&node, "agent").await == expected).then_some(())).await;
        assert!(node.addresses.given.lock().unwrap().is_empty());
    });
}

#[test]
fn who_ignores_sigterm_is_killed_after_the_grace_period() {
    on_a_node(async |node| {
        let mut spec = shell("trap '' TERM; echo up; while :; do sleep 1; done");
        spec["terminationGracePeriodSeconds"] = json!(1);
        node.create("stubborn", spec).await;
        node.await_running("stubborn").await;
        eventually("its trap", async || (logs(&node, "stubborn").await == "up\n").then_some(())).await;
        let begun = Instant::now();
        node.delete("stubborn").await;
        node.await_gone("stubborn").await;
        let took = begun.elapsed();
        assert!((Duration::from_millis(950)..Duration::from_secs(4)).contains(&took), "{took:?}");
    });
}

#[test]
fn a_forced_deletion_leaves_no_process() {
    on_a_node(async |node| {
        node.create("web", shell("setsid sleep 600 & exec sleep 600")).await;
        let pod = node.await_running("web").await;
        let netns = node.folder.join(format!("netns/cni-{}", pod["metadata"]["uid"].as_str().unwrap()));
        let forced = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        node.pods().delete("web", &forced).await.unwrap();
        node.await_gone("web").await;
        eventually("the end of the sandbox", async || (!netns.exists()).then_some(())).await;
        eventually("the end of the address", async || node.addresses.given.lock().unwrap().is_empty().then_some(()))
            .await;
    });
}

#[test]
fn an_unknown_image_is_refused_until_the_spec_names_a_known_one() {
    on_a_node(async |node| {
        let mut spec = container(json!({}));
        spec["containers"][0]["image"] = json!("postgres:17");
        node.create("web", spec).await;
        let pod = node.await_pod("web", "refused", |pod| state(pod)["waiting"]["reason"] == "ImagePullBackOff").await;
        assert_eq!(pod["status"]["phase"], "Pending");
        let message = state(&pod)["waiting"]["message"].as_str().unwrap();
        assert!(message.contains("the reference distribution runs no container images: `postgres:17`"), "{message}");
        node.await_event("web", "Failed: Failed to pull image \"postgres:17\"").await;
        let refused = node.pods().logs("web", &Default::default()).await.unwrap_err().to_string();
        assert!(
            refused.contains("container \"c\" in pod \"web\" is waiting to start: trying and failing to pull image"),
            "{refused}"
        );

        let patch = json!({"spec": {"containers": [{"name": "c", "image": "cknet-probe"}]}});
        node.pods().patch("web", &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap();
        node.await_running("web").await;

        let mut never = container(json!({}));
        never["containers"][0]["image"] = json!("mysql");
        node.create("never", never).await;
        node.await_pod("never", "refused", |pod| state(pod)["waiting"]["reason"] == "ImagePullBackOff").await;
        node.delete("never").await;
        node.await_gone("never").await;
    });
}

#[test]
fn a_container_that_fails_comes_back_and_its_past_is_told() {
    on_a_node(async |node| {
        node.create("crash", shell("echo attempt; exit 3")).await;
        let back_off = |pod: &Value| state(pod)["waiting"]["reason"] == "CrashLoopBackOff";
        let pod = node.await_pod("crash", "in back-off", back_off).await;
        assert_eq!(pod["status"]["phase"], "Running");
        let last = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"];
        assert_eq!((&last["exitCode"], &last["reason"]), (&json!(3), &json!("Error")));
        node.await_pod("crash", "restarted", |pod| pod["status"]["containerStatuses"][0]["restartCount"] == 2).await;
        node.await_event("crash", "BackOff: Back-off restarting failed container c in pod crash_default(").await;
        let previous = kube::api::LogParams { previous: true, ..Default::default() };
        assert_eq!(node.pods().logs("crash", &previous).await.unwrap(), "attempt\n");
        node.delete("crash").await;
        node.await_gone("crash").await;
    });
}

#[test]
fn pods_that_run_once_end_as_their_containers_did() {
    on_a_node(async |node| {
        for (name, script, phase) in [("good", "exit 0", "Succeeded"), ("bad", "exit 4", "Failed")] {
            let mut spec = shell(script);
            spec["restartPolicy"] = json!("Never");
            node.create(name, spec).await;
            let pod = node.await_pod(name, phase, |pod| pod["status"]["phase"] == phase).await;
            assert_eq!(state(&pod)["terminated"]["exitCode"], json!(if name == "good" { 0 } else { 4 }));
        }
        eventually("the addresses' return", async || node.addresses.given.lock().unwrap().is_empty().then_some(()))
            .await;
        assert_eq!(logs(&node, "good").await, "");
        node.delete("good").await;
        node.await_gone("good").await;
    });
}

#[test]
fn a_command_that_is_not_there_is_named() {
    on_a_node(async |node| {
        node.create("typo", container(json!({"command": ["servr"]}))).await;
        let ended =
            |pod: &Value| pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["reason"] == "StartError";
        let pod = node.await_pod("typo", "refused", ended).await;
        let end = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"];
        assert_eq!(end["exitCode"], 128);
        assert!(
            end["message"].as_str().unwrap().contains("exec: \"servr\": executable file not found in $PATH"),
            "{end}"
        );
        node.await_event("typo", "Failed: Error: ").await;
    });
}

#[test]
fn init_containers_run_one_after_the_other_before_the_rest() {
    on_a_node(async |node| {
        let mut spec = shell("exec sleep 600");
        let marks = node.folder.join("marks");
        let script = |name: &str| format!("sleep 0.1; echo {name} >> {}", marks.display());
        spec["initContainers"] = json!([
            {"name": "one", "image": "cknet-probe", "command": ["/bin/sh", "-c", script("one")]},
            {"name": "side", "image": "cknet-probe", "restartPolicy": "Always", "command": ["/bin/sh", "-c", "exec sleep 600"]},
            {"name": "two", "image": "cknet-probe", "command": ["/bin/sh", "-c", script("two")]},
        ]);
        node.create("ordered", spec).await;
        let first = node.await_pod("ordered", "initializing", |pod| condition(pod, "Initialized") == "False").await;
        assert_eq!(state(&first)["waiting"]["reason"], "PodInitializing");
        let pod = node.await_running("ordered").await;
        assert_eq!(fs::read_to_string(&marks).unwrap(), "one\ntwo\n");
        let init = &pod["status"]["initContainerStatuses"];
        assert_eq!(init[0]["state"]["terminated"]["reason"], "Completed");
        assert_eq!(init[1]["started"], true);
        node.delete("ordered").await;
        node.await_gone("ordered").await;
    });
}

#[test]
fn probes_decide_about_readiness_and_life() {
    on_a_node(async |node| {
        let flag = node.folder.join("flag");
        let test = json!({"exec": {"command": ["test", "-e", flag]}, "periodSeconds": 1, "failureThreshold": 1});
        node.create("picky", container(json!({"readinessProbe": test}))).await;
        node.await_event("picky", "Unhealthy: Readiness probe failed").await;
        let waits = node.pods().get("picky").await.unwrap();
        assert_eq!(condition(&serde_json::to_value(waits).unwrap(), "Ready"), "False");
        fs::write(&flag, "").unwrap();
        node.await_running("picky").await;
        fs::remove_file(&flag).unwrap();
        node.await_pod("picky", "unready", |pod| condition(pod, "ContainersReady") == "False").await;

        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let alive =
            json!({"tcpSocket": {"host": "127.0.0.1", "port": port}, "periodSeconds": 1, "failureThreshold": 1});
        node.create("deaf", container(json!({"livenessProbe": alive}))).await;
        node.await_pod("deaf", "restarted", |pod| pod["status"]["containerStatuses"][0]["restartCount"] == 1).await;
        let event = node.await_event("deaf", "Unhealthy: ").await;
        assert_eq!(
            event,
            format!("Unhealthy: Liveness probe failed: dial tcp 127.0.0.1:{port}: connect: connection refused")
        );
        node.await_event("deaf", "Killing: Container c failed liveness probe, will be restarted").await;
    });
}

#[test]
fn an_http_probe_goes_by_the_status() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    on_a_node(async |node| {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let healthy = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let answers = healthy.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let code = if answers.load(std::sync::atomic::Ordering::Relaxed) { 204 } else { 503 };
                let answer = format!("HTTP/1.1 {code} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let probe =
            json!({"httpGet": {"path": "/readiness", "port": "health", "host": "127.0.0.1"}, "periodSeconds": 1});
        let ports = json!([{"name": "health", "containerPort": port}]);
        node.create("web", container(json!({"readinessProbe": probe, "ports": ports}))).await;
        let event = node.await_event("web", "Unhealthy: ").await;
        assert_eq!(event, "Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 503");
        healthy.store(true, std::sync::atomic::Ordering::Relaxed);
        node.await_running("web").await;
    });
}

#[test]
fn a_network_that_refuses_is_asked_again_and_one_that_hangs_holds_up_nobody_else() {
    on_a_node(async |node| {
        *node.addresses.refused.lock().unwrap() = Some("no address left in the block".into());
        node.create("late", container(json!({}))).await;
        let event = node.await_event("late", "FailedCreatePodSandBox: ").await;
        assert!(event.contains("failed to setup network for sandbox"), "{event}");
        assert!(event.ends_with(": no address left in the block"), "{event}");
        *node.addresses.refused.lock().unwrap() = None;
        node.await_running("late").await;

        *node.addresses.stuck.lock().unwrap() = Some("stuck".into());
        node.create("stuck", container(json!({}))).await;
        node.create("free", container(json!({}))).await;
        node.await_running("free").await;
        let pod = node.await_pod("stuck", "begun", |pod| state(pod)["waiting"]["reason"] == "ContainerCreating").await;
        assert_eq!(condition(&pod, "PodReadyToStartContainers"), "False");
        node.delete("stuck").await;
        node.await_gone("stuck").await;
    });
}

#[test]
fn a_pod_waits_for_the_network_configuration() {
    on_a_node(async |node| {
        fs::remove_file(node.cni_config()).unwrap();
        node.create("early", container(json!({}))).await;
        let event = node.await_event("early", "NetworkNotReady: ").await;
        assert!(event.ends_with("cni plugin not initialized"), "{event}");
        fs::write(node.cni_config(), "{}").unwrap();
        node.await_running("early").await;
    });
}

#[test]
fn ten_pods_start_side_by_side() {
    on_a_node(async |node| {
        node.create("warm", container(json!({}))).await;
        node.await_running("warm").await;
        let begun = Instant::now();
        for number in 0..10 {
            node.create(&format!("p{number}"), container(json!({}))).await;
        }
        for number in 0..10 {
            node.await_running(&format!("p{number}")).await;
        }
        let took = begun.elapsed();
        eprintln!("ten pods running after {took:?}");
        // Far above what it takes, far below what ten pods one after the other with a probe period each would.
        assert!(took < Duration::from_secs(5), "{took:?}");
    });
}
