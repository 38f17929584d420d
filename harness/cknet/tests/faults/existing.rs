//! Clusters of somebody else: what was there before a run is there after it, as it was.

use std::collections::BTreeSet;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};

use cknet::cluster::connect;
use cknet::cluster::objects::Objects;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::workplace::{SOON, Workplace, until};
use crate::{Case, Needs};

pub const TRIALS: &[Case] = &[
    (Needs::Nothing, "existing::what_is_no_kubeconfig_is_told", what_is_no_kubeconfig_is_told),
    (
        Needs::Namespaces,
        "existing::nodes_and_networks_of_other_names_will_do",
        nodes_and_networks_of_other_names_will_do,
    ),
    (Needs::Namespaces, "existing::what_is_in_use_is_left_alone", what_is_in_use_is_left_alone),
    (Needs::Namespaces, "existing::an_image_that_cannot_be_pulled_is_told", an_image_that_cannot_be_pulled),
    (Needs::Namespaces, "existing::a_killed_run_leaves_nothing_that_gc_does_not_find", a_killed_run),
];

/// A cluster that nobody made for a scenario: other names, other networks, a worker more than most scenarios have.
const FOREIGN: &str = "
apiVersion: cknet/v1
kind: Scenario
metadata: {id: foreign.cluster, title: A cluster, kind: pattern, severity: minor, tags: [cidr], docs: canonical-kubernetes-networking.md#pattern-2-custom-network-cidrs}
claims: [{id: pods, text: \"Uses custom pod-cidr\"}]
requires: {capabilities: [overlay, custom-cidrs], fidelity: model}
topology:
  segments: {rack: {cidr: 10.99.7.0/24}}
  nodes:
    north: {role: control-plane, nics: {eth0: {segment: rack, address: 10.99.7.5}}}
    south: {role: worker, nics: {eth0: rack}}
    west: {role: worker, nics: {eth0: rack}}
cluster: {podCidr: 10.44.0.0/16, serviceCidr: 10.55.0.0/24}
workloads:
  server: {node: south, listen: [8080/tcp]}
  client: {node: north}
phases:
  - id: made
    expect:
      - {id: reached, claim: pods, connectivity: {from: client, to: server, port: 8080/tcp, is: allowed}, within: 10s}
sabotage:
  - {id: other-pods, do: {extraStep: {before: made, step: {workload: {remove: [server]}}}}, mustFail: made/reached}
";

impl Workplace {
    /// Makes a cluster that goes on by itself; its kubeconfig.
    fn foreign_cluster(&self) -> PathBuf {
        let suite = self.path("foreign/scenarios");
        fs::create_dir_all(suite.join("foreign")).unwrap();
        fs::write(suite.join("foreign/cluster.yaml"), FOREIGN).unwrap();
        let fixtures = suite.with_file_name("fixtures");
        std::os::unix::fs::symlink(crate::workplace::repository().join("fixtures"), fixtures).unwrap();
        let words = ["up", "foreign.cluster", "--scenarios", suite.to_str().unwrap()];
        self.run(words).expect(0);
        until("its kubeconfig", SOON, || {
            self.runs().into_iter().map(|run| run.join("up.kubeconfig")).find(|path| path.is_file())
        })
    }
}

/// Does something with the objects of a cluster.
fn with_objects<T, F: Future<Output = T>>(kubeconfig: &Path, work: impl FnOnce(Objects) -> F) -> T {
    let text = fs::read_to_string(kubeconfig).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async move { work(Objects::new(connect(&text).await.unwrap(), None)).await })
}

/// Everything in the cluster that somebody could miss, by kind, place and uid.
fn inventory(kubeconfig: &Path) -> BTreeSet<String> {
    with_objects(kubeconfig, |objects| async move {
        let mut all = BTreeSet::new();
        for (version, kind) in [
            ("v1", "Namespace"),
            ("v1", "Pod"),
            ("v1", "Service"),
            ("v1", "ConfigMap"),
            ("networking.k8s.io/v1", "NetworkPolicy"),
            ("crd.projectcalico.org/v1", "IPPool"),
        ] {
            for object in objects.list(version, kind, None, None).await.unwrap() {
                let of = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_string();
                let labels = object["metadata"]["labels"].to_string();
                all.insert(format!("{kind} {}/{} {} {labels}", of("namespace"), of("name"), of("uid")));
            }
        }
        all
    })
}

fn apply(kubeconfig: &Path, object: &Value) {
    with_objects(kubeconfig, |objects| async move { objects.apply(object).await.unwrap() });
}

fn what_is_no_kubeconfig_is_told() {
    let workplace = Workplace::new();
    let write = |name: &str, server: &str| {
        let path = workplace.path(name);
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": server}}],
            "users": [{"name": "me", "user": {"token": "t"}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        });
        fs::write(&path, config.to_string()).unwrap();
        path.display().to_string()
    };
    // Nobody listens on that port of this machine.
    let silent = write("silent", "https://127.0.0.1:9");
    fs::write(workplace.path("broken"), "{").unwrap();
    let broken = workplace.path("broken").display().to_string();
    for (words, code, said) in [
        (vec!["--kubeconfig", "/nowhere"], 2, "cannot use the kubeconfig `/nowhere`"),
        (vec!["--kubeconfig", &broken], 2, "cannot use the kubeconfig"),
        (vec!["--kubeconfig", &silent, "--context", "there"], 2, "no context `there`; it has: here"),
        (vec!["--kubeconfig", &silent, "--distribution", "reference"], 2, "says what is installed"),
        (vec!["--kubeconfig", &silent, "--provider", "lxd"], 2, "cannot be used with"),
        (vec!["--context", "here"], 2, "--kubeconfig"),
        (vec!["--kubeconfig", &silent], 3, "the cluster does not answer"),
    ] {
        let refused = workplace.run(["run", "policy.deny-all-ingress"].into_iter().chain(words.clone())).expect(code);
        assert!(refused.stderr.contains(said), "{words:?}: {}", refused.stderr);
    }
    assert!(workplace.runs().is_empty(), "nothing was begun");
}

fn nodes_and_networks_of_other_names_will_do() {
    let workplace = Workplace::new();
    let kubeconfig = workplace.foreign_cluster();
    let before = inventory(&kubeconfig);
    let scenarios =
        ["policy.deny-all-ingress", "policy.ip-blocks", "policy.services", "policy.dns", "firewall", "cni", "proxy"];
    let reports = workplace.reports().display().to_string();
    let place = ["--kubeconfig", kubeconfig.to_str().unwrap(), "--reports", &reports];
    let ended = workplace.run(["run"].into_iter().chain(scenarios).chain(place)).expect(0);
    // Nothing on the nodes themselves can be changed, and no address of the document's is guessed.
    for reason in [
        "requires node-firewall",
        "requires node-commands",
        "the address 10.152.183.10, which is in none of the cluster's networks",
    ] {
        assert!(ended.stdout.contains(reason), "{}", ended.stdout);
    }
    assert!(ended.stdout.contains("fidelity  model"), "a model stays one, wherever it is found: {}", ended.stdout);
    let outcomes = workplace.outcomes();
    assert_eq!(outcomes["deny/nobody-gets-in"], "pass", "{outcomes:?}");
    assert_eq!(before, inventory(&kubeconfig));
    workplace.run(["down"]).expect(0);
    workplace.await_nothing_left();
}

fn what_is_in_use_is_left_alone() {
    let workplace = Workplace::new();
    let kubeconfig = workplace.foreign_cluster();
    apply(&kubeconfig, &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "production"}}));
    let config =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "precious", "namespace": "production"}});
    apply(&kubeconfig, &config);
    let before = inventory(&kubeconfig);
    let path = kubeconfig.to_str().unwrap();
    let ended = workplace.run(["run", "policy.deny-all-ingress", "--kubeconfig", path]).expect(4);
    let reason = "requires namespace `production` for itself; there is something in it already";
    assert!(ended.stdout.contains(reason), "{}", ended.stdout);
    assert_eq!(before, inventory(&kubeconfig));
    workplace.run(["down"]).expect(0);
}

