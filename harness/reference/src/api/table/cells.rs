//! The rows of every kind but pods.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Columns, since};

pub(super) fn of(columns: Columns, object: &Value, age: Value) -> Vec<Value> {
    let name = object["metadata"]["name"].clone();
    let spec = &object["spec"];
    let status = &object["status"];
    match columns {
        Columns::ConfigMap => vec![name, json!(count(&object["data"]) + count(&object["binaryData"])), age],
        Columns::Secret => vec![name, object["type"].clone(), json!(count(&object["data"])), age],
        Columns::ServiceAccount => vec![name, json!(count(&object["secrets"])), age],
        Columns::Namespace => vec![name, status["phase"].clone(), age],
        Columns::Lease => vec![name, json!(text(&spec["holderIdentity"])), age],
        Columns::NetworkPolicy => vec![name, json!(label_selector(&spec["podSelector"])), age],
        Columns::ServiceCidr => {
            let cidrs: Vec<&str> = list(&spec["cidrs"]).iter().map(text).collect();
            vec![name, json!(cidrs.join(",")), age]
        }
        Columns::Endpoints => vec![name, json!(endpoints(object)), age],
        Columns::EndpointSlice => slice(object, name, age),
        Columns::Node => node(object, name, age),
        Columns::Service => service(object, name, age),
        Columns::Deployment => {
            let ready = format!("{}/{}", number(&status["readyReplicas"]), number(&spec["replicas"]));
            let mut cells =
                vec![name, json!(ready), number(&status["updatedReplicas"]), number(&status["availableReplicas"]), age];
            cells.extend(template(spec));
            cells
        }
        Columns::ReplicaSet => {
            let mut cells = vec![
                name,
                number(&spec["replicas"]),
                number(&status["replicas"]),
                number(&status["readyReplicas"]),
                age,
            ];
            cells.extend(template(spec));
            cells
        }
        Columns::DaemonSet => {
            let mut cells = vec![
                name,
                number(&status["desiredNumberScheduled"]),
                number(&status["currentNumberScheduled"]),
                number(&status["numberReady"]),
                number(&status["updatedNumberScheduled"]),
                number(&status["numberAvailable"]),
                json!(labels(&spec["template"]["spec"]["nodeSelector"])),
                age,
            ];
            cells.extend(template(spec));
            cells
        }
        _ => vec![name, age],
    }
}

