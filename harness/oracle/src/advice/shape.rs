//! Findings about the policy as a whole: whom it selects, which of its rules are in force.

use super::{Finding, Review};
use crate::policy::Direction;

impl Review<'_> {
    pub(super) fn subject(&mut self) {
        const PATH: &str = "spec.podSelector";
        let selector = &self.policy.pods;
        if self.subjects().next().is_none() {
            let elsewhere = if selector.is_everything() { Vec::new() } else { self.namespaces_of(selector) };
            let finding = Finding::SelectsNoPod {
                selector: selector.clone(),
                namespace: self.policy.namespace.clone(),
                elsewhere,
            };
            self.advise(PATH, finding);
        }
        let on_host = self.subjects().filter(|pod| pod.host_network);
        let pods: Vec<_> = on_host.map(ToString::to_string).collect();
        if !pods.is_empty() {
            self.advise(PATH, Finding::SelectsHostNetworkPods { pods });
        }
    }

    pub(super) fn shape(&mut self) {
        let policy = self.policy;
        if policy.types.is_empty() && policy.ingress.is_empty() && !policy.egress.is_empty() {
            self.advise("spec.policyTypes", Finding::AlsoIsolatesIngress);
        }
        for direction in [Direction::Ingress, Direction::Egress] {
            let rules = policy.rules(direction);
            let path = format!("spec.{direction}");
            if !policy.isolates(direction) && !rules.is_empty() {
                let rules = rules.len();
                self.advise(path, Finding::RulesIgnored { direction, rules });
            } else if let Some(all) = rules.iter().position(|rule| rule.allows_everything())
                && rules.len() > 1
            {
                let rules = rules.len() - 1;
                let path = format!("{path}[{all}]");
                self.advise(path, Finding::OtherRulesMoot { direction, rules });
            }
        }
    }
}