fn an_image_that_cannot_be_pulled() {
    let workplace = Workplace::new();
    let kubeconfig = workplace.foreign_cluster();
    let before = inventory(&kubeconfig);
    let place = ["--kubeconfig", kubeconfig.to_str().unwrap(), "--probe-image", "registry.lab/no/such:v1"];
    let ended = workplace.run(["run", "policy.deny-all-ingress"].into_iter().chain(place)).expect(3);
    let said = "does not get its image: Pending: ErrImagePull";
    assert!(ended.stdout.contains(said) && ended.stdout.contains("registry.lab/no/such:v1"), "{}", ended.stdout);
    assert_eq!(before, inventory(&kubeconfig), "nothing is left");
    workplace.run(["down"]).expect(0);
}

fn a_killed_run() {
    let workplace = Workplace::new();
    let kubeconfig = workplace.foreign_cluster();
    let before = inventory(&kubeconfig);
    let reports = workplace.reports().display().to_string();
    let path = kubeconfig.to_str().unwrap();
    let words = ["run", "policy.deny-all-ingress", "--kubeconfig", path, "--reports", &reports];
    let mut run = workplace.start(workplace.cknet(words));
    workplace.await_event("expectation-judged", &mut run);
    run.signal(Signal::SIGKILL);
    run.child.wait().unwrap();
    assert_ne!(before, inventory(&kubeconfig), "it was in the middle of its work");
    let second = workplace.run(["run", "policy.deny-all-ingress", "--kubeconfig", path]).expect(3);
    assert!(second.stderr.contains("is at work on this cluster, or was killed"), "{}", second.stderr);
    let collected = workplace.run(["gc"]).expect(0);
    assert!(collected.stdout.contains("dead; removed c0-0, closed"), "{}", collected.stdout);
    assert_eq!(before, inventory(&kubeconfig));
    workplace.run(["run", "policy.deny-all-ingress", "--kubeconfig", path]).expect(0);
    assert_eq!(before, inventory(&kubeconfig));
    workplace.run(["down"]).expect(0);
    workplace.await_nothing_left();
}
