//! Scenarios that the trials write themselves, in a suite of their own beside the repository's fixtures.

use std::fs;
use std::path::PathBuf;

use crate::workplace::{Workplace, repository};

/// How long the expectations of `faults.hold` have to stay true.
pub const HOLD: &str = "4s";

const HEAD: &str = "\
apiVersion: cknet/v1
kind: Scenario
metadata:
  id: faults.NAME
  title: Something to break
  kind: pattern
  severity: minor
  tags: [policy]
  docs: canonical-kubernetes-networking.md#pattern-3-networkpolicy-enforcement
claims:
  - {id: deny-all, text: \"Now pods in production namespace cannot receive traffic\"}
requires: {capabilities: [overlay, network-policy, node-commands], fidelity: model}
topology:
  segments: {lan: {cidr: 192.168.60.0/24}}
  nodes:
    cp1: {role: control-plane, nics: {eth0: lan}}
    w1: {role: worker, nics: {eth0: lan}}
namespaces:
  production: {}
workloads:
  client: {node: cp1, namespace: production}
  server: {node: w1, namespace: production, listen: [8080/tcp]}
  witness: {node: w1, listen: [8080/tcp]}
phases:
  - id: deny
    steps:
STEPS
      - apply: policy/deny-all-ingress.yaml
    expect:
      - {id: denied, claim: deny-all, connectivity: {from: client, to: server, port: 8080/tcp, is: denied}, within: 10s, for: HOLD}
      - {id: allowed, connectivity: {from: client, to: witness, port: 8080/tcp, is: allowed}, within: 10s, for: HOLD}
      - {id: ready, nodes: {all: Ready}, within: 10s, for: HOLD}
  - id: later
    expect:
      - {id: denied, connectivity: {from: client, to: server, port: 8080/tcp, is: denied}, within: 10s}
      - {id: allowed, connectivity: {from: client, to: witness, port: 8080/tcp, is: allowed}, within: 10s}
sabotage:
  - id: not-applied
    title: The policy is not applied
    do: {ignoreStep: deny/POLICY}
    mustFail: deny/denied
";

const WRONG: &str =
    "      - {id: wrong, connectivity: {from: client, to: server, port: 8080/tcp, is: allowed}, within: 500ms}
      - {id: wrong-too, command: {at: \"node:w1\", argv: [cat, /nowhere]}, within: 500ms}
";

impl Workplace {
    /// Writes a scenario that watches a denied and an allowed flow for `HOLD`; returns the suite to name.
    pub fn suite_that_holds(&self) -> PathBuf {
        self.suite("hold", "", HOLD)
    }

    /// Writes a scenario whose first step takes as long as nobody stops it.
    pub fn suite_with_a_long_step(&self) -> PathBuf {
        self.suite("step", "      - nodeRun: {node: w1, argv: [sleep, \"25.4711\"]}", "300ms")
    }

    /// Writes a scenario with two expectations that nothing fulfils in its first phase, what is known of them at its
    /// end; its other phase holds.
    pub fn suite_that_fails(&self, steps: &str, known: &str) -> PathBuf {
        let folder = self.suite("fail", steps, "300ms");
        let path = folder.join("faults/fail.yaml");
        let text = fs::read_to_string(&path).unwrap().replace("  - id: later\n", &format!("{WRONG}  - id: later\n"));
        fs::write(path, text + known).unwrap();
        folder
    }

    fn suite(&self, name: &str, steps: &str, hold: &str) -> PathBuf {
        let policy = steps.matches("      - ").count().saturating_sub(steps.matches("          - ").count());
        let steps = if steps.is_empty() { String::new() } else { format!("{steps}\n") };
        let text = HEAD.replace("NAME", name).replace("STEPS\n", &steps).replace("HOLD", hold);
        self.suite_of(name, &text.replace("POLICY", &policy.to_string()))
    }

    /// Writes the scenario `faults.NAME`; returns the suite to name.
    pub fn suite_of(&self, name: &str, text: &str) -> PathBuf {
        let folder = self.path("suite").join("scenarios");
        fs::create_dir_all(folder.join("faults")).unwrap();
        let fixtures = self.path("suite").join("fixtures");
        if !fixtures.exists() {
            std::os::unix::fs::symlink(repository().join("fixtures"), fixtures).unwrap();
        }
        fs::write(folder.join(format!("faults/{name}.yaml")), text).unwrap();
        folder
    }
}
