//! Pods and pod templates: containers, their ports and volumes, and what of a pod may change.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::status::Cause;
use super::meta::{label, port_name, qualified_name};
use super::{list, port, port_or_name, protocol};

pub(super) fn check(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    let volumes = volumes(&spec["volumes"], path, causes);
    if list(&spec["containers"]).is_empty() {
        causes.push(Cause::required(format!("{path}.containers"), ""));
    }
    let mut names = BTreeSet::new();
    for field in ["initContainers", "containers"] {
        for (index, container) in list(&spec[field]).iter().enumerate() {
            let path = format!("{path}.{field}[{index}]");
            check_container(container, &path, &volumes, causes);
            let name = container["name"].as_str().unwrap_or_default();
            if !name.is_empty() && !names.insert(name) {
                causes.push(Cause::duplicate(format!("{path}.name"), &container["name"]));
            }
        }
    }
    one_of(&spec["restartPolicy"], &format!("{path}.restartPolicy"), &["Always", "OnFailure", "Never"], causes);
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    one_of(&spec["dnsPolicy"], &format!("{path}.dnsPolicy"), &policies, causes);
    if spec["dnsPolicy"] == "None" && list(&spec["dnsConfig"]["nameservers"]).is_empty() {
        let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        causes.push(Cause::required(format!("{path}.dnsConfig.nameservers"), why));
    }
    let grace = &spec["terminationGracePeriodSeconds"];
    if grace.as_i64().is_some_and(|seconds| seconds < 0) {
        causes.push(Cause::invalid(
            format!("{path}.terminationGracePeriodSeconds"),
            grace,
            "must be greater than or equal to 0",
        ));
    }
    for field in ["hostname", "subdomain"] {
        if let Some(rule) = spec[field].as_str().filter(|text| !text.is_empty()).and_then(label) {
            causes.push(Cause::invalid(format!("{path}.{field}"), &spec[field], rule));
        }
    }
    tolerations(&spec["tolerations"], &format!("{path}.tolerations"), causes);
}

fn one_of(value: &Value, field: &str, allowed: &[&str], causes: &mut Vec<Cause>) {
    if let Some(word) = value.as_str()
        && !allowed.contains(&word)
    {
        causes.push(Cause::unsupported(field, value, allowed));
    }
}

fn volumes<'a>(value: &'a Value, path: &str, causes: &mut Vec<Cause>) -> BTreeSet<&'a str> {
    let mut names = BTreeSet::new();
    for (index, volume) in list(value).iter().enumerate() {
        let field = format!("{path}.volumes[{index}].name");
        match volume["name"].as_str() {
            None | Some("") => causes.push(Cause::required(field, "")),
            Some(name) => {
                if let Some(why) = label(name) {
                    causes.push(Cause::invalid(field.clone(), &volume["name"], why));
                }
                if !names.insert(name) {
                    causes.push(Cause::duplicate(field, &volume["name"]));
                }
            }
        }
    }
    names
}

