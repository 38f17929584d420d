//! Services and pods in, slices and Endpoints out.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use serde_json::{Value, json};

fn service(spec: Value) -> Arc<Service> {
    let mut value = json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "s", "labels": {"tier": "front"}},
        "spec": {"selector": {"app": "web"}, "clusterIP": "10.0.0.1",
            "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    });
    for (key, new) in spec.as_object().unwrap() {
        value["spec"][key] = new.clone();
    }
    Arc::new(serde_json::from_value(value).unwrap())
}

fn pod(name: &str, address: &str, port: i32, ready: bool) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "shop", "uid": name, "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": port}]}]},
        "status": {"phase": "Running", "podIP": address,
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    }))
    .unwrap()
}

struct Outcome {
    slices: Vec<EndpointSlice>,
    endpoints: Vec<Endpoints>,
}

/// What a fresh namespace gets; and that a second look changes nothing.
fn outcome(service: &Arc<Service>, pods: Vec<Pod>) -> Outcome {
    let pods: Vec<_> = pods.into_iter().map(Arc::new).collect();
    let mut outcome = Outcome { slices: Vec::new(), endpoints: Vec::new() };
    for action in decide(std::slice::from_ref(service), &pods, &[], &[], Timestamp::UNIX_EPOCH) {
        match action {
            Action::CreateSlice(slice) => outcome.slices.push(*slice),
            Action::CreateEndpoints(endpoints) => outcome.endpoints.push(*endpoints),
            other => panic!("{other:?}"),
        }
    }
    let slices: Vec<_> = outcome.slices.iter().cloned().map(Arc::new).collect();
    let endpoints: Vec<_> = outcome.endpoints.iter().cloned().map(Arc::new).collect();
    assert_eq!(decide(std::slice::from_ref(service), &pods, &slices, &endpoints, Timestamp::now()), []);
    outcome
}

fn conditions(slice: &EndpointSlice) -> Vec<(bool, bool, bool)> {
    let all = slice.endpoints.iter().map(|endpoint| endpoint.conditions.clone().unwrap());
    all.map(|c| (c.ready.unwrap(), c.serving.unwrap(), c.terminating.unwrap())).collect()
}

fn ending(mut pod: Pod) -> Pod {
    pod.metadata.deletion_timestamp = serde_json::from_value(json!("2026-11-23T09:00:00Z")).unwrap();
    pod
}

