//! What a failure leaves for those who come when the machines are gone: a bounded folder without secrets, named by every
//! report. What does not fail leaves nothing.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::workplace::{SOON, Workplace, until};
use crate::{Case, Needs};

pub const TRIALS: &[Case] = &[
    (Needs::Namespaces, "evidence::a_failure_leaves_what_the_machines_looked_like", a_failure_leaves_a_bundle),
    (Needs::Namespaces, "evidence::what_is_expected_leaves_nothing", what_is_expected_leaves_nothing),
    (Needs::Namespaces, "evidence::a_proof_leaves_nothing", a_proof_leaves_nothing),
    (Needs::Root, "evidence::a_cluster_that_was_not_made_leaves_its_error", a_cluster_that_was_not_made),
];

/// A password that a step puts where the bundle is gathered from.
const PASSWORD: &str = "s3cr3t-of-the-proxy";

/// Plants what must not be found: a node's own credentials in a log, a password in an object's notes, a Secret.
const PLANT: &str = "      - nodeRun: {node: w1, argv: [cp, /etc/kubernetes/kubelet.conf, /run/cknet/log/planted.log]}
      - apply:
          - apiVersion: v1
            kind: Service
            metadata: {name: noted, annotations: {proxy: \"http://ann:PASSWORD@10.0.0.1:3128\"}}
            spec: {ports: [{port: 80}]}
          - apiVersion: v1
            kind: Secret
            metadata: {name: hidden}
            stringData: {word: PASSWORD}";

fn run(workplace: &Workplace, suite: &Path, code: i32) -> String {
    let mut command = workplace.cknet(["run", "--scenarios"]);
    command.arg(suite).arg("--reports").arg(workplace.reports());
    let ended = workplace.start(command).ended(SOON * 2).expect(code);
    workplace.await_nothing_left();
    ended.stdout
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

fn read(folder: &Path, path: &str) -> String {
    fs::read_to_string(folder.join(path)).unwrap_or_else(|error| panic!("{path}: {error}; {:#?}", files(folder)))
}

fn a_failure_leaves_a_bundle() {
    let workplace = Workplace::new();
    let steps = PLANT.replace("PASSWORD", PASSWORD);
    let stdout = run(&workplace, &workplace.suite_that_fails(&steps, ""), 1);
    let bundle = workplace.reports().join("evidence/faults.fail/deny");
    for (file, words) in [
        ("index.txt", "nodes/w1/facts.json"),
        ("nodes/w1/facts.json", "vxlan.calico"),
        ("nodes/cp1/rules.txt", "table ip calico"),
        ("nodes/w1/drops.json", "["),
        ("nodes/cp1/log/control-plane.log", "controllers"),
        ("nodes/w1/pods/production.server.json", "169.254.1.1"),
        ("api/pods.txt", "calico-node"),
        ("api/nodes.yaml", "192.168.60.12"),
        ("api/events.txt", "Scheduled"),
        ("api/networkpolicies.yaml", "deny-all-ingress"),
        ("api/endpointslices.yaml", "kube-dns"),
        ("api/calico.yaml", "IPPool"),
        ("logs/production.server.probe.log", ""),
    ] {
        assert!(read(&bundle, file).contains(words), "`{words}` is not in {file}: {}", read(&bundle, file));
    }
    // Both cases of the phase that fail name one bundle; the phase that holds has none.
    assert_eq!(fs::read_dir(bundle.parent().unwrap()).unwrap().count(), 1);
    assert_eq!(stdout.matches("  evidence  evidence/faults.fail/deny/ (bundle)").count(), 2, "{stdout}");
    named_by_every_report(&workplace);
    holds_no_secret(&workplace, &bundle);
}

/// JUnit and page name a file that is there, and so do the events.
fn named_by_every_report(workplace: &Workplace) {
    let index = "evidence/faults.fail/deny/index.txt";
    assert!(workplace.reports().join(index).is_file());
    let junit = read(&workplace.reports(), "TEST-cknet-all.xml");
    let document = roxmltree::Document::parse(&junit).unwrap();
    let failed = document.descendants().filter(|node| node.has_tag_name("failure")).map(|node| node.parent().unwrap());
    let failed: Vec<_> = failed.collect();
    assert_eq!(failed.len(), 2, "{junit}");
    for case in failed {
        let property = case.descendants().find(|node| node.attribute("name") == Some("attachment")).unwrap();
        assert_eq!(property.attribute("value"), Some(index));
        let output = case.children().find(|node| node.has_tag_name("system-out")).and_then(|node| node.text());
        assert_eq!(output.unwrap().lines().next(), Some(format!("[[ATTACHMENT|{index}]]").as_str()));
    }
    let page = read(&workplace.reports(), "report.html");
    assert_eq!(page.matches(&format!("<a href=\"{index}\">")).count(), 2);
    let judged = workplace.events().into_iter().filter(|event| event["outcome"]["is"] == "fail");
    for event in judged {
        assert_eq!(event["outcome"]["failure"]["evidence"][0]["path"], index, "{event}");
    }
}

fn holds_no_secret(workplace: &Workplace, bundle: &Path) {
    let planted = read(bundle, "nodes/w1/log/planted.log");
    assert!(planted.contains("\"token\": \"***\""), "{planted}");
    assert!(read(bundle, "api/services.yaml").contains("http://***@10.0.0.1:3128"));
    for file in files(&workplace.reports().join("evidence")) {
        let text = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
        for secret in [PASSWORD, "PRIVATE KEY", "kind: Secret"] {
            assert!(!text.contains(secret), "{} holds `{secret}`", file.display());
        }
    }
}

/// Verdicts that were to be expected, of both kinds; evidence of a run before is gone with its reports.
fn what_is_expected_leaves_nothing() {
    let workplace = Workplace::new();
    run(&workplace, &workplace.suite_that_fails("", ""), 1);
    assert!(workplace.reports().join("evidence").is_dir());
    let known = "expectFailure:\n  - {expectation: deny/wrong, reason: It is, reference: https://example.com}\n  \
                 - {expectation: deny/wrong-too, reason: It is, reference: https://example.com}\n";
    let stdout = run(&workplace, &workplace.suite_that_fails("", known), 0);
    assert!(stdout.contains("2 failed as expected"), "{stdout}");
    assert!(!workplace.reports().join("evidence").exists(), "{:#?}", files(&workplace.reports()));
    assert!(!stdout.contains("evidence"), "{stdout}");
}

fn a_proof_leaves_nothing() {
    let workplace = Workplace::new();
    let mut command = workplace.cknet(["prove", "--scenarios"]);
    command.arg(workplace.suite_that_fails("", "")).arg("faults.fail");
    // What fails as it stands is proof of nothing.
    workplace.start(command).ended(SOON * 2).expect(1);
    let left = files(&workplace.state()).into_iter().find(|file| file.to_string_lossy().contains("evidence"));
    assert_eq!(left, None);
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn a_cluster_that_was_not_made() {
    let workplace = Workplace::new();
    let mut command = workplace.cknet(["run", "policy.deny-all-ingress", "--reports"]);
    command.arg(workplace.reports());
    let mut run = workplace.start(command);
    workplace.await_event("cluster-acquiring", &mut run);
    until("a fabric with nodes", SOON, || {
        let nodes = workplace.processes_of("control-plane");
        nodes.first().map(|_| ())
    });
    for fabric in workplace.processes_of(" fabric") {
        fabric.signal(Signal::SIGKILL);
    }
    run.ended(SOON * 2).expect(3);
    workplace.await_nothing_left();
    let failed = workplace.events().into_iter().find(|event| event["event"] == "cluster-failed").unwrap();
    let path = failed["evidence"][0]["path"].as_str().unwrap_or_else(|| panic!("{failed}")).to_string();
    let error = workplace.reports().join(&path).with_file_name("error.txt");
    let told = format!("cluster {}: {}", text(&failed["cluster"]), text(&failed["message"]));
    assert_eq!(fs::read_to_string(error).unwrap().trim(), told.trim());
    // It is the error of all cases, and their evidence.
    let errors = workplace.events().into_iter().filter(|event| event["outcome"]["is"] == "error");
    let paths: Vec<Value> = errors.map(|event| event["detail"]["evidence"][0]["path"].clone()).collect();
    assert!(paths.len() == 6 && paths.iter().all(|named| *named == path), "{paths:?}");
}
