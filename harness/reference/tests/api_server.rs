//! How the API server behaves: watches, conflicts, deletion, allocation, limits, and the `kube` client against it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod api_support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use api_support::{Server, TOKEN, whole};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Node, Pod};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use rstest::rstest;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";

fn map(name: &str, labels: Value) -> Value {
    json!({"metadata": {"name": name, "labels": labels}, "data": {"a": "1"}})
}

fn pod(name: &str, node: Option<&str>) -> Value {
    let mut pod = json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "x"}]}});
    if let Some(node) = node {
        pod["spec"]["nodeName"] = json!(node);
    }
    pod
}

fn service(name: &str, spec: Value) -> Value {
    let mut service = json!({"metadata": {"name": name}, "spec": spec});
    if service["spec"]["ports"].is_null() {
        service["spec"]["ports"] = json!([{"port": 80}]);
    }
    service
}

#[tokio::test]
async fn a_watch_with_a_selector_sees_objects_come_and_go_by_it() {
    let server = Server::start();
    let start = server.get(MAPS).await.body["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut watch = server.watch(&format!("{MAPS}?watch=1&resourceVersion={start}&labelSelector=on%3Dyes")).await;
    server.post(MAPS, &map("one", json!({}))).await;
    server.post(MAPS, &map("two", json!({"on": "yes"}))).await;
    server.merge(&format!("{MAPS}/one"), &json!({"metadata": {"labels": {"on": "yes"}}})).await;
    server.merge(&format!("{MAPS}/one"), &json!({"data": {"a": "2"}})).await;
    server.merge(&format!("{MAPS}/one"), &json!({"metadata": {"labels": {"on": "no"}}})).await;
    server.delete(&format!("{MAPS}/two")).await;
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push(watch.told().await);
    }
    assert_eq!(seen, ["ADDED two", "ADDED one", "MODIFIED one", "DELETED one", "DELETED two"]);
}

#[tokio::test]
async fn a_watch_without_a_version_begins_with_what_is_there() {
    let server = Server::start();
    server.post(MAPS, &map("one", json!({}))).await;
    let mut watch = server.watch(&format!("{MAPS}?watch=1&fieldSelector=metadata.name%3Done")).await;
    assert_eq!(watch.told().await, "ADDED one");
    let path = format!(
        "{MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&fieldSelector=metadata.name%3Done"
    );
    let mut list = server.watch(&path).await;
    assert_eq!(list.told().await, "ADDED one");
    let mark = list.next().await.unwrap();
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
}

#[tokio::test]
async fn a_watch_ends_when_its_time_is_over() {
    let server = Server::start();
    let began = Instant::now();
    let mut watch = server.watch("/api/v1/nodes?watch=1&timeoutSeconds=1").await;
    assert!(watch.next().await.is_none());
    assert!(began.elapsed() >= Duration::from_millis(900));
}

#[tokio::test]
async fn a_watch_from_before_the_history_is_told_so() {
    let server = Server::start();
    server.post(MAPS, &map("one", json!({}))).await;
    for turn in 0..4200 {
        // Writing through one kind only pushes out that kind's history.
        if turn % 100 == 0 {
            tokio::task::yield_now().await;
        }
        server_write(&server, turn).await;
    }
    let mut watch = server.watch(&format!("{MAPS}?watch=1&resourceVersion=3")).await;
    let event = watch.next().await.unwrap();
    assert_eq!((event["type"].as_str(), event["object"]["code"].as_i64()), (Some("ERROR"), Some(410)));
    assert!(watch.next().await.is_none());
    let mut other = server.watch("/api/v1/nodes?watch=1&resourceVersion=3&timeoutSeconds=1").await;
    assert!(other.next().await.is_none());
}

thread_local! {
    static CONNECTION: std::cell::RefCell<Option<hyper::client::conn::http1::SendRequest<http_body_util::Full<hyper::body::Bytes>>>> =
        const { std::cell::RefCell::new(None) };
}

/// One write over a connection that is kept, so that thousands take seconds.
async fn server_write(server: &Server, turn: u32) {
    let mut connection = match CONNECTION.take() {
        Some(connection) => connection,
        None => server.connect().await,
    };
    let body = json!({"data": {"a": turn.to_string()}}).to_string();
    let request = hyper::Request::builder()
        .method("PATCH")
        .uri(format!("{MAPS}/one"))
        .header("host", "localhost")
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-type", "application/merge-patch+json")
        .body(http_body_util::Full::new(hyper::body::Bytes::from(body)))
        .unwrap();
    connection.ready().await.unwrap();
    let answer = whole(connection.send_request(request).await.unwrap()).await;
    assert_eq!(answer.code, 200, "{}", answer.text);
    CONNECTION.set(Some(connection));
}

