//! Why a flow arrives that policies were expected to deny.

use std::collections::BTreeMap;

use super::cause::{Cause, Kind};

/// A NetworkPolicy as far as it matters which pods it selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub namespace: String,
    pub name: String,
    /// `spec.podSelector.matchLabels`.
    pub match_labels: BTreeMap<String, String>,
    /// It has `matchExpressions`, which are not followed here.
    pub expressions: bool,
}

/// What there is to deny a flow.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    pub all: Vec<Policy>,
    /// Namespace, name and labels of the pods at the ends, with the node and whether the agent runs there.
    pub ends: Vec<Subject>,
    /// The DaemonSet of the agents.
    pub agent: String,
}

/// A pod at an end of the flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub namespace: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub node: String,
    pub agent_runs: bool,
}

impl Policy {
    fn selects(&self, subject: &Subject) -> bool {
        self.namespace == subject.namespace
            && self.match_labels.iter().all(|(key, value)| subject.labels.get(key) == Some(value))
    }
}

/// The likely cause that nothing denied the flow.
pub fn not_enforced(policies: &Policies) -> Option<Cause> {
    let cause = |kind, node: &str, text: String| Some(Cause { kind, node: node.into(), text, drop: None });
    let agent = &policies.agent;
    if let Some(end) = policies.ends.iter().rev().find(|end| !end.agent_runs) {
        let text = format!(
            "{agent} does not run on {}: what policies have said since it ended is not enforced there",
            end.node
        );
        return cause(Kind::Agent, &end.node, text);
    }
    let selected = |end: &&Subject| policies.all.iter().any(|policy| policy.selects(end));
    if policies.all.is_empty() {
        let node = policies.ends.last().map_or("", |end| end.node.as_str());
        return cause(Kind::PolicyMissing, node, "there is no NetworkPolicy in the cluster".into());
    }
    if policies.ends.iter().any(|end| selected(&end)) {
        return None;
    }
    let target = policies.ends.last()?;
    let own: Vec<&Policy> = policies.all.iter().filter(|policy| policy.namespace == target.namespace).collect();
    let text = match own.first() {
        None => {
            let others: Vec<String> = policies
                .all
                .iter()
                .map(|policy| format!("`{}` is in namespace {}", policy.name, policy.namespace))
                .collect();
            format!(
                "namespace {}, where {} runs, has no NetworkPolicy; {}",
                target.namespace,
                target.name,
                others.join(", ")
            )
        }
        Some(policy) => format!(
            "no NetworkPolicy of namespace {} selects {} (labels {}); `{}` selects {}",
            target.namespace,
            target.name,
            written(&target.labels),
            policy.name,
            written(&policy.match_labels)
        ),
    };
    cause(Kind::PolicyMissing, &target.node, text)
}

fn written(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if pairs.is_empty() { "none".into() } else { pairs.join(",") }
}
