//! Label selectors: which labels they select, and a text that names them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::world::Labels;

/// Whether `selector` selects `labels`. An empty selector selects everything; all its parts must hold.
pub fn selects(selector: &LabelSelector, labels: &Labels) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal && selector.match_expressions.iter().flatten().all(|requirement| holds(requirement, labels))
}

/// `NotIn` and `DoesNotExist` hold for labels without the key. An operator that Kubernetes does not have never holds.
fn holds(requirement: &LabelSelectorRequirement, labels: &Labels) -> bool {
    let value = labels.get(&requirement.key);
    let listed = || value.is_some_and(|value| requirement.values.iter().flatten().any(|allowed| allowed == value));
    match requirement.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

/// One text per meaning as written: equal selectors give equal texts.
pub(super) fn text(selector: &LabelSelector) -> String {
    let equal = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}={value}"));
    let expressions = selector.match_expressions.iter().flatten().map(|requirement| {
        let mut values: Vec<_> = requirement.values.iter().flatten().map(String::as_str).collect();
        values.sort_unstable();
        format!("{} {} ({})", requirement.key, requirement.operator, values.join(","))
    });
    let parts: Vec<_> = equal.chain(expressions).collect();
    if parts.is_empty() { "all()".into() } else { parts.join(" && ") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("{}", "", true)]
    #[case("{matchLabels: {a: x}}", "a=x b=y", true)]
    #[case("{matchLabels: {a: x, b: z}}", "a=x b=y", false)]
    #[case("{matchExpressions: [{key: a, operator: In, values: [x, y]}]}", "a=y", true)]
    #[case("{matchExpressions: [{key: a, operator: In, values: [x, y]}]}", "b=y", false)]
    #[case("{matchExpressions: [{key: a, operator: NotIn, values: [x]}]}", "a=x", false)]
    #[case("{matchExpressions: [{key: a, operator: NotIn, values: [x]}]}", "b=x", true)]
    #[case("{matchExpressions: [{key: a, operator: Exists}]}", "a=", true)]
    #[case("{matchExpressions: [{key: a, operator: DoesNotExist}]}", "a=", false)]
    #[case("{matchExpressions: [{key: a, operator: DoesNotExist}]}", "", true)]
    #[case("{matchLabels: {a: x}, matchExpressions: [{key: b, operator: Exists}]}", "a=x", false)]
    #[case("{matchExpressions: [{key: a, operator: Near, values: [x]}]}", "a=x", false)]
    fn selection(#[case] selector: &str, #[case] labels: &str, #[case] selected: bool) {
        let selector: LabelSelector = serde_saphyr::from_str(selector).unwrap();
        let labels = labels.split_whitespace().filter_map(|label| label.split_once('='));
        let labels = labels.map(|(key, value)| (key.into(), value.into())).collect();
        assert_eq!(selects(&selector, &labels), selected);
    }
}
