//! What an object must be to be stored, field by field, in the words of the real server.
//! Pure: gathers every cause; deciding what to do with them is the writer's task.

mod meta;
mod pod;
mod policy;
mod service;
mod workload;

use serde_json::Value;

use super::kinds::Kind;
use super::status::{Cause, Refusal};

/// Refuses an object that is not valid by itself.
pub fn object(kind: &Kind, object: &Value) -> Result<(), Refusal> {
    let mut causes = Vec::new();
    meta::check(kind, object, &mut causes);
    match kind.kind {
        "Pod" => pod::check(&object["spec"], "spec", &mut causes),
        "Service" => service::check(&object["spec"], &mut causes),
        "Deployment" | "ReplicaSet" | "DaemonSet" => workload::check(kind.kind, &object["spec"], &mut causes),
        "NetworkPolicy" if kind.group == "networking.k8s.io" => policy::check(&object["spec"], &mut causes),
        "ConfigMap" => keys(object, &["data", "binaryData"], &mut causes),
        "Secret" => keys(object, &["data"], &mut causes),
        "EndpointSlice" => service::check_slice(object, &mut causes),
        _ => {}
    }
    refuse(kind, object, causes)
}

/// Refuses a change that the kind does not allow.
pub fn change(kind: &Kind, old: &Value, new: &Value) -> Result<(), Refusal> {
    let mut causes = Vec::new();
    meta::check_change(old, new, &mut causes);
    match kind.kind {
        "Pod" => pod::check_change(&old["spec"], &new["spec"], &mut causes),
        "Service" => service::check_change(&old["spec"], &new["spec"], &mut causes),
        "Deployment" | "ReplicaSet" | "DaemonSet" => {
            immutable(&old["spec"]["selector"], &new["spec"]["selector"], "spec.selector", &mut causes)
        }
        "Secret" => immutable(&old["type"], &new["type"], "type", &mut causes),
        "EndpointSlice" => immutable(&old["addressType"], &new["addressType"], "addressType", &mut causes),
        _ => {}
    }
    if matches!(kind.kind, "ConfigMap" | "Secret") && old["immutable"] == true {
        for field in ["immutable", "data", "binaryData"] {
            if old[field] != new[field] {
                causes.push(Cause::forbidden(field, "field is immutable when `immutable` is set"));
            }
        }
    }
    refuse(kind, new, causes)
}

fn refuse(kind: &Kind, object: &Value, causes: Vec<Cause>) -> Result<(), Refusal> {
    if causes.is_empty() {
        return Ok(());
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    Err(Refusal::invalid(kind.group, kind.kind, name, causes))
}

fn immutable(old: &Value, new: &Value, field: &str, causes: &mut Vec<Cause>) {
    if old != new {
        causes.push(Cause::invalid(field, new, "field is immutable"));
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn keys(object: &Value, fields: &[&str], causes: &mut Vec<Cause>) {
    for field in fields {
        for key in object[field].as_object().into_iter().flatten().map(|(key, _)| key) {
            let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if key.is_empty() || key.len() > 253 || !key.chars().all(good) || key == "." || key == ".." {
                let why = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' \
                           (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
                causes.push(Cause::invalid(format!("{field}[{key}]"), &Value::from(key.as_str()), why));
            }
        }
    }
}

/// A port number.
fn port(value: &Value, field: &str, causes: &mut Vec<Cause>) {
    if !value.as_i64().is_some_and(|port| (1..=65535).contains(&port)) {
        causes.push(Cause::invalid(field, value, "must be between 1 and 65535, inclusive"));
    }
}

/// A port number or the name of one.
fn port_or_name(value: &Value, field: &str, causes: &mut Vec<Cause>) {
    match value.as_str() {
        Some(name) => causes.extend(meta::port_name(name).into_iter().map(|why| Cause::invalid(field, value, why))),
        None => port(value, field, causes),
    }
}

fn protocol(value: &Value, field: &str, causes: &mut Vec<Cause>) {
    if value.as_str().is_none_or(str::is_empty) {
        causes.push(Cause::required(field, ""));
    } else if !matches!(value.as_str(), Some("TCP" | "UDP" | "SCTP")) {
        causes.push(Cause::unsupported(field, value, &["TCP", "UDP", "SCTP"]));
    }
}

/// A label selector in an object, with its keys and operators.
fn selector(value: &Value, field: &str, causes: &mut Vec<Cause>) {
    meta::labels(&value["matchLabels"], &format!("{field}.matchLabels"), causes);
    for (index, term) in list(&value["matchExpressions"]).iter().enumerate() {
        let path = format!("{field}.matchExpressions[{index}]");
        let values = list(&term["values"]);
        match term["operator"].as_str().unwrap_or_default() {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                causes.push(Cause::required(format!("{path}.values"), why));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                causes.push(Cause::forbidden(format!("{path}.values"), why));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => {
                let why = "not a valid selector operator";
                causes.push(Cause::invalid(format!("{path}.operator"), &term["operator"], why));
            }
        }
        if let Some(why) = meta::qualified_name(term["key"].as_str().unwrap_or_default()) {
            causes.push(Cause::invalid(format!("{path}.key"), &term["key"], why));
        }
    }
}
