//! The values of fields that were left out, as the real server fills them in.
//! Only what clients rely on; knows nothing of what is valid.

use serde_json::{Map, Value, json};

use super::kinds::Kind;

/// Fills in what `object` leaves out.
pub fn fill(kind: &Kind, object: &mut Value) {
    match kind.kind {
        "Pod" => pod(object),
        "Service" => service(&mut object["spec"]),
        "Deployment" => deployment(object),
        "ReplicaSet" => {
            let labels = object["spec"]["template"]["metadata"]["labels"].clone();
            selector_from_labels(object, &labels);
            let spec = &mut object["spec"];
            put(spec, "replicas", json!(1));
            template(spec);
        }
        "DaemonSet" => daemon_set(&mut object["spec"]),
        "NetworkPolicy" if kind.group == "networking.k8s.io" => network_policy(object),
        "Namespace" => namespace(object),
        "Secret" => secret(object),
        "Endpoints" => endpoints(object),
        "EndpointSlice" => each(object, "ports", |port| {
            put(port, "protocol", json!("TCP"));
            put(port, "name", json!(""));
        }),
        "Node" => put(object, "spec", json!({})),
        _ => {}
    }
}

/// Sets a field that is not there; what is no object has no fields.
fn put(object: &mut Value, key: &str, value: Value) {
    if object.is_null() {
        *object = Value::Object(Map::new());
    }
    if let Value::Object(map) = object
        && map.get(key).is_none_or(Value::is_null)
    {
        map.insert(key.to_owned(), value);
    }
}

fn each(object: &mut Value, list: &str, visit: impl Fn(&mut Value)) {
    if let Some(Value::Array(items)) = object.get_mut(list) {
        items.iter_mut().for_each(visit);
    }
}

fn pod(pod: &mut Value) {
    let spec = &mut pod["spec"];
    put(spec, "enableServiceLinks", json!(true));
    pod_spec(spec);
    // What admission adds on a real cluster: the account, its priority and how long it bears an unready node.
    put(spec, "preemptionPolicy", json!("PreemptLowerPriority"));
    let priority = match spec["priorityClassName"].as_str() {
        Some("system-node-critical") => 2_000_001_000,
        Some("system-cluster-critical") => 2_000_000_000,
        _ => 0,
    };
    put(spec, "priority", json!(priority));
    let account = spec["serviceAccountName"].as_str().or_else(|| spec["serviceAccount"].as_str());
    let account = json!(account.unwrap_or("default"));
    put(spec, "serviceAccountName", account.clone());
    put(spec, "serviceAccount", account);
    tolerate(spec);
    let class = quality_of_service(&pod["spec"]);
    put(pod, "status", json!({}));
    put(&mut pod["status"], "phase", json!("Pending"));
    put(&mut pod["status"], "qosClass", json!(class));
}

fn tolerate(spec: &mut Value) {
    put(spec, "tolerations", json!([]));
    let Some(Value::Array(tolerations)) = spec.get_mut("tolerations") else {
        return;
    };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let effects = |toleration: &Value| toleration["effect"].is_null() || toleration["effect"] == "NoExecute";
        let known = tolerations
            .iter()
            .any(|toleration| (toleration["key"] == key || toleration["key"].is_null()) && effects(toleration));
        if !known {
            tolerations
                .push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}));
        }
    }
}

fn quality_of_service(spec: &Value) -> &'static str {
    let lists = [&spec["containers"], &spec["initContainers"]];
    let containers = || lists.iter().filter_map(|list| list.as_array()).flatten();
    let some =
        |container: &Value, field: &str| container["resources"][field].as_object().is_some_and(|map| !map.is_empty());
    if !containers().any(|container| some(container, "requests") || some(container, "limits")) {
        return "BestEffort";
    }
    let full = |container: &Value| {
        ["cpu", "memory"].iter().all(|name| {
            let limit = &container["resources"]["limits"][name];
            limit.is_string() && *limit == container["resources"]["requests"][name]
        })
    };
    if containers().all(full) { "Guaranteed" } else { "Burstable" }
}

