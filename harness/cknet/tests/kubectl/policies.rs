//! The acceptance: the document's two policies, applied as they stand, seen with `kubectl exec`.

use libtest_mimic::Trial;

use super::cluster::{policy, shared};

pub fn trials() -> Vec<Trial> {
    vec![
        super::trial("policies::the_documents_policies_close_and_open", the_documents_policies_close_and_open),
        super::trial("policies::a_policy_can_be_read", a_policy_can_be_read),
    ]
}

fn the_documents_policies_close_and_open() {
    let production = shared().space("production");
    production.pods(&[
        ("frontend", "frontend", "cp1", &[]),
        ("backend", "backend", "w1", &["8080/tcp"]),
        ("other", "other", "w2", &[]),
        ("neighbour", "other", "w1", &[]),
    ]);
    production.ok("expose pod backend --port=80 --target-port=8080");
    let address = production.address("backend");
    let direct = format!("{address}:8080");
    let named = "backend.production.svc.cluster.local:80";
    let open = "allowed by production/backend";
    production.await_connect("frontend", "backend:80", open);
    let all_open = [
        ("frontend", direct.as_str(), open),
        ("other", &direct, open),
        ("neighbour", &direct, open),
        ("frontend", "backend:80", open),
        ("other", named, open),
        ("neighbour", named, open),
    ];
    production.see(&all_open);

    let said = shared().kubectl_with("apply -f -", &policy("deny-all-ingress"));
    assert_eq!(said.out, "networkpolicy.networking.k8s.io/deny-all-ingress created\n", "{}", said.err);
    production.await_connect("frontend", &direct, "TIMEOUT");
    production.see(&all_open.map(|(from, to, _)| (from, to, "TIMEOUT")));

    let said = shared().kubectl_with("apply -f -", &policy("allow-from-frontend"));
    assert_eq!(said.out, "networkpolicy.networking.k8s.io/allow-from-frontend created\n", "{}", said.err);
    production.await_connect("frontend", &direct, open);
    production.see(&[
        ("frontend", &direct, open),
        ("frontend", "backend:80", open),
        ("frontend", named, open),
        ("other", &direct, "TIMEOUT"),
        ("neighbour", &direct, "TIMEOUT"),
        ("other", "backend:80", "TIMEOUT"),
        ("neighbour", named, "TIMEOUT"),
    ]);

    // Once more with one of the two gone: the order in which they came and go does not matter.
    production.ok("delete networkpolicy deny-all-ingress");
    production.see(&[("frontend", &direct, open), ("other", &direct, "TIMEOUT")]);
    let said = production.ok("delete networkpolicy allow-from-frontend");
    assert_eq!(said, format!("{}\n", deleted("allow-from-frontend")));
    production.await_connect("other", &direct, open);
    production.see(&all_open);
}

/// kubectl from 1.34 on says in which namespace.
fn deleted(name: &str) -> String {
    let version = shared().kubectl("version -o json");
    let version: serde_json::Value = serde_json::from_str(&version).unwrap();
    let minor: u32 = version["clientVersion"]["minor"].as_str().unwrap().trim_end_matches('+').parse().unwrap();
    let place = if minor >= 34 { " from production namespace" } else { "" };
    format!("networkpolicy.networking.k8s.io \"{name}\" deleted{place}")
}

fn a_policy_can_be_read() {
    let space = shared().space("policy-words");
    let manifest = policy("allow-from-frontend").replace("namespace: production", "namespace: policy-words");
    space.ok_with("apply -f -", &manifest);
    let rows = space.ok("get networkpolicy --no-headers");
    let cells: Vec<&str> = rows.split_whitespace().take(2).collect();
    assert_eq!(cells, ["allow-from-frontend", "app=backend"]);
    let described = space.ok("describe networkpolicy allow-from-frontend");
    let spec = described.split_once("Spec:\n").map(|(_, spec)| spec);
    assert_eq!(
        spec,
        Some(
            "  PodSelector:     app=backend\n  \
             Allowing ingress traffic:\n    \
             To Port: 8080/TCP\n    \
             From:\n      \
             PodSelector: app=frontend\n  \
             Not affecting egress traffic\n  \
             Policy Types: Ingress\n"
        ),
        "{described}"
    );
    // What was applied is what is read back, key for key.
    let yaml = space.ok("get networkpolicy allow-from-frontend -o yaml");
    let expected = "spec:\n  ingress:\n  - from:\n    - podSelector:\n        matchLabels:\n          app: frontend\n    \
                    ports:\n    - port: 8080\n      protocol: TCP\n  podSelector:\n    matchLabels:\n      app: backend\n  \
                    policyTypes:\n  - Ingress\n";
    assert!(yaml.ends_with(expected), "{yaml}");
}