#[tokio::test]
async fn pages_are_one_consistent_list() {
    let server = Server::start();
    for name in ["a", "b", "c", "d"] {
        server.post(MAPS, &map(name, json!({"page": "yes"}))).await;
    }
    let first = server.get(&format!("{MAPS}?limit=2&labelSelector=page")).await.body;
    let names = |list: &Value| -> Vec<String> {
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&first), ["a", "b"]);
    server.delete(&format!("{MAPS}/c")).await;
    server.post(MAPS, &map("bb", json!({"page": "yes"}))).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = server.get(&format!("{MAPS}?limit=2&labelSelector=page&continue={token}")).await.body;
    assert_eq!(names(&second), ["c", "d"], "the list as it was when it began");
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert!(second["metadata"]["continue"].is_null());
}

#[tokio::test]
async fn a_write_that_changes_nothing_makes_no_version() {
    let server = Server::start();
    let created = server.post(MAPS, &map("one", json!({}))).await.body;
    let again = server.put(&format!("{MAPS}/one"), &created).await;
    assert_eq!(again.body["metadata"]["resourceVersion"], created["metadata"]["resourceVersion"]);
    let stale = created.clone();
    server.merge(&format!("{MAPS}/one"), &json!({"data": {"a": "2"}})).await;
    assert_eq!(server.put(&format!("{MAPS}/one"), &stale).await.code, 409);
    let dry = server.merge(&format!("{MAPS}/one?dryRun=All"), &json!({"data": {"a": "3"}})).await;
    assert_eq!(dry.body["data"]["a"], "3");
    assert_eq!(server.get(&format!("{MAPS}/one")).await.body["data"]["a"], "2");
}

#[tokio::test]
async fn a_bound_pod_stays_until_its_kubelet_lets_it_go() {
    let server = Server::start();
    server.post(PODS, &pod("free", None)).await;
    assert_eq!(server.delete(&format!("{PODS}/free")).await.code, 200);
    assert_eq!(server.get(&format!("{PODS}/free")).await.code, 404);
    server.post(PODS, &pod("bound", None)).await;
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "bound"}, "target": {"kind": "Node", "name": "n1"}});
    assert_eq!(server.post(&format!("{PODS}/bound/binding"), &binding).await.code, 201);
    assert_eq!(server.post(&format!("{PODS}/bound/binding"), &binding).await.code, 409);
    let going = server.delete(&format!("{PODS}/bound")).await.body;
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 30);
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(server.get(&format!("{PODS}/bound")).await.body["spec"]["nodeName"], "n1");
    let shorter = server.delete(&format!("{PODS}/bound?gracePeriodSeconds=5")).await.body;
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    server.delete(&format!("{PODS}/bound?gracePeriodSeconds=0")).await;
    assert_eq!(server.get(&format!("{PODS}/bound")).await.code, 404);
}

#[tokio::test]
async fn finalizers_hold_an_object() {
    let server = Server::start();
    let mut held = map("held", json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    server.post(MAPS, &held).await;
    assert!(server.delete(&format!("{MAPS}/held")).await.body["metadata"]["deletionTimestamp"].is_string());
    let more = server
        .merge(&format!("{MAPS}/held"), &json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}}))
        .await;
    assert_eq!(more.code, 422, "{}", more.text);
    server.merge(&format!("{MAPS}/held"), &json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(server.get(&format!("{MAPS}/held")).await.code, 404);
}

