//! The selectors of Kubernetes: labels, node affinity, tolerations. Pure.
//!
//! It knows nothing of who selects whom and why.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

pub(super) type Labels = BTreeMap<String, String>;

/// Whether `selector` selects `labels`. An empty selector selects everything, as in the API.
pub(super) fn selects(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    let none = Labels::new();
    let labels = labels.unwrap_or(&none);
    let pairs = selector.match_labels.iter().flatten();
    let mut expressions = selector.match_expressions.iter().flatten();
    contains(pairs, labels) && expressions.all(|wanted| expression_holds(wanted, labels))
}

/// A workload without a selector owns nothing, rather than everything.
pub(super) fn owns(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    let empty = selector.match_labels.as_ref().is_none_or(Labels::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty);
    !empty && selects(selector, labels)
}

/// Whether `labels` has each of the `wanted` pairs.
pub(super) fn contains<'a>(mut wanted: impl Iterator<Item = (&'a String, &'a String)>, labels: &Labels) -> bool {
    wanted.all(|(key, value)| labels.get(key) == Some(value))
}

fn expression_holds(wanted: &LabelSelectorRequirement, labels: &Labels) -> bool {
    let values = wanted.values.as_deref().unwrap_or_default();
    let found = labels.get(&wanted.key);
    match wanted.operator.as_str() {
        "In" => found.is_some_and(|value| values.contains(value)),
        "NotIn" => found.is_none_or(|value| !values.contains(value)),
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        _ => false,
    }
}

/// Whether the node selector and the required node affinity of a pod admit `node`.
pub(super) fn admits_node(pod: &PodSpec, node: &Node) -> bool {
    let none = Labels::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&none);
    if !contains(pod.node_selector.iter().flatten(), labels) {
        return false;
    }
    let required = pod
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    match required {
        Some(selector) => {
            selector.node_selector_terms.iter().any(|term| term_admits(term, labels, node.metadata.name.as_deref()))
        }
        None => true,
    }
}

fn term_admits(term: &NodeSelectorTerm, labels: &Labels, name: Option<&str>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    // A term without any requirement selects no node.
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|wanted| requirement_holds(wanted, labels.get(&wanted.key).map(String::as_str)))
        && fields.iter().all(|wanted| wanted.key == "metadata.name" && requirement_holds(wanted, name))
}

fn requirement_holds(wanted: &NodeSelectorRequirement, found: Option<&str>) -> bool {
    let values = wanted.values.as_deref().unwrap_or_default();
    let listed = |found: &str| values.iter().any(|value| value == found);
    let compare = |holds: fn(i64, i64) -> bool| {
        let bound = values.first().and_then(|value| value.parse().ok());
        let found = found.and_then(|value| value.parse().ok());
        matches!((found, bound), (Some(found), Some(bound)) if holds(found, bound))
    };
    match wanted.operator.as_str() {
        "In" => found.is_some_and(listed),
        "NotIn" => found.is_none_or(|found| !listed(found)),
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        "Gt" => compare(|found, bound| found > bound),
        "Lt" => compare(|found, bound| found < bound),
        _ => false,
    }
}

/// The first of `taints` with one of `effects` that none of `tolerations` tolerates.
pub(super) fn untolerated<'t>(taints: &'t [Taint], tolerations: &[Toleration], effects: &[&str]) -> Option<&'t Taint> {
    taints.iter().find(|taint| {
        effects.contains(&taint.effect.as_str()) && !tolerations.iter().any(|toleration| tolerates(toleration, taint))
    })
}

pub(super) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let effect = filled(&toleration.effect);
    let key = filled(&toleration.key);
    if effect.is_some_and(|effect| effect != taint.effect) {
        return false;
    }
    if key.is_some_and(|key| key != taint.key) {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        _ => toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    #[rstest]
    #[case(json!({}), true)]
    #[case(json!({"matchLabels": {"app": "web"}}), true)]
    #[case(json!({"matchLabels": {"app": "db"}}), false)]
    #[case(json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "db"]}]}), true)]
    #[case(json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}), false)]
    #[case(json!({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["x"]}]}), true)]
    #[case(json!({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}), false)]
    #[case(json!({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}), true)]
    fn label_selectors(#[case] selector: Value, #[case] expected: bool) {
        let labels: Labels = from(json!({"app": "web"}));
        assert_eq!(selects(&from(selector), Some(&labels)), expected);
    }

    #[test]
    fn a_workload_without_selector_owns_nothing() {
        assert!(!owns(&LabelSelector::default(), None));
    }

    #[rstest]
    #[case(json!({"nodeSelector": {"zone": "a"}}), true)]
    #[case(json!({"nodeSelector": {"zone": "b"}}), false)]
    #[case(term(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]})), true)]
    #[case(term(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]})), false)]
    #[case(term(json!({"matchExpressions": [{"key": "rank", "operator": "Gt", "values": ["2"]}]})), true)]
    #[case(term(json!({"matchExpressions": [{"key": "rank", "operator": "Lt", "values": ["3"]}]})), false)]
    #[case(term(json!({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]})), false)]
    #[case(term(json!({})), false)]
    fn node_affinity(#[case] pod: Value, #[case] expected: bool) {
        let node: Node = from(json!({"metadata": {"name": "n1", "labels": {"zone": "a", "rank": "3"}}}));
        let mut pod = pod;
        pod["containers"] = json!([]);
        assert_eq!(admits_node(&from(pod), &node), expected);
    }

    fn term(term: Value) -> Value {
        json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}})
    }

    #[rstest]
    #[case(json!({"operator": "Exists"}), true)]
    #[case(json!({"operator": "Exists", "effect": "NoExecute"}), false)]
    #[case(json!({"key": "k", "operator": "Exists"}), true)]
    #[case(json!({"key": "k", "value": "v"}), true)]
    #[case(json!({"key": "k", "operator": "Equal", "value": "w"}), false)]
    #[case(json!({"key": "other", "operator": "Exists"}), false)]
    fn tolerations(#[case] toleration: Value, #[case] expected: bool) {
        let taint: Taint = from(json!({"key": "k", "value": "v", "effect": "NoSchedule"}));
        assert_eq!(tolerates(&from(toleration), &taint), expected);
    }
}