fn check_container(container: &Value, path: &str, volumes: &BTreeSet<&str>, causes: &mut Vec<Cause>) {
    match container["name"].as_str() {
        None | Some("") => causes.push(Cause::required(format!("{path}.name"), "")),
        Some(name) => {
            causes.extend(label(name).map(|why| Cause::invalid(format!("{path}.name"), &container["name"], why)));
        }
    }
    if container["image"].as_str().is_none_or(str::is_empty) {
        causes.push(Cause::required(format!("{path}.image"), ""));
    }
    one_of(
        &container["imagePullPolicy"],
        &format!("{path}.imagePullPolicy"),
        &["Always", "IfNotPresent", "Never"],
        causes,
    );
    ports(&container["ports"], &format!("{path}.ports"), causes);
    for (index, env) in list(&container["env"]).iter().enumerate() {
        if env["name"].as_str().is_none_or(str::is_empty) {
            causes.push(Cause::required(format!("{path}.env[{index}].name"), ""));
        }
    }
    for (index, mount) in list(&container["volumeMounts"]).iter().enumerate() {
        let name = mount["name"].as_str().unwrap_or_default();
        let field = format!("{path}.volumeMounts[{index}].name");
        if name.is_empty() {
            causes.push(Cause::required(field, ""));
        } else if !volumes.contains(name) {
            let message = format!("Not found: {name:?}");
            causes.push(Cause { field, reason: "FieldValueNotFound", message });
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        check_probe(&container[probe], &format!("{path}.{probe}"), causes);
    }
}

fn check_probe(probe: &Value, path: &str, causes: &mut Vec<Cause>) {
    if !probe.is_object() {
        return;
    }
    let kinds = ["exec", "httpGet", "tcpSocket", "grpc"];
    let given = kinds.iter().filter(|kind| probe[kind].is_object()).count();
    if given == 0 {
        causes.push(Cause::required(path, "must specify a handler type"));
    } else if given > 1 {
        causes.push(Cause::forbidden(path, "may not specify more than 1 handler type"));
    }
    for kind in ["httpGet", "tcpSocket"] {
        if probe[kind].is_object() {
            port_or_name(&probe[kind]["port"], &format!("{path}.{kind}.port"), causes);
        }
    }
}

fn ports(value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let mut names = BTreeSet::new();
    for (index, entry) in list(value).iter().enumerate() {
        let path = format!("{path}[{index}]");
        if let Some(name) = entry["name"].as_str().filter(|name| !name.is_empty()) {
            let wrong = port_name(name);
            causes.extend(wrong.iter().map(|why| Cause::invalid(format!("{path}.name"), &entry["name"], why)));
            if wrong.is_empty() && !names.insert(name) {
                causes.push(Cause::duplicate(format!("{path}.name"), &entry["name"]));
            }
        }
        match entry["containerPort"].as_i64() {
            None | Some(0) => causes.push(Cause::required(format!("{path}.containerPort"), "")),
            Some(_) => port(&entry["containerPort"], &format!("{path}.containerPort"), causes),
        }
        if entry["hostPort"].as_i64().is_some_and(|port| port != 0) {
            port(&entry["hostPort"], &format!("{path}.hostPort"), causes);
        }
        protocol(&entry["protocol"], &format!("{path}.protocol"), causes);
    }
}

fn tolerations(value: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (index, toleration) in list(value).iter().enumerate() {
        let path = format!("{path}[{index}]");
        if let Some(key) = toleration["key"].as_str().filter(|key| !key.is_empty()) {
            causes.extend(qualified_name(key).map(|why| Cause::invalid(format!("{path}.key"), &json!(key), why)));
        }
        let operator = toleration["operator"].as_str().unwrap_or("Equal");
        if operator != "Equal" && operator != "Exists" && !operator.is_empty() {
            causes.push(Cause::unsupported(format!("{path}.operator"), &toleration["operator"], &["Equal", "Exists"]));
        }
    }
}

/// Images, tolerations, gates and deadlines may change; the rest of a pod's spec stays what it was.
pub(super) fn check_change(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    let fixed = |spec: &Value| {
        let mut spec = spec.clone();
        let Some(map) = spec.as_object_mut() else {
            return spec;
        };
        for field in ["tolerations", "activeDeadlineSeconds", "terminationGracePeriodSeconds", "schedulingGates"] {
            map.remove(field);
        }
        for field in ["containers", "initContainers"] {
            for container in map.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
                container["image"] = Value::Null;
            }
        }
        spec
    };
    if fixed(old) != fixed(new) {
        let why = "pod updates may not change fields other than `spec.containers[*].image`,\
                   `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to \
                   existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
                   previously negative)";
        causes.push(Cause::forbidden("spec", why));
        return;
    }
    let kept = list(&old["tolerations"]).iter().all(|toleration| list(&new["tolerations"]).contains(toleration));
    if !kept {
        causes.push(Cause::forbidden(
            "spec.tolerations",
            "existing toleration can not be modified except its tolerationSeconds",
        ));
    }
}