#[tokio::test]
async fn a_namespace_goes_once_it_is_finalized() {
    let server = Server::start();
    let created = server.post("/api/v1/namespaces", &json!({"metadata": {"name": "a"}})).await.body;
    assert_eq!(created["metadata"]["labels"]["kubernetes.io/metadata.name"], "a");
    assert_eq!(server.get("/api/v1/namespaces/a/serviceaccounts/default").await.code, 200);
    let authority = server.get("/api/v1/namespaces/a/configmaps/kube-root-ca.crt").await.body;
    assert!(authority["data"]["ca.crt"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
    let going = server.delete("/api/v1/namespaces/a").await.body;
    assert_eq!(going["status"]["phase"], "Terminating");
    let late = server.post("/api/v1/namespaces/a/configmaps", &map("late", json!({}))).await;
    assert_eq!(late.code, 403);
    assert!(
        late.body["message"]
            .as_str()
            .unwrap()
            .ends_with("unable to create new content in namespace a because it is being terminated")
    );
    let mut done = going.clone();
    done["spec"] = json!({});
    assert_eq!(server.put("/api/v1/namespaces/a/finalize", &done).await.code, 200);
    assert_eq!(server.get("/api/v1/namespaces/a").await.code, 404);
    assert_eq!(server.post("/api/v1/namespaces/a/configmaps", &map("late", json!({}))).await.code, 404);
}

#[tokio::test]
async fn services_get_addresses_and_ports_of_their_own() {
    let server = Server::start();
    let first = server.get(&format!("{SERVICES}/kubernetes")).await.body;
    assert_eq!(first["spec"]["clusterIP"], "10.252.0.1");
    let mut addresses = BTreeSet::new();
    let mut ports = BTreeSet::new();
    for turn in 0..40 {
        let made = server.post(SERVICES, &service(&format!("s{turn}"), json!({"type": "NodePort"}))).await.body;
        assert!(addresses.insert(made["spec"]["clusterIP"].as_str().unwrap().to_owned()));
        let port = made["spec"]["ports"][0]["nodePort"].as_i64().unwrap();
        assert!((30_000..=32_767).contains(&port) && ports.insert(port));
        assert_eq!(made["spec"]["ports"][0]["targetPort"], 80);
    }
    assert!(!addresses.contains("10.252.0.10") && !addresses.contains("10.252.0.1"));
    let dns = server.post(SERVICES, &service("dns", json!({"clusterIP": "10.252.0.10"}))).await;
    assert_eq!(dns.code, 201, "{}", dns.text);
    let taken = server.post(SERVICES, &service("taken", json!({"clusterIP": "10.252.0.10"}))).await;
    assert_eq!(taken.code, 422);
    assert!(
        taken.body["message"]
            .as_str()
            .unwrap()
            .contains("failed to allocate IP 10.252.0.10: provided IP is already allocated")
    );
    let outside = server.post(SERVICES, &service("outside", json!({"clusterIP": "10.9.0.10"}))).await;
    let why = "failed to allocate IP 10.9.0.10: the provided network does not match the current range";
    assert!(outside.body["message"].as_str().unwrap().contains(why), "{}", outside.text);
    let tried =
        server.post(&format!("{SERVICES}?dryRun=All"), &service("outside", json!({"clusterIP": "10.9.0.10"}))).await;
    let why = "not in the valid range. The range of valid IPs is 10.252.0.0/16";
    assert!(tried.body["message"].as_str().unwrap().contains(why), "{}", tried.text);
    let headless = server.post(SERVICES, &service("headless", json!({"clusterIP": "None"}))).await.body;
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    let moved = server
        .merge(
            &format!("{SERVICES}/dns"),
            &json!({"spec": {"clusterIP": "10.252.0.11", "clusterIPs": ["10.252.0.11"]}}),
        )
        .await;
    assert_eq!(moved.code, 422, "{}", moved.text);
    // An update that leaves the address out keeps it.
    let kept = server.put(&format!("{SERVICES}/dns"), &service("dns", json!({"selector": {"a": "b"}}))).await.body;
    assert_eq!(kept["spec"]["clusterIP"], "10.252.0.10");
}

#[tokio::test]
async fn the_block_of_service_addresses_is_told_and_not_written() {
    const CIDRS: &str = "/apis/networking.k8s.io/v1/servicecidrs";
    let server = Server::start();
    let told = server.get(CIDRS).await.body;
    assert_eq!(told["kind"], "ServiceCIDRList");
    assert_eq!(told["items"].as_array().unwrap().len(), 1, "{told}");
    let one = server.get(&format!("{CIDRS}/kubernetes")).await.body;
    assert_eq!(one["spec"]["cidrs"], json!(["10.252.0.0/16"]));
    let ready = &one["status"]["conditions"][0];
    assert_eq!((&ready["type"], &ready["status"]), (&json!("Ready"), &json!("True")));
    let bearer = format!("Bearer {TOKEN}");
    let form = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io"), ("authorization", bearer.as_str())];
    let table = whole(server.send("GET", CIDRS, &form, b"").await).await.body;
    let columns: Vec<&Value> = table["columnDefinitions"].as_array().unwrap().iter().map(|c| &c["name"]).collect();
    assert_eq!(columns, ["Name", "CIDRs", "Age"]);
    assert_eq!(table["rows"][0]["cells"][1], "10.252.0.0/16");
    let more = json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.253.0.0/24"]}});
    for refused in [server.post(CIDRS, &more).await, server.delete(&format!("{CIDRS}/kubernetes")).await] {
        assert_eq!(refused.code, 405, "{}", refused.text);
    }
}

#[rstest]
#[case::pod_without_containers(PODS, json!({"metadata": {"name": "x"}, "spec": {}}), "spec.containers: Required value")]
#[case::two_of_a_name(PODS, json!({"metadata": {"name": "x"}, "spec": {"containers": [{"name": "c", "image": "x"}, {"name": "c", "image": "x"}]}}), "spec.containers[1].name: Duplicate value: \"c\"")]
#[case::bad_port(PODS, json!({"metadata": {"name": "x"}, "spec": {"containers": [{"name": "c", "image": "x", "ports": [{"containerPort": 70000}]}]}}), "must be between 1 and 65535")]
#[case::service_without_ports(SERVICES, json!({"metadata": {"name": "x"}, "spec": {"ports": []}}), "spec.ports: Required value")]
#[case::unnamed_ports(SERVICES, json!({"metadata": {"name": "x"}, "spec": {"ports": [{"port": 1}, {"port": 2}]}}), "spec.ports[0].name: Required value")]
#[case::bad_label(MAPS, json!({"metadata": {"name": "x", "labels": {"a": "-"}}}), "metadata.labels: Invalid value: \"-\"")]
#[case::no_name(MAPS, json!({"metadata": {}}), "name or generateName is required")]
#[case::selector_and_labels("/apis/apps/v1/namespaces/default/deployments", json!({"metadata": {"name": "x"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
    "template": {"metadata": {"labels": {"a": "c"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}}}), "`selector` does not match template `labels`")]