fn pod_spec(spec: &mut Value) {
    put(spec, "restartPolicy", json!("Always"));
    put(spec, "dnsPolicy", json!("ClusterFirst"));
    put(spec, "schedulerName", json!("default-scheduler"));
    put(spec, "terminationGracePeriodSeconds", json!(30));
    put(spec, "securityContext", json!({}));
    let host_network = spec["hostNetwork"] == true;
    for list in ["containers", "initContainers"] {
        each(spec, list, |entry| container(entry, host_network));
    }
    each(spec, "volumes", volume);
}

fn container(container: &mut Value, host_network: bool) {
    put(container, "terminationMessagePath", json!("/dev/termination-log"));
    put(container, "terminationMessagePolicy", json!("File"));
    put(container, "resources", json!({}));
    let image = container["image"].as_str().unwrap_or_default();
    let name = image.rsplit('/').next().unwrap_or_default();
    let latest = !name.contains('@') && name.split_once(':').is_none_or(|(_, tag)| tag == "latest");
    put(container, "imagePullPolicy", json!(if latest { "Always" } else { "IfNotPresent" }));
    each(container, "ports", |port| {
        put(port, "protocol", json!("TCP"));
        if host_network {
            let own = port["containerPort"].clone();
            put(port, "hostPort", own);
        }
    });
    each(container, "env", |env| {
        if env["valueFrom"]["fieldRef"].is_object() {
            put(&mut env["valueFrom"]["fieldRef"], "apiVersion", json!("v1"));
        }
    });
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe).filter(|probe| probe.is_object()) {
            for (field, value) in
                [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
            {
                put(probe, field, json!(value));
            }
            if probe["httpGet"].is_object() {
                put(&mut probe["httpGet"], "path", json!("/"));
                put(&mut probe["httpGet"], "scheme", json!("HTTP"));
            }
        }
    }
    let limits = container["resources"]["limits"].clone();
    if let Some(limits) = limits.as_object() {
        for (name, limit) in limits {
            let resources = &mut container["resources"];
            put(resources, "requests", json!({}));
            put(&mut resources["requests"], name, limit.clone());
        }
    }
}

fn volume(volume: &mut Value) {
    for source in ["configMap", "secret", "projected", "downwardAPI"] {
        if let Some(source) = volume.get_mut(source).filter(|source| source.is_object()) {
            put(source, "defaultMode", json!(420));
        }
    }
    if let Some(path) = volume.get_mut("hostPath").filter(|path| path.is_object()) {
        put(path, "type", json!(""));
    }
    let sources = ["configMap", "secret", "projected", "downwardAPI", "hostPath", "emptyDir"];
    if volume.as_object().is_some_and(|map| map.len() == 1) && sources.iter().all(|source| volume[source].is_null()) {
        put(volume, "emptyDir", json!({}));
    }
}

fn template(spec: &mut Value) {
    put(&mut spec["template"], "metadata", json!({}));
    pod_spec(&mut spec["template"]["spec"]);
}

fn selector_from_labels(object: &mut Value, labels: &Value) {
    if labels.is_object() && object["spec"]["selector"].is_null() {
        put(&mut object["spec"], "selector", json!({ "matchLabels": labels }));
    }
}

fn deployment(object: &mut Value) {
    let spec = &mut object["spec"];
    put(spec, "replicas", json!(1));
    put(spec, "revisionHistoryLimit", json!(10));
    put(spec, "progressDeadlineSeconds", json!(600));
    put(spec, "strategy", json!({}));
    put(&mut spec["strategy"], "type", json!("RollingUpdate"));
    rolling(&mut spec["strategy"], json!("25%"), json!("25%"));
    template(spec);
}

fn daemon_set(spec: &mut Value) {
    put(spec, "revisionHistoryLimit", json!(10));
    put(spec, "updateStrategy", json!({}));
    put(&mut spec["updateStrategy"], "type", json!("RollingUpdate"));
    rolling(&mut spec["updateStrategy"], json!(0), json!(1));
    template(spec);
}

fn rolling(strategy: &mut Value, surge: Value, unavailable: Value) {
    if strategy["type"] == "RollingUpdate" {
        put(strategy, "rollingUpdate", json!({}));
        put(&mut strategy["rollingUpdate"], "maxSurge", surge);
        put(&mut strategy["rollingUpdate"], "maxUnavailable", unavailable);
    }
}

