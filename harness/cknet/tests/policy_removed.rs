//! What a person reads when a step is missing: copies of scenarios without one step, run by the executable.
//!
//! A trial whose needs are missing is reported as ignored with the reason, unless `CKNET_REQUIRE` names `netns`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use cknet::provider::Provider;
use cknet::provider::netns::Netns;
use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    let provider = Netns { executable: PathBuf::new(), folder: PathBuf::new() };
    let missing: Vec<String> = provider.preflight().into_iter().map(|finding| finding.what).collect();
    let required = std::env::var("CKNET_REQUIRE").is_ok_and(|list| list.split(',').any(|need| need == "netns"));
    let trial = |name: &str, test: fn()| {
        let why = if missing.is_empty() { String::new() } else { format!(" [needs: {}]", missing.join("; ")) };
        Trial::test(format!("{name}{why}"), move || -> Result<(), Failed> {
            test();
            Ok(())
        })
        .with_ignored_flag(!missing.is_empty() && !required)
    };
    let trials = vec![
        trial("without_the_policy_the_flow_the_missing_rule_and_the_way_back_are_named", without_the_policy),
        trial("without_the_second_policy_the_rule_that_denies_and_its_counter_are_named", without_the_second_policy),
        trial("a_policy_that_closes_too_much_is_not_believed_before_it_takes_effect", a_policy_too_wide),
        trial("a_misspelt_field_of_a_policy_is_refused", a_misspelt_selector),
        trial("a_closed_port_is_named_with_its_counter_and_the_control", a_closed_port),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn without_the_policy() {
    let told = run_without(
        "policy/deny-all-ingress.yaml",
        &[
            "    steps:\n      - apply: policy/deny-all-ingress.yaml\n",
            "  - id: nothing-denied\n    title: deny-all-ingress is not applied\n    do: {ignoreStep: deny/0}\n    mustFail: deny/nobody-gets-in\n",
        ],
    );
    has(&told, "FAIL policy.deny-all-ingress › deny › nobody-gets-in");
    has(&told, "! allowed, not denied");
    let rule = "other -> backend 8080/tcp: allowed: `production/other` is not isolated for egress; `production/backend` is not isolated for ingress";
    has(&told, rule);
    has(&told, "again     cknet run policy.deny-all-ingress --keep");
}

fn without_the_second_policy() {
    let told = run_without(
        "policy/deny-all-ingress.yaml",
        &[
            "    steps:\n      - apply: policy/allow-from-frontend.yaml\n",
            "  - id: nothing-allowed\n    title: allow-from-frontend is not applied\n    do: {ignoreStep: allow-from-frontend/0}\n    mustFail: allow-from-frontend/only-the-frontend\n",
        ],
    );
    has(&told, "FAIL policy.deny-all-ingress › allow-from-frontend › only-the-frontend");
    has(&told, "! dropped, not allowed");
    let rule = "frontend -> backend 8080/tcp: denied at destination `production/backend`: isolated for ingress by `deny-all-ingress`, which allows nothing";
    has(&told, rule);
    let lost = told.lines().find(|line| line.trim_start().starts_with("lost at")).unwrap_or_else(|| panic!("{told}"));
    assert!(lost.contains("ip calico ") && lost.contains(" ingress: denied"), "{lost}");
}

fn a_closed_port() {
    let told = run_without(
        "firewall/vxlan-port-blocked.yaml",
        &[
            "  - id: correct\n    steps:\n      - firewall: {nodes: all, open: \"${cni.overlayPort}/udp\"}\n",
            "  - id: never-opened\n    title: The port is not opened again\n    do: {ignoreStep: correct/0}\n    mustFail: correct/cross-node\n",
        ],
    );
    has(&told, "FAIL firewall.vxlan-port-blocked › correct › cross-node ");
    has(&told, "same-node: allowed");
    let lost = told.lines().find(|line| line.trim_start().starts_with("lost at")).unwrap_or_else(|| panic!("{told}"));
    assert!(lost.contains("w1 inet cknet_firewall input: +") && lost.contains(" drops, udp dport 4789"), "{lost}");
}

/// The flow that arrives at first, because the policy is not programmed yet, must not be taken for one that is allowed.
fn a_policy_too_wide() {
    let told = run_scenario_of_the_readme("{matchLabels: {app: db}}, policyTypes", "{}, policyTypes", 1);
    has(&told, "FAIL policy.deny-one › closed › web ");
    has(&told, "denied at destination `default/web`: isolated for ingress by `close-db`");
    assert!(!told.contains("closed › db"), "{told}");
}

fn a_misspelt_selector() {
    let told = run_scenario_of_the_readme("{podSelector:", "{podSelecter:", 3);
    has(&told, "step      apply NetworkPolicy close-db");
    has(&told, "unknown field \"spec.podSelecter\"");
}

/// Runs the scenario that README.md shows with a part of its text replaced, and returns what was told.
fn run_scenario_of_the_readme(part: &str, instead: &str, code: i32) -> String {
    let readme = include_str!("../../../README.md");
    let text = readme.split_once("```yaml\n").unwrap().1.split_once("```").unwrap().0;
    assert_eq!(text.matches(part).count(), 1, "`{part}` in:\n{text}");
    run_text("policy/deny-one.yaml", &text.replace(part, instead), code)
}

fn has(told: &str, part: &str) {
    assert!(told.contains(part), "`{part}` is not in:\n{told}");
}

/// Runs a copy of a scenario of the suite without some of its text, which must fail, and returns what was told.
fn run_without(file: &str, parts: &[&str]) -> String {
    let mut text = std::fs::read_to_string(repository().join("scenarios").join(file)).unwrap();
    for part in parts {
        // The first line of a phase stays when its steps go.
        let kept = if part.starts_with("  - id: correct\n") { "  - id: correct\n" } else { "" };
        assert_eq!(text.matches(part).count(), 1, "`{part}` must be in {file} once");
        text = text.replace(part, kept);
    }
    run_text(file, &text, 1)
}

/// Runs a suite of one scenario, and returns what was told.
fn run_text(file: &str, text: &str, code: i32) -> String {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("scenarios").join(file);
    std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(repository().join("fixtures"), folder.path().join("fixtures")).unwrap();
    std::fs::write(&copy, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_cknet"))
        .args(["run", "--scenarios"])
        .arg(folder.path().join("scenarios"))
        .env("CKNET_STATE", folder.path().join("state"))
        .output()
        .unwrap();
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{told}");
    told
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}