#[tokio::test]
async fn objects_that_make_no_sense_are_refused(#[case] path: &str, #[case] body: Value, #[case] expected: &str) {
    let server = Server::start();
    let answer = server.post(path, &body).await;
    assert_eq!(answer.code, 422, "{}", answer.text);
    assert!(answer.body["message"].as_str().unwrap().contains(expected), "{}", answer.text);
}

#[tokio::test]
async fn what_is_fixed_stays_fixed() {
    let server = Server::start();
    server.post(PODS, &pod("one", None)).await;
    let patch = json!({"spec": {"containers": [{"name": "c", "image": "y"}]}}).to_string();
    let image = server.ask("PATCH", &format!("{PODS}/one"), "application/strategic-merge-patch+json", &patch).await;
    assert_eq!(image.code, 200, "{}", image.text);
    assert_eq!(image.body["metadata"]["generation"], 2);
    let name = server.merge(&format!("{PODS}/one"), &json!({"spec": {"hostNetwork": true}})).await;
    assert!(
        name.body["message"].as_str().unwrap().contains("spec: Forbidden: pod updates may not change fields"),
        "{}",
        name.text
    );
    let status = server.merge(&format!("{PODS}/one"), &json!({"status": {"phase": "Running"}})).await;
    assert_eq!(status.body["status"]["phase"], "Pending", "status has its own door");
    let status = server
        .merge(&format!("{PODS}/one/status"), &json!({"status": {"phase": "Running"}, "spec": {"nodeName": "x"}}))
        .await;
    assert_eq!((&status.body["status"]["phase"], &status.body["spec"]["nodeName"]), (&json!("Running"), &Value::Null));
    assert_eq!(status.body["metadata"]["generation"], 2);
    let fields: Vec<&Value> =
        status.body["metadata"]["managedFields"].as_array().unwrap().iter().map(|entry| &entry["fieldsV1"]).collect();
    assert_eq!(fields[1..], [&json!({"f:status": {"f:phase": {}}})], "each door owns what it writes");
    assert!(fields[0]["f:status"].is_null());
}