#[test]
fn a_slice_looks_like_a_recorded_one() {
    let outcome =
        outcome(&service(json!({})), vec![pod("b", "10.1.0.9", 8080, true), pod("a", "10.1.0.10", 8080, false)]);
    let slice = serde_json::to_value(&outcome.slices[0]).unwrap();
    assert_eq!(slice["addressType"], "IPv4");
    assert_eq!(slice["ports"], json!([{"name": "http", "port": 8080, "protocol": "TCP"}]));
    assert_eq!(
        slice["endpoints"][0],
        json!({
        "addresses": ["10.1.0.9"], "conditions": {"ready": true, "serving": true, "terminating": false},
        "nodeName": "n1", "targetRef": {"kind": "Pod", "name": "b", "namespace": "shop", "uid": "b"}})
    );
    assert_eq!(slice["endpoints"][1]["conditions"]["ready"], false);
    assert_eq!(
        slice["metadata"]["labels"],
        json!({"tier": "front", "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"})
    );
    assert_eq!(slice["metadata"]["ownerReferences"][0]["uid"], "s");
    let name = slice["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("web-") && name.len() == 9, "{name}");
    let endpoints = serde_json::to_value(&outcome.endpoints[0]).unwrap();
    assert_eq!(endpoints["metadata"]["name"], "web");
    assert_eq!(endpoints["subsets"][0]["addresses"][0]["ip"], "10.1.0.9");
    assert_eq!(endpoints["subsets"][0]["notReadyAddresses"][0]["ip"], "10.1.0.10");
    assert_eq!(endpoints["subsets"][0]["ports"], json!([{"name": "http", "port": 8080, "protocol": "TCP"}]));
}

#[test]
fn a_named_port_may_be_another_number_on_each_pod() {
    let outcome =
        outcome(&service(json!({})), vec![pod("a", "10.1.0.1", 8080, true), pod("b", "10.1.0.2", 9090, true)]);
    let ports: Vec<_> = outcome.slices.iter().map(|slice| slice.ports.as_ref().unwrap()[0].port.unwrap()).collect();
    assert_eq!(ports, [8080, 9090]);
    assert_ne!(outcome.slices[0].metadata.name, outcome.slices[1].metadata.name);
    assert_eq!(outcome.endpoints[0].subsets.as_ref().unwrap().len(), 2);
}

#[test]
fn a_pod_on_its_way_out_serves_but_is_not_ready() {
    let outcome = outcome(&service(json!({})), vec![ending(pod("a", "10.1.0.1", 80, true))]);
    assert_eq!(conditions(&outcome.slices[0]), [(false, true, true)]);
    assert_eq!(outcome.endpoints[0].subsets, Some(vec![]));
}

#[test]
fn unready_addresses_are_published_when_asked_for() {
    let service = service(json!({"publishNotReadyAddresses": true}));
    let outcome = outcome(&service, vec![pod("a", "10.1.0.1", 80, false), ending(pod("b", "10.1.0.2", 80, false))]);
    assert_eq!(conditions(&outcome.slices[0]), [(true, true, false), (true, true, true)]);
}

#[test]
fn who_is_not_meant() {
    let mut unlabelled = pod("a", "10.1.0.1", 80, true);
    unlabelled.metadata.labels = None;
    let mut finished = pod("b", "10.1.0.2", 80, true);
    finished.status.as_mut().unwrap().phase = Some("Succeeded".to_owned());
    let mut elsewhere = pod("c", "10.1.0.3", 80, true);
    elsewhere.metadata.namespace = Some("other".to_owned());
    let mut addressless = pod("d", "", 80, true);
    addressless.status.as_mut().unwrap().pod_ip = None;
    let outcome = outcome(&service(json!({})), vec![unlabelled, finished, elsewhere, addressless]);
    assert_eq!(outcome.slices.len(), 1, "an empty slice shows that there is nobody");
    assert!(outcome.slices[0].endpoints.is_empty());
}

#[test]
fn services_without_selector_are_left_alone() {
    for spec in [json!({"selector": null}), json!({"selector": {}}), json!({"type": "ExternalName"})] {
        let outcome = outcome(&service(spec), vec![pod("a", "10.1.0.1", 80, true)]);
        assert!(outcome.slices.is_empty() && outcome.endpoints.is_empty());
    }
}

#[test]
fn headless_services_name_their_pods() {
    let mut named = pod("a", "10.1.0.1", 80, true);
    let spec = named.spec.as_mut().unwrap();
    (spec.hostname, spec.subdomain) = (Some("first".to_owned()), Some("web".to_owned()));
    let outcome = outcome(&service(json!({"clusterIP": "None", "ports": null})), vec![named]);
    let slice = &outcome.slices[0];
    assert_eq!(slice.endpoints[0].hostname.as_deref(), Some("first"));
    assert_eq!(slice.metadata.labels.as_ref().unwrap()[HEADLESS], "");
    assert_eq!(slice.ports, Some(vec![]));
}

#[test]
fn a_change_updates_the_slice_in_place() {
    let service = service(json!({}));
    let before = outcome(&service, vec![pod("a", "10.1.0.1", 80, true)]);
    let slices: Vec<_> = before.slices.into_iter().map(Arc::new).collect();
    let endpoints: Vec<_> = before.endpoints.into_iter().map(Arc::new).collect();
    let pods = [Arc::new(pod("a", "10.1.0.1", 80, false))];
    let actions = decide(&[service], &pods, &slices, &endpoints, Timestamp::now());
    let [Action::ReplaceSlice(slice), Action::ReplaceEndpoints(old)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(slice.metadata.name, slices[0].metadata.name);
    assert_eq!(conditions(slice), [(false, false, false)]);
    assert!(old.subsets.as_ref().unwrap()[0].addresses.is_none());
}

#[test]
fn endpoints_go_with_their_service_but_not_those_of_others() {
    let gone = outcome(&service(json!({})), vec![]).endpoints.remove(0);
    let mut foreign = gone.clone();
    foreign.metadata.name = Some("kubernetes".to_owned());
    foreign.metadata.labels = None;
    let actions = decide(&[], &[], &[], &[Arc::new(gone.clone()), Arc::new(foreign)], Timestamp::now());
    assert_eq!(actions, [Action::DeleteEndpoints(Box::new(gone))]);
}
