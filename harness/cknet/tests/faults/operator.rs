//! An operator that looks after a DaemonSet would undo what a scenario does to it, and has to be told to let go.

use crate::workplace::Workplace;
use crate::{Case, Needs};

pub const TRIALS: &[Case] =
    &[(Needs::Namespaces, "operator::what_it_looks_after_is_taken_over", what_it_looks_after_is_taken_over)];

/// The owner of Calico's DaemonSet as Tigera's operator writes it; the reference distribution knows no such kind, and
/// leaves what belongs to it alone.
const SCENARIO: &str = "\
apiVersion: cknet/v1
kind: Scenario
metadata:
  id: faults.operator
  title: A DaemonSet of an operator
  kind: pattern
  severity: minor
  docs: canonical-kubernetes-networking.md#pattern-3-networkpolicy-enforcement
claims:
  - {id: deny-all, text: \"Now pods in production namespace cannot receive traffic\"}
requires: {capabilities: [component-control], fidelity: model}
topology:
  segments: {lan: {cidr: 192.168.60.0/24}}
  nodes:
    cp1: {role: control-plane, nics: {eth0: lan}}
phases:
  - id: nobodys
    steps:
      - patch: {apiVersion: apps/v1, kind: DaemonSet, namespace: \"${cni.namespace}\", name: \"${cni.daemonSet}\", patch: {metadata: {labels: {stage: \"one\"}}}}
    expect:
      - {id: told, claim: deny-all, resource: {apiVersion: apps/v1, kind: DaemonSet, namespace: \"${cni.namespace}\", name: \"${cni.daemonSet}\", matches: {metadata: {labels: {stage: \"one\"}, annotations: {unsupported.operator.tigera.io/ignore: \"true\"}}}}}
  - id: operators
    steps:
      - patch: {apiVersion: apps/v1, kind: DaemonSet, namespace: \"${cni.namespace}\", name: \"${cni.daemonSet}\", patch: {metadata: {ownerReferences: [{apiVersion: operator.tigera.io/v1, kind: Installation, name: default, uid: 5f0e4f4e-6f0a-4bb5-9b5f-0d7a3c1f2e11, controller: true}]}}}
      - stopComponent: {component: \"${cni.daemonSet}\", nodes: all}
    expect:
      - {id: told, resource: {apiVersion: apps/v1, kind: DaemonSet, namespace: \"${cni.namespace}\", name: \"${cni.daemonSet}\", matches: {metadata: {annotations: {unsupported.operator.tigera.io/ignore: \"true\"}}}}}
sabotage:
  - id: nobodys
    title: It belongs to nobody
    do: {ignoreStep: operators/0}
    mustFail: operators/told
";

fn what_it_looks_after_is_taken_over() {
    let workplace = Workplace::new();
    let folder = workplace.suite_of("operator", SCENARIO);
    let (suite, reports) = (folder.display().to_string(), workplace.reports().display().to_string());
    workplace.run(["run", "faults.operator", "--scenarios", &suite, "--reports", &reports]).expect(1);
    let outcomes = workplace.outcomes();
    // Nothing is said to nobody; an operator is told before its pods are kept off the nodes.
    assert_eq!(outcomes.get("nobodys/told").map(String::as_str), Some("fail"), "{outcomes:?}");
    assert_eq!(outcomes.get("operators/told").map(String::as_str), Some("pass"), "{outcomes:?}");
}
