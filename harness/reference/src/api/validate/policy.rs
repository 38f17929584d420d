//! NetworkPolicy: selectors, peers, ports and types.

use ipnet::IpNet;
use serde_json::{Value, json};

use super::super::status::Cause;
use super::{list, port, port_or_name, protocol, selector};

const CIDR_RULE: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

pub(super) fn check(spec: &Value, causes: &mut Vec<Cause>) {
    selector(&spec["podSelector"], "spec.podSelector", causes);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (index, rule) in list(&spec[direction]).iter().enumerate() {
            let path = format!("spec.{direction}[{index}]");
            for (index, port) in list(&rule["ports"]).iter().enumerate() {
                check_port(port, &format!("{path}.ports[{index}]"), causes);
            }
            for (index, peer) in list(&rule[peers]).iter().enumerate() {
                check_peer(peer, &format!("{path}.{peers}[{index}]"), causes);
            }
        }
    }
    types(&spec["policyTypes"], causes);
}

fn types(value: &Value, causes: &mut Vec<Cause>) {
    let types = list(value);
    if types.len() > 2 {
        let told: Vec<String> = types.iter().map(Value::to_string).collect();
        let told = format!("[]networking.PolicyType{{{}}}", told.join(", "));
        causes.push(Cause::invalid_text("spec.policyTypes", &told, "may not specify more than two policyTypes"));
        return;
    }
    for (index, kind) in types.iter().enumerate() {
        if kind != "Ingress" && kind != "Egress" {
            causes.push(Cause::unsupported(format!("spec.policyTypes[{index}]"), kind, &["Ingress", "Egress"]));
        }
    }
}

fn check_port(rule: &Value, path: &str, causes: &mut Vec<Cause>) {
    if !rule["protocol"].is_null() {
        protocol(&rule["protocol"], &format!("{path}.protocol"), causes);
    }
    let end = &rule["endPort"];
    let end_path = format!("{path}.endPort");
    if !rule["port"].is_null() {
        port_or_name(&rule["port"], &format!("{path}.port"), causes);
    }
    if end.is_null() {
        return;
    }
    match (&rule["port"], end.as_i64()) {
        (Value::Null, _) => {
            causes.push(Cause::invalid(end_path, end, "may not be specified when `port` is not specified"))
        }
        (Value::String(_), _) => {
            causes.push(Cause::invalid(end_path, end, "may not be specified when `port` is non-numeric"))
        }
        (first, Some(last)) => {
            // The real server names the first port here, not the last; clients match on its text.
            if first.as_i64().is_some_and(|first| last < first) {
                causes.push(Cause::invalid(end_path.clone(), first, "must be greater than or equal to `port`"));
            }
            port(end, &end_path, causes);
        }
        _ => {}
    }
}

fn check_peer(peer: &Value, path: &str, causes: &mut Vec<Cause>) {
    let given = |field: &str| peer[field].is_object();
    for field in ["podSelector", "namespaceSelector"] {
        selector(&peer[field], &format!("{path}.{field}"), causes);
    }
    let selects = given("podSelector") || given("namespaceSelector");
    match (given("ipBlock"), selects) {
        (false, false) => causes.push(Cause::required(path, "must specify a peer")),
        (true, true) => causes.push(Cause::forbidden(path, "may not specify both ipBlock and another peer")),
        (true, false) => block(&peer["ipBlock"], &format!("{path}.ipBlock"), causes),
        (false, true) => {}
    }
}

fn network(value: &Value) -> Option<IpNet> {
    value.as_str().and_then(|text| text.parse().ok())
}

fn block(block: &Value, path: &str, causes: &mut Vec<Cause>) {
    let cidr = &block["cidr"];
    if cidr.as_str().is_none_or(str::is_empty) {
        causes.push(Cause::required(format!("{path}.cidr"), ""));
        return;
    }
    let Some(outer) = network(cidr) else {
        causes.push(Cause::invalid(format!("{path}.cidr"), cidr, CIDR_RULE));
        return;
    };
    for (index, except) in list(&block["except"]).iter().enumerate() {
        let field = format!("{path}.except[{index}]");
        match network(except) {
            None => causes.push(Cause::invalid(field, except, CIDR_RULE)),
            Some(inner) if !(outer.contains(&inner) && outer.prefix_len() < inner.prefix_len()) => {
                causes.push(Cause::invalid(field, &json!(except), "must be a strict subset of `cidr`"));
            }
            Some(_) => {}
        }
    }
}