fn service(spec: &mut Value) {
    put(spec, "type", json!("ClusterIP"));
    put(spec, "sessionAffinity", json!("None"));
    if spec["sessionAffinity"] == "ClientIP" {
        put(&mut spec["sessionAffinityConfig"], "clientIP", json!({}));
        put(&mut spec["sessionAffinityConfig"]["clientIP"], "timeoutSeconds", json!(10_800));
    }
    each(spec, "ports", |port| {
        put(port, "protocol", json!("TCP"));
        let own = port["port"].clone();
        put(port, "targetPort", own);
    });
    let kind = spec["type"].as_str().unwrap_or_default().to_owned();
    if kind != "ExternalName" {
        put(spec, "internalTrafficPolicy", json!("Cluster"));
        put(spec, "ipFamilyPolicy", json!("SingleStack"));
    }
    if kind == "NodePort" || kind == "LoadBalancer" {
        put(spec, "externalTrafficPolicy", json!("Cluster"));
    }
    if kind == "LoadBalancer" {
        put(spec, "allocateLoadBalancerNodePorts", json!(true));
    }
}

fn network_policy(object: &mut Value) {
    let spec = &mut object["spec"];
    put(spec, "podSelector", json!({}));
    let egress = spec["egress"].as_array().is_some_and(|rules| !rules.is_empty());
    put(spec, "policyTypes", if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) });
    for direction in ["ingress", "egress"] {
        each(spec, direction, |rule| each(rule, "ports", |port| put(port, "protocol", json!("TCP"))));
    }
}

fn namespace(object: &mut Value) {
    let name = object["metadata"]["name"].clone();
    let meta = &mut object["metadata"];
    put(meta, "labels", json!({}));
    meta["labels"]["kubernetes.io/metadata.name"] = name;
    put(object, "spec", json!({}));
    put(object, "status", json!({}));
    put(&mut object["status"], "phase", json!("Active"));
}

fn secret(object: &mut Value) {
    put(object, "type", json!("Opaque"));
    let Some(plain) = object.as_object_mut().and_then(|map| map.remove("stringData")) else {
        return;
    };
    put(object, "data", json!({}));
    for (key, value) in plain.as_object().into_iter().flatten() {
        let bytes = k8s_openapi::ByteString(value.as_str().unwrap_or_default().as_bytes().to_vec());
        object["data"][key] = serde_json::to_value(bytes).unwrap_or_default();
    }
}

fn endpoints(object: &mut Value) {
    each(object, "subsets", |subset| each(subset, "ports", |port| put(port, "protocol", json!("TCP"))));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use rstest::rstest;

    fn filled(plural: &str, group: &str, mut object: Value) -> Value {
        let index = super::super::kinds::find(group, "v1", plural).unwrap();
        fill(&super::super::kinds::KINDS[index], &mut object);
        object
    }

    #[rstest]
    #[case("nginx", "Always")]
    #[case("nginx:latest", "Always")]
    #[case("localhost:5000/nginx", "Always")]
    #[case("localhost:5000/nginx:1.2", "IfNotPresent")]
    #[case("nginx@sha256:00", "IfNotPresent")]
    fn the_pull_policy_follows_the_tag(#[case] image: &str, #[case] policy: &str) {
        let pod = filled("pods", "", json!({"metadata": {}, "spec": {"containers": [{"name": "c", "image": image}]}}));
        assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], policy);
        assert_eq!(pod["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    }

    #[rstest]
    #[case(json!({"limits": {"cpu": "1", "memory": "1Gi"}}), "Guaranteed")]
    #[case(json!({"requests": {"cpu": "1"}}), "Burstable")]
    #[case(json!({}), "BestEffort")]
    fn limits_decide_the_class_of_a_pod(#[case] resources: Value, #[case] class: &str) {
        let pod = filled(
            "pods",
            "",
            json!({"metadata": {}, "spec": {"containers": [{"name": "c", "resources": resources}]}}),
        );
        assert_eq!(pod["status"]["qosClass"], class);
    }

    #[test]
    fn a_secret_takes_plain_text() {
        let secret = filled("secrets", "", json!({"metadata": {}, "stringData": {"a": "hello"}}));
        assert_eq!(secret["data"], json!({"a": "aGVsbG8="}));
        assert_eq!(secret.get("stringData"), None);
    }
}
