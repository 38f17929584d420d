//! Services and endpoint slices.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;

use super::super::status::Cause;
use super::meta::{label, labels, port_name, subdomain};
use super::{list, port, port_or_name, protocol};

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

pub(super) fn check(spec: &Value, causes: &mut Vec<Cause>) {
    let kind = spec["type"].as_str().unwrap_or_default();
    if !TYPES.contains(&kind) {
        causes.push(Cause::unsupported("spec.type", &spec["type"], &TYPES));
    }
    let headless = spec["clusterIP"] == "None";
    if kind == "ExternalName" {
        let name = spec["externalName"].as_str().unwrap_or_default();
        if name.is_empty() {
            causes.push(Cause::required("spec.externalName", ""));
        } else if let Some(why) = subdomain(name.trim_end_matches('.')) {
            causes.push(Cause::invalid("spec.externalName", &spec["externalName"], why));
        }
    } else if list(&spec["ports"]).is_empty() && !headless {
        causes.push(Cause::required("spec.ports", ""));
    }
    if headless && matches!(kind, "NodePort" | "LoadBalancer") {
        let why = format!("may not be set to 'None' for {kind} services");
        causes.push(Cause::invalid("spec.clusterIPs[0]", &spec["clusterIP"], &why));
    }
    if !matches!(spec["sessionAffinity"].as_str(), Some("None" | "ClientIP")) {
        causes.push(Cause::unsupported("spec.sessionAffinity", &spec["sessionAffinity"], &["ClientIP", "None"]));
    }
    labels(&spec["selector"], "spec.selector", causes);
    ports(spec, kind, causes);
    policies(spec, causes);
    for (index, address) in list(&spec["externalIPs"]).iter().enumerate() {
        if address.as_str().is_none_or(|text| text.parse::<IpAddr>().is_err()) {
            let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            causes.push(Cause::invalid(format!("spec.externalIPs[{index}]"), address, why));
        }
    }
}

fn policies(spec: &Value, causes: &mut Vec<Cause>) {
    for field in ["externalTrafficPolicy", "internalTrafficPolicy"] {
        if spec[field].as_str().is_some_and(|word| !matches!(word, "Cluster" | "Local")) {
            causes.push(Cause::unsupported(format!("spec.{field}"), &spec[field], &["Cluster", "Local"]));
        }
    }
}

fn ports(spec: &Value, kind: &str, causes: &mut Vec<Cause>) {
    let all = list(&spec["ports"]);
    let mut names = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for (index, entry) in all.iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        let name = entry["name"].as_str().unwrap_or_default();
        if name.is_empty() {
            if all.len() > 1 {
                causes.push(Cause::required(format!("{path}.name"), ""));
            }
        } else if let Some(why) = label(name) {
            causes.push(Cause::invalid(format!("{path}.name"), &entry["name"], why));
        } else if !names.insert(name) {
            causes.push(Cause::duplicate(format!("{path}.name"), &entry["name"]));
        }
        port(&entry["port"], &format!("{path}.port"), causes);
        protocol(&entry["protocol"], &format!("{path}.protocol"), causes);
        port_or_name(&entry["targetPort"], &format!("{path}.targetPort"), causes);
        if kind == "ClusterIP" && entry["nodePort"].as_i64().is_some_and(|port| port != 0) {
            let why = "may not be used when `type` is 'ClusterIP'";
            causes.push(Cause::forbidden(format!("{path}.nodePort"), why));
        }
        if !seen.insert((entry["port"].as_i64(), entry["protocol"].as_str())) {
            let told = serde_json::json!({"port": entry["port"], "protocol": entry["protocol"]});
            causes.push(Cause::duplicate(path, &told));
        }
    }
}

pub(super) fn check_change(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    // The address may only come or go with the type ExternalName.
    let external = |spec: &Value| spec["type"] == "ExternalName";
    if !external(old) && !external(new) && old["clusterIP"] != new["clusterIP"] {
        let told: Vec<String> = list(&new["clusterIPs"]).iter().map(Value::to_string).collect();
        let told = format!("[]string{{{}}}", told.join(", "));
        causes.push(Cause::invalid_text("spec.clusterIPs[0]", &told, "may not change once set"));
    }
}

pub(super) fn check_slice(slice: &Value, causes: &mut Vec<Cause>) {
    let kinds = ["IPv4", "IPv6", "FQDN"];
    let kind = slice["addressType"].as_str().unwrap_or_default();
    if kind.is_empty() {
        causes.push(Cause::required("addressType", ""));
    } else if !kinds.contains(&kind) {
        causes.push(Cause::unsupported("addressType", &slice["addressType"], &kinds));
    }
    for (index, endpoint) in list(&slice["endpoints"]).iter().enumerate() {
        let path = format!("endpoints[{index}].addresses");
        if list(&endpoint["addresses"]).is_empty() {
            causes.push(Cause::required(path.clone(), "must contain at least 1 address"));
        }
        for (index, address) in list(&endpoint["addresses"]).iter().enumerate() {
            let parsed = address.as_str().and_then(|text| text.parse::<IpAddr>().ok());
            let fits = match kind {
                "IPv4" => parsed.is_some_and(|ip| ip.is_ipv4()),
                "IPv6" => parsed.is_some_and(|ip| ip.is_ipv6()),
                _ => true,
            };
            if !fits {
                let why = format!("must be a valid {kind} address");
                causes.push(Cause::invalid(format!("{path}[{index}]"), address, &why));
            }
        }
    }
    for (index, entry) in list(&slice["ports"]).iter().enumerate() {
        if let Some(name) = entry["name"].as_str().filter(|name| !name.is_empty()) {
            let wrong = if label(name).is_some() { port_name(name) } else { Vec::new() };
            causes.extend(wrong.iter().map(|why| Cause::invalid(format!("ports[{index}].name"), &entry["name"], why)));
        }
    }
}
