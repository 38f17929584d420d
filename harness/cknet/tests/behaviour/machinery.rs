//! What manifests ask of a kubelet: probes, restarts, containers beside each other, variables.

use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::stand::{AGNHOST, Space, eventually, holds, shared};
use super::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("machinery::who_is_not_ready_is_not_in_its_service", who_is_not_ready_is_not_in_its_service),
        trial("machinery::who_is_not_alive_is_restarted", who_is_not_alive_is_restarted),
        trial("machinery::probes_survive_deny_all", probes_survive_deny_all),
        trial("machinery::init_containers_come_first", init_containers_come_first),
        trial("machinery::variables_tell_who_one_is", variables_tell_who_one_is),
        trial("machinery::a_crashing_container_is_held_back", a_crashing_container_is_held_back),
    ]
}

fn pod(name: &str, spec: Value) -> Value {
    let mut spec = spec;
    spec["terminationGracePeriodSeconds"] = json!(0);
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec})
}

fn endpoints(space: &Space, service: &str) -> usize {
    let slices = space.stand.list(
        ("discovery.k8s.io/v1", "EndpointSlice"),
        &space.name,
        &format!("kubernetes.io/service-name={service}"),
    );
    let endpoints = slices.iter().flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
    endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == json!(true)).count()
}

fn who_is_not_ready_is_not_in_its_service() {
    let space = shared().space("ready");
    space.apply(&pod(
        "web",
        json!({"containers": [{
            "name": "c", "image": AGNHOST, "args": ["netexec", "--http-port=80"],
            "readinessProbe": {"exec": {"command": ["cat", "/tmp/ready"]}, "periodSeconds": 1, "failureThreshold": 1},
        }]}),
    ));
    space.expose("web", ("app", "web"), 80, 80);
    space.run("client", AGNHOST, "", &[], &[]);
    space.await_ready(&["client"]);
    space.await_pod("web", "running", |pod| pod["status"]["phase"] == "Running");
    assert!(!holds(&space.pod("web"), "Ready"));
    let service = format!("{}:80", space.cluster_ip("web"));
    // A service without endpoints refuses.
    space.await_connect("client", &service, "REFUSED");
    assert_eq!(space.sh("web", "touch /tmp/ready").code, 0);
    space.await_ready(&["web"]);
    space.await_connect("client", &service, "allowed");
    assert_eq!(space.sh("web", "rm /tmp/ready").code, 0);
    space.await_pod("web", "not ready", |pod| !holds(pod, "Ready"));
    space.await_connect("client", &service, "REFUSED");
    assert_eq!(endpoints(&space, "web"), 0);
}

fn who_is_not_alive_is_restarted() {
    let space = shared().space("alive");
    let probed = |name: &str, probe: Value| {
        let mut probe = probe;
        (probe["periodSeconds"], probe["failureThreshold"]) = (json!(1), json!(1));
        pod(
            name,
            json!({"containers": [{
                "name": "c", "image": AGNHOST, "args": ["netexec", "--http-port=8080"],
                "ports": [{"name": "web", "containerPort": 8080}],
                "livenessProbe": probe,
            }]}),
        )
    };
    space.apply(&probed("well", json!({"httpGet": {"path": "/healthz", "port": "web"}})));
    space.apply(&probed("missing", json!({"httpGet": {"path": "/echo?code=500&msg=x", "port": 8080}})));
    space.apply(&probed("closed", json!({"tcpSocket": {"port": 81}})));
    let restarts = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].as_i64().unwrap_or_default();
    for name in ["missing", "closed"] {
        space.await_pod(name, "restarted", |pod| restarts(pod) >= 1);
    }
    space.await_ready(&["well"]);
    assert_eq!(restarts(&space.pod("well")), 0);
    eventually("the events say why", || {
        let events = space.stand.list(("v1", "Event"), &space.name, "");
        let said: Vec<&str> = events.iter().filter_map(|event| event["message"].as_str()).collect();
        let all = ["Liveness probe failed: HTTP probe failed with statuscode: 500", "connect: connection refused"];
        let killed = "Container c failed liveness probe, will be restarted";
        match all.iter().chain([&killed]).all(|text| said.iter().any(|said| said.contains(text))) {
            true => Ok(()),
            false => Err(format!("{said:#?}")),
        }
    });
}

fn probes_survive_deny_all() {
    let space = shared().space("probed");
    space.apply(&json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "deny"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    }));
    let probe = json!({"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1, "failureThreshold": 1});
    let tcp = json!({"tcpSocket": {"port": 80}, "periodSeconds": 1, "failureThreshold": 1});
    space.apply(&pod(
        "web",
        json!({"containers": [{"name": "c", "image": "nginx", "readinessProbe": probe, "livenessProbe": tcp,
            "startupProbe": tcp}]}),
    ));
    space.await_ready(&["web"]);
    space.run("client", AGNHOST, "", &[], &[]);
    space.await_ready(&["client"]);
    space.see(&[("client", &format!("{}:80", space.address("web")), "TIMEOUT")]);
    let status = space.pod("web")["status"]["containerStatuses"][0].clone();
    assert_eq!((&status["restartCount"], &status["ready"]), (&json!(0), &json!(true)));
}

fn init_containers_come_first() {
    let space = shared().space("init");
    space.apply(&pod(
        "web",
        json!({
            "initContainers": [{"name": "first", "image": "busybox", "command": ["sh", "-c", "echo made > /tmp/page"]}],
            "containers": [{"name": "c", "image": "busybox", "command": ["sh", "-c", "cat /tmp/page; sleep 3600"]}],
        }),
    ));
    space.await_ready(&["web"]);
    let status = space.pod("web")["status"].clone();
    assert_eq!(status["initContainerStatuses"][0]["state"]["terminated"]["reason"], "Completed");
}

fn variables_tell_who_one_is() {
    let space = shared().space("variables");
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "net"}, "data": {"mode": "vxlan"}});
    space.apply(&map);
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let key = json!({"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "net", "key": "mode"}}});
    space.apply(&pod(
        "one",
        json!({"containers": [{
            "name": "c", "image": "busybox", "args": ["sleep", "3600"],
            "envFrom": [{"configMapRef": {"name": "net"}}],
            "env": [field("IP", "status.podIP"), field("NAME", "metadata.name"), field("SPACE", "metadata.namespace"),
                field("NODE", "spec.nodeName"), key],
        }]}),
    ));
    space.await_ready(&["one"]);
    let known = space.pod("one");
    let told = space.sh("one", "echo $IP $NAME $SPACE $NODE $MODE $mode").out;
    let (address, node) = (known["status"]["podIP"].as_str().unwrap(), known["spec"]["nodeName"].as_str().unwrap());
    // A process that is run beside the container sees the same variables.
    assert_eq!(told, format!("{address} one variables {node} vxlan vxlan\n"));
}

fn a_crashing_container_is_held_back() {
    let space = shared().space("crash");
    space.apply(&pod(
        "bad",
        json!({"containers": [{"name": "c", "image": "busybox", "command": ["sh", "-c", "exit 3"]}]}),
    ));
    let pod = space.await_pod("bad", "held back", |pod| {
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    });
    assert_eq!(pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 3);
}
