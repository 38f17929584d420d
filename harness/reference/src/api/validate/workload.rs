//! Deployments, replica sets and daemon sets: selector, template and numbers.

use serde_json::Value;

use super::super::status::Cause;
use super::meta::labels;
use super::{list, pod, selector};

pub(super) fn check(kind: &str, spec: &Value, causes: &mut Vec<Cause>) {
    if spec["selector"].is_object() {
        selector(&spec["selector"], "spec.selector", causes);
        if empty(&spec["selector"]) {
            causes.push(Cause::invalid(
                "spec.selector",
                &spec["selector"],
                &format!("empty selector is invalid for {}", noun(kind)),
            ));
        }
    } else {
        causes.push(Cause::required("spec.selector", ""));
    }
    let own = &spec["template"]["metadata"]["labels"];
    labels(own, "spec.template.labels", causes);
    if spec["selector"].is_object() && !empty(&spec["selector"]) && !selects(&spec["selector"], own) {
        let why = "`selector` does not match template `labels`";
        let shown = if own.is_null() { Value::Null } else { own.clone() };
        causes.push(Cause::invalid("spec.template.metadata.labels", &shown, why));
    }
    pod::check(&spec["template"]["spec"], "spec.template.spec", causes);
    if spec["template"]["spec"]["restartPolicy"] != "Always" {
        let field = "spec.template.spec.restartPolicy";
        causes.push(Cause::unsupported(field, &spec["template"]["spec"]["restartPolicy"], &["Always"]));
    }
    for field in ["replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
        if spec[field].as_i64().is_some_and(|number| number < 0) {
            causes.push(Cause::invalid(format!("spec.{field}"), &spec[field], "must be greater than or equal to 0"));
        }
    }
}

fn noun(kind: &str) -> &str {
    match kind {
        "Deployment" => "deployment",
        "DaemonSet" => "daemonset",
        _ => "replicaset",
    }
}

fn empty(selector: &Value) -> bool {
    let labels = selector["matchLabels"].as_object().is_none_or(serde_json::Map::is_empty);
    labels && list(&selector["matchExpressions"]).is_empty()
}

fn selects(selector: &Value, labels: &Value) -> bool {
    let equal = selector["matchLabels"].as_object().into_iter().flatten().all(|(key, value)| labels[key] == *value);
    equal
        && list(&selector["matchExpressions"]).iter().all(|term| {
            let label = term["key"].as_str().map_or(&Value::Null, |key| &labels[key]);
            let listed = list(&term["values"]).contains(label);
            match term["operator"].as_str() {
                Some("In") => listed,
                Some("NotIn") => !listed,
                Some("Exists") => label.is_string(),
                Some("DoesNotExist") => label.is_null(),
                _ => true,
            }
        })
}