#[tokio::test]
async fn bodies_have_limits_and_nonsense_is_answered() {
    let server = Server::start();
    let large = json!({"metadata": {"name": "x"}, "data": {"a": "x".repeat(3 << 20)}});
    let answer = server.post(MAPS, &large).await;
    assert_eq!(
        (answer.code, answer.body["message"].as_str()),
        (413, Some("Request entity too large: limit is 3145728"))
    );
    for body in [
        "[]",
        "7",
        "null",
        "\"x\"",
        "{\"metadata\":7}",
        "{\"metadata\":{\"labels\":[]}}",
        "{\"data\":{\"a\":1},\"metadata\":{\"name\":\"x\"}}",
    ] {
        let answer = server.ask("POST", MAPS, "application/json", body).await;
        assert_eq!(answer.code, 400, "{body}: {}", answer.text);
    }
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    assert_eq!(server.ask("POST", MAPS, "application/json", &deep).await.code, 400);
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/yaml")];
    assert_eq!(whole(server.send("POST", MAPS, &headers, b"\xff\xfe\x00").await).await.code, 400);
    for patch in ["[]", "7", "{\"metadata\":null}", "{\"metadata\":7}", "{\"kind\":\"Pod\"}"] {
        server.post(MAPS, &map("one", json!({}))).await;
        for media in [
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
            "application/json-patch+json",
            "application/apply-patch+yaml",
        ] {
            let answer = server.ask("PATCH", &format!("{MAPS}/one?fieldManager=t"), media, patch).await;
            assert!(answer.code < 500, "{media} {patch}: {}", answer.text);
        }
    }
    assert_eq!(server.get("/readyz").await.text, "ok");
}

#[tokio::test]
async fn what_is_no_tls_and_what_is_no_http_harms_nobody() {
    let server = Server::start();
    let mut raw = TcpStream::connect(server.address).await.unwrap();
    raw.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut left = Vec::new();
    let _ = raw.read_to_end(&mut left).await;
    let silent = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(server.get("/version").await.code, 200);
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_watches_see_the_same() {
    let server = Server::start();
    let mut watches = Vec::new();
    for _ in 0..1000 {
        watches.push(server.watch(&format!("{PODS}?watch=1&resourceVersion=0")).await);
    }
    let began = Instant::now();
    server.post(PODS, &pod("one", None)).await;
    let wrote = began.elapsed();
    for watch in &mut watches {
        assert_eq!(watch.told().await, "ADDED one");
    }
    assert!(wrote < Duration::from_secs(2), "a write waited for its watchers: {wrote:?}");
}

#[tokio::test]
async fn the_kube_client_is_at_home() {
    let server = Server::start();
    let client = server.client().await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    assert_eq!(namespaces.list(&ListParams::default()).await.unwrap().items.len(), 4);
    let discovery = kube::Discovery::new(client.clone()).run_aggregated().await.unwrap();
    assert!(discovery.has_group("crd.projectcalico.org"));
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let stream = watcher(maps.clone(), watcher::Config::default().streaming_lists()).applied_objects();
    let mut stream = std::pin::pin!(stream);
    let first = stream.next().await.unwrap().unwrap();
    assert_eq!(first.metadata.name.as_deref(), Some("kube-root-ca.crt"));
    let apply = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1"}});
    maps.patch("c", &PatchParams::apply("t").force(), &Patch::Apply(&apply)).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().data.unwrap()["a"], "1");
    let nodes: Api<Node> = Api::all(client.clone());
    let node: Node = serde_json::from_value(json!({"metadata": {"name": "n1"}, "status": {"phase": "x"}})).unwrap();
    assert_eq!(nodes.create(&PostParams::default(), &node).await.unwrap().status.unwrap().phase.as_deref(), Some("x"));
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    assert!(matches!(pods.get("nope").await, Err(kube::Error::Api(status)) if status.code == 404));
}

#[tokio::test]
async fn events_are_the_same_by_both_faces() {
    let server = Server::start();
    let event = json!({"metadata": {"name": "e"}, "eventTime": "2026-01-01T00:00:00.000000Z", "note": "it happened", "reason": "Because",
        "type": "Normal", "action": "x", "reportingController": "c", "reportingInstance": "i",
        "regarding": {"kind": "Pod", "namespace": "default", "name": "p", "uid": "u"}});
    let made = server.post("/apis/events.k8s.io/v1/namespaces/default/events", &event).await;
    assert_eq!(made.code, 201, "{}", made.text);
    assert_eq!(made.body["note"], "it happened");
    let client = server.client().await;
    let events: Api<Event> = Api::namespaced(client, "default");
    let found = events.list(&ListParams::default().fields("involvedObject.uid=u")).await.unwrap();
    assert_eq!(found.items[0].message.as_deref(), Some("it happened"));
}