fn count(value: &Value) -> usize {
    value.as_object().map(serde_json::Map::len).or_else(|| value.as_array().map(Vec::len)).unwrap_or(0)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn number(value: &Value) -> Value {
    json!(value.as_i64().unwrap_or(0))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn none_if_empty(text: String) -> String {
    if text.is_empty() { "<none>".to_owned() } else { text }
}

fn labels(value: &Value) -> String {
    let pairs = value.as_object().into_iter().flatten();
    let pairs: Vec<String> = pairs.map(|(key, value)| format!("{key}={}", text(value))).collect();
    none_if_empty(pairs.join(","))
}

fn label_selector(selector: &Value) -> String {
    let pairs = selector["matchLabels"].as_object().into_iter().flatten();
    let mut terms: Vec<String> = pairs.map(|(key, value)| format!("{key}={}", text(value))).collect();
    for term in list(&selector["matchExpressions"]) {
        let key = text(&term["key"]);
        let mut values: Vec<&str> = list(&term["values"]).iter().map(text).collect();
        values.sort_unstable();
        terms.push(match text(&term["operator"]) {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    none_if_empty(terms.join(","))
}

fn template(spec: &Value) -> Vec<Value> {
    let containers = list(&spec["template"]["spec"]["containers"]);
    let each = |field: &str| containers.iter().map(|container| text(&container[field])).collect::<Vec<_>>().join(",");
    vec![json!(each("name")), json!(each("image")), json!(label_selector(&spec["selector"]))]
}

/// The first three, and how many more there are.
fn some_of(all: &[String], separator: &str) -> String {
    match all {
        [] => "<unset>".to_owned(),
        few if few.len() <= 3 => few.join(separator),
        many => format!("{} + {} more...", many[..3].join(separator), many.len() - 3),
    }
}

fn endpoints(object: &Value) -> String {
    let mut all = Vec::new();
    for subset in list(&object["subsets"]) {
        let ports = list(&subset["ports"]);
        for address in list(&subset["addresses"]) {
            let ip = text(&address["ip"]);
            if ports.is_empty() {
                all.push(ip.to_owned());
            }
            all.extend(ports.iter().map(|port| format!("{ip}:{}", port["port"])));
        }
    }
    if all.is_empty() { "<none>".to_owned() } else { some_of(&all, ",") }
}

fn slice(object: &Value, name: Value, age: Value) -> Vec<Value> {
    let ports: Vec<String> = list(&object["ports"])
        .iter()
        .map(|port| port["port"].as_i64().map_or_else(|| "*".to_owned(), |port| port.to_string()))
        .collect();
    let addresses: Vec<String> = list(&object["endpoints"])
        .iter()
        .flat_map(|endpoint| list(&endpoint["addresses"]))
        .map(|address| text(address).to_owned())
        .collect();
    vec![name, object["addressType"].clone(), json!(some_of(&ports, ",")), json!(some_of(&addresses, ",")), age]
}

fn node(object: &Value, name: Value, age: Value) -> Vec<Value> {
    let status = &object["status"];
    let ready = list(&status["conditions"]).iter().find(|condition| condition["type"] == "Ready");
    let mut state = match ready {
        Some(condition) if condition["status"] == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if object["spec"]["unschedulable"] == true {
        state.push_str(",SchedulingDisabled");
    }
    let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
    let roles: Vec<&str> = labels
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    let address = |kind: &str| {
        let found = list(&status["addresses"]).iter().find(|address| address["type"] == kind);
        json!(found.map_or("<none>", |address| text(&address["address"])))
    };
    let info = |field: &str| {
        let value = text(&status["nodeInfo"][field]);
        json!(if value.is_empty() { "<unknown>" } else { value })
    };
    vec![
        name,
        json!(state),
        json!(none_if_empty(roles.join(","))),
        age,
        json!(text(&status["nodeInfo"]["kubeletVersion"])),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

fn service(object: &Value, name: Value, age: Value) -> Vec<Value> {
    let spec = &object["spec"];
    let kind = text(&spec["type"]);
    let ports: Vec<String> = list(&spec["ports"])
        .iter()
        .map(|port| match port["nodePort"].as_i64() {
            Some(node_port) if node_port > 0 => {
                format!("{}:{node_port}/{}", port["port"], text(&port["protocol"]))
            }
            _ => format!("{}/{}", port["port"], text(&port["protocol"])),
        })
        .collect();
    let cluster_ip = text(&spec["clusterIP"]).to_owned();
    vec![
        name,
        json!(kind),
        json!(none_if_empty(cluster_ip)),
        json!(external_address(object, kind)),
        json!(none_if_empty(ports.join(","))),
        age,
        json!(labels(&spec["selector"])),
    ]
}

fn external_address(object: &Value, kind: &str) -> String {
    let spec = &object["spec"];
    if kind == "ExternalName" {
        return text(&spec["externalName"]).to_owned();
    }
    let mut all: Vec<&str> = Vec::new();
    if kind == "LoadBalancer" {
        all.extend(list(&object["status"]["loadBalancer"]["ingress"]).iter().map(|ingress| {
            match text(&ingress["ip"]) {
                "" => text(&ingress["hostname"]),
                ip => ip,
            }
        }));
    }
    all.extend(list(&spec["externalIPs"]).iter().map(text));
    match all.is_empty() {
        true if kind == "LoadBalancer" => "<pending>".to_owned(),
        _ => none_if_empty(all.join(",")),
    }
}

pub(super) fn event(object: &Value, now: Timestamp) -> Vec<Value> {
    let last = [&object["series"]["lastObservedTime"], &object["lastTimestamp"], &object["eventTime"]]
        .into_iter()
        .find(|time| time.is_string())
        .unwrap_or(&Value::Null);
    let first = [&object["firstTimestamp"], &object["eventTime"]].into_iter().find(|time| time.is_string());
    let about = &object["involvedObject"];
    let source = match (text(&object["source"]["component"]), text(&object["source"]["host"])) {
        ("", _) => text(&object["reportingComponent"]).to_owned(),
        (component, "") => component.to_owned(),
        (component, host) => format!("{component}, {host}"),
    };
    let count = object["series"]["count"].as_i64().or_else(|| object["count"].as_i64()).filter(|count| *count > 0);
    vec![
        json!(since(last, now)),
        json!(text(&object["type"])),
        json!(text(&object["reason"])),
        json!(format!("{}/{}", text(&about["kind"]).to_lowercase(), text(&about["name"]))),
        json!(text(&about["fieldPath"])),
        json!(source),
        json!(text(&object["message"]).trim()),
        json!(since(first.unwrap_or(&Value::Null), now)),
        json!(count.unwrap_or(1)),
        object["metadata"]["name"].clone(),
    ]
}
