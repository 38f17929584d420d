//! What the rules predict for the flows of the suite's policy scenarios is what those scenarios expect.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use cknet::plan::Trial;
use cknet::predict::{Agreement, Foreseen, Predictor};
use cknet::scenario::model::{Action, NodeSet};
use cknet::scenario::{Filter, Fixtures, Profile, Roots, Scenario, check, load_bytes, locate, read_suite};

fn scenarios(area: &str) -> Vec<Scenario> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let roots = Roots::find(None, repository).unwrap();
    let found = locate(&roots, &Filter { words: vec![area.into()] }).unwrap();
    read_suite(&found, &fixtures(repository)).unwrap_or_else(|wrong| panic!("{wrong}"))
}

fn fixtures(repository: &Path) -> Fixtures {
    let profile = Profile::embedded("reference").unwrap().unwrap();
    Fixtures::open(&repository.join("fixtures"), profile).unwrap_or_else(|wrong| panic!("{wrong}"))
}

/// Every flow of every phase, with the phase and the expectation it belongs to.
fn foreseen(scenario: &Scenario) -> Vec<(String, Foreseen)> {
    let mut all = Vec::new();
    for (phase, expectation) in scenario.expectations() {
        let predictor = Predictor::after(scenario, &phase.id, &|_| None);
        assert_eq!(predictor.gaps(), [] as [String; 0], "{}", scenario.id());
        let of = format!("{}/{}", phase.id, expectation.id);
        all.extend(predictor.foresee(expectation).into_iter().map(|flow| (of.clone(), flow)));
    }
    all
}

#[test]
fn policy_scenarios_expect_what_the_rules_predict() {
    let scenarios = scenarios("policy");
    assert!(!scenarios.is_empty());
    for scenario in &scenarios {
        let flows = foreseen(scenario);
        assert!(!flows.is_empty(), "{} is about no flow", scenario.id());
        for (of, flow) in flows {
            let wanted = match BEYOND_THE_RULES.contains(&(scenario.id().as_str(), of.as_str())) {
                true => Agreement::Differ,
                false => Agreement::Agree,
            };
            assert_eq!(flow.agreement(), wanted, "{of}: {}: {}", flow.flow, flow.because());
        }
    }
}

/// Flows that no rule forbids and that get nowhere all the same: nobody listens at that port of the node any more.
const BEYOND_THE_RULES: [(&str, &str); 1] = [("policy.host-ports", "gone/nobody-there")];

/// A firewall is none of the oracle's business: what it closes is predicted to be open.
#[test]
fn a_closed_firewall_changes_no_prediction() {
    let scenario = scenarios("firewall.vxlan-port-blocked").remove(0);
    let differ: Vec<_> = foreseen(&scenario)
        .into_iter()
        .filter(|(_, flow)| flow.agreement() == Agreement::Differ)
        .map(|(of, _)| of)
        .collect();
    assert_eq!(differ, ["wrong/cross-node", "wrong/cross-node-udp"]);
}

/// Without the step that applies the policy the rules predict otherwise, and say why.
#[test]
fn a_policy_that_is_not_applied_is_missed() {
    let scenario = scenarios("policy.deny-all-ingress").remove(0);
    let forgotten = scenario.sabotage.iter().find(|sabotage| sabotage.id == "nothing-denied").unwrap();
    let flows = foreseen(&Trial::sabotage(&scenario, forgotten).scenario);
    let (_, flow) = flows
        .iter()
        .find(|(of, flow)| of == "deny/nobody-gets-in" && flow.flow == "other -> backend 8080/tcp")
        .unwrap();
    assert_eq!(flow.agreement(), Agreement::Differ);
    assert_eq!(
        flow.because(),
        "allowed: `production/other` is not isolated for egress; `production/backend` is not isolated for ingress"
    );
}

/// What changes while no agent works has no effect; where only some stand still, nothing is said of them.
#[test]
fn without_agents_what_they_left_is_in_force() {
    let scenario = scenarios("policy.agent-away").remove(0);
    let away = |flows: &[(String, Foreseen)]| -> Vec<Agreement> {
        flows.iter().filter(|(of, _)| of == "away/as-before").map(|(_, flow)| flow.agreement()).collect()
    };
    assert_eq!(away(&foreseen(&scenario)), [Agreement::Agree; 3]);
    let never = scenario.sabotage.iter().find(|sabotage| sabotage.id == "never-away").unwrap();
    let stayed = Trial::sabotage(&scenario, never).scenario;
    assert_eq!(away(&foreseen(&stayed)), [Agreement::Differ, Agreement::Differ, Agreement::Agree]);
    let mut some = scenario;
    let Action::StopComponent(component) = &mut some.phases[1].steps[0].action else { panic!("another step") };
    component.nodes = NodeSet::Named(vec!["w1".parse().unwrap()]);
    assert_eq!(away(&foreseen(&some)), [Agreement::Open; 3]);
}

/// Labels, patches, deletions, late workloads and facts that only a run knows are followed.
#[test]
fn the_world_follows_every_step() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let fixtures = fixtures(repository);
    let file = load_bytes(STEPS, "scenarios/policy/steps.yaml", &fixtures).unwrap_or_else(|wrong| panic!("{wrong}"));
    let scenario = check(vec![file], &fixtures).unwrap_or_else(|wrong| panic!("{wrong}")).remove(0);
    for (of, flow) in foreseen(&scenario) {
        assert_eq!(flow.agreement(), Agreement::Agree, "{of}: {}: {}", flow.flow, flow.because());
    }
}

/// A reference to a number is one in an object, whether or not YAML wants quotes around it; a block is a text.
#[test]
fn a_reference_to_a_number_stays_a_number_in_a_patch() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let fixtures = fixtures(repository);
    let object = "{vni: \"${cni.overlayVni}\", port: '${cni.overlayPort}', both: \"${cni.overlayVni}/udp\"}";
    let step = format!(
        "\n      - patch:\n          apiVersion: v1\n          kind: Pod\n          namespace: shop\n          \
         name: db\n          patch:\n            inner: {object}\n            plain: ${{cni.overlayVni}}\n            \
         text: |-\n              ${{cni.overlayVni}}\n      - label: {{workload: db, set: {{app: other}}}}"
    );
    let text = STEPS.replacen("\n      - label: {workload: db, set: {app: other}}", &step, 1);
    let file = load_bytes(text, "scenarios/policy/steps.yaml", &fixtures).unwrap_or_else(|wrong| panic!("{wrong}"));
    let scenario = check(vec![file], &fixtures).unwrap_or_else(|wrong| panic!("{wrong}")).remove(0);
    let patch = scenario.phases.iter().flat_map(|phase| &phase.steps).find_map(|step| match &step.action {
        Action::Patch(patch) if patch.kind == "Pod" => Some(patch),
        _ => None,
    });
    let inner = serde_json::json!({"vni": 4096, "port": 4789, "both": "4096/udp"});
    let expected = serde_json::json!({"inner": inner, "plain": 4096, "text": "4096"});
    assert_eq!(patch.unwrap().patch.resolve(&|_| None).unwrap(), expected);
}

const STEPS: &str = r#"
apiVersion: cknet/v1
kind: Scenario
metadata:
  id: policy.steps
  title: Steps of every kind that change what policies do
  kind: integration
  severity: minor
  docs: canonical-kubernetes-networking.md#pattern-3-networkpolicy-enforcement
requires: {capabilities: [services, network-policy]}
topology:
  segments: {lan: {cidr: 192.168.60.0/24}}
  nodes:
    cp1: {role: control-plane, nics: {eth0: lan}}
    w1: {role: worker, nics: {eth0: lan}}
namespaces:
  shop: {labels: {team: a}}
workloads:
  web: {node: cp1, namespace: shop, labels: {app: web}, listen: [8080/tcp]}
  db: {node: w1, namespace: shop, labels: {app: db}, listen: [5432/tcp], namedPorts: {sql: 5432/tcp}}
  outsider: {node: w1, labels: {app: outsider}, listen: [8080/tcp]}
services:
  db: {namespace: shop, selector: {app: db}, ports: [{port: 80/tcp, target: sql}]}
phases:
  - id: by-address
    steps:
      - apply:
          apiVersion: networking.k8s.io/v1
          kind: NetworkPolicy
          metadata: {name: db, namespace: shop}
          spec:
            podSelector: {matchLabels: {app: db}}
            ingress: [{from: [{ipBlock: {cidr: "${workload.web.ip}/32"}}], ports: [{port: sql}]}]
    expect:
      - {id: web, connectivity: {from: web, to: db, port: 5432/tcp, is: allowed}}
      - {id: web-through-the-service, connectivity: {from: web, to: db, port: 5432/tcp, via: service, is: allowed}}
      - {id: outsider, connectivity: {from: outsider, to: db, port: 5432/tcp, is: denied}}
      - {id: back, connectivity: {from: db, to: web, port: 8080/tcp, is: allowed}}
  - id: by-namespace
    steps:
      - patch:
          apiVersion: networking.k8s.io/v1
          kind: NetworkPolicy
          namespace: shop
          name: db
          patch: {spec: {ingress: [{from: [{namespaceSelector: {matchLabels: {team: b}}}]}]}}
      - patch: {apiVersion: v1, kind: Namespace, name: default, patch: {metadata: {labels: {team: b}}}}
    expect:
      - {id: web, connectivity: {from: web, to: db, port: 5432/tcp, is: denied}}
      - {id: outsider, connectivity: {from: outsider, to: db, port: 5432/tcp, is: allowed}}
  - id: relabelled
    steps:
      - label: {workload: db, set: {app: other}}
    expect:
      - {id: web, connectivity: {from: web, to: db, port: 5432/tcp, is: allowed}}
  - id: back-again
    steps:
      - label: {workload: db, set: {app: db}}
      - workload: {add: {late: {node: w1, namespace: shop, labels: {app: db}, listen: [5432/tcp]}}}
    expect:
      - {id: web, connectivity: {from: web, to: db, port: 5432/tcp, is: denied}}
      - {id: outsider-to-db, connectivity: {from: outsider, to: db, port: 5432/tcp, is: allowed}}
      - {id: web-to-late, connectivity: {from: web, to: late, port: 5432/tcp, is: denied}}
      - {id: outsider, connectivity: {from: outsider, to: late, port: 5432/tcp, is: allowed}}
  - id: deleted
    steps:
      - delete: {apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: db, namespace: shop}}
    expect:
      - {id: web, connectivity: {from: web, to: db, port: 5432/tcp, is: allowed}}
sabotage:
  - {id: kept, do: {ignoreStep: deleted/0}, mustFail: deleted/web}
"#;
