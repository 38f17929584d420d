//! The suite in `scenarios/` is sound, and the committed schema is that of the types.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use cknet::scenario::model::{Action, Capability, Change, Check, ExpectationRef, FirewallChange, Lacks};
use cknet::scenario::{
    Filter, Fixtures, LateFact, Profile, Roots, Scenario, check, load_bytes, locate, read_suite, schema,
};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

fn fixtures(profile: &str) -> Fixtures {
    let profile = Profile::embedded(profile).unwrap().unwrap();
    Fixtures::open(&repository().join("fixtures"), profile).unwrap_or_else(|wrong| panic!("{wrong}"))
}

#[test]
fn the_suite_is_sound() {
    let roots = Roots::find(None, &repository()).unwrap();
    let found = locate(&roots, &Filter::default()).unwrap();
    let scenarios = read_suite(&found, &fixtures("reference")).unwrap_or_else(|wrong| panic!("{wrong}"));
    let ids: Vec<&str> = scenarios.iter().map(|scenario| scenario.id().as_str()).collect();
    for id in [
        "cidr.custom-cidrs",
        "cidr.default-cidrs",
        "firewall.vxlan-port-blocked",
        "interfaces.overlay-on-second-nic",
        "policy.deny-all-ingress",
    ] {
        assert!(ids.contains(&id), "{id} is missing: {ids:?}");
    }
}

/// `UPDATE_SCHEMA=1` writes the file instead.
#[test]
fn the_committed_schema_is_current() {
    let path = repository().join("fixtures/scenario.schema.json");
    let current = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &current).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == current,
        "fixtures/scenario.schema.json is not that of the types; write it with UPDATE_SCHEMA=1"
    );
}

/// Reads one scenario of the suite.
fn scenario(id: &str, profile: &str) -> Scenario {
    let roots = Roots::find(None, &repository()).unwrap();
    let filter = Filter { words: vec![id.to_owned()] };
    let found = locate(&roots, &filter).unwrap();
    assert_eq!(found.len(), 1);
    read_suite(&found, &fixtures(profile)).unwrap_or_else(|wrong| panic!("{wrong}")).remove(0)
}

fn check_of<'s>(scenario: &'s Scenario, name: &str) -> &'s Check {
    &scenario.expectation(&name_of(scenario, name)).unwrap().check
}

fn name_of(scenario: &Scenario, name: &str) -> ExpectationRef {
    let (phase, expectation) = name.split_once('/').unwrap();
    let phase = scenario.phase(&phase.parse().unwrap()).unwrap();
    ExpectationRef { phase: phase.id.clone(), expectation: expectation.parse().unwrap() }
}

#[test]
fn references_to_the_cni_follow_the_profile() {
    for (profile, ports) in [("reference", "4789/udp"), ("cilium", "8472/udp")] {
        let roots = Roots::find(None, &repository()).unwrap();
        let filter = Filter { words: vec!["interfaces.overlay-on-second-nic".to_owned()] };
        let found = locate(&roots, &filter).unwrap();
        let scenario = read_suite(&found, &fixtures(profile)).unwrap().remove(0);
        let Action::Firewall(firewall) = &scenario.phases[1].steps[0].action else { panic!("no firewall") };
        assert_eq!(firewall.ports[0].to_string(), ports);
        assert_eq!(firewall.change, FirewallChange::Drop);
        assert_eq!(firewall.nic.as_ref().unwrap().as_str(), "eth0");
    }
}

/// A scenario that asks for what a CNI does not have says so instead of looking for something else.
#[test]
fn what_a_cni_does_not_have_is_told() {
    let lacks = |id: &str, profile: &str| scenario(id, profile).lacks;
    let blocked = lacks("firewall.vxlan-port-blocked", "cilium");
    assert_eq!(blocked.whole, None, "the rest of it can be judged");
    let rest = scenario("firewall.vxlan-port-blocked", "cilium");
    let Action::Firewall(firewall) = &rest.phases[0].steps[0].action else { panic!("no firewall") };
    assert_eq!(firewall.ports[0].to_string(), "8472/udp", "and is about this CNI");
    let told: Vec<_> = blocked.expectations.iter().map(|(named, why)| format!("{named}: {why}")).collect();
    assert_eq!(told, ["wrong/device: refers to `${cni.overlayVni}`: this CNI has no fixed VNI"]);
    assert_eq!(lacks("firewall.vxlan-port-blocked", "calico"), Lacks::default());
    // A step that cannot be done leaves nothing to judge.
    let patched = lacks("modes.bgp-patches-as-written", "cilium").whole;
    assert_eq!(patched.unwrap(), "refers to `${cni.defaultPool}`: this CNI has no IP pool from the start");
}

/// A run over the whole suite skips what the cluster cannot be asked, and never ends for it.
#[test]
fn every_scenario_can_be_read_for_every_cni() {
    let roots = Roots::find(None, &repository()).unwrap();
    let found = locate(&roots, &Filter::default()).unwrap();
    for profile in Profile::embedded_names() {
        let scenarios = read_suite(&found, &fixtures(profile)).unwrap_or_else(|wrong| panic!("{profile}: {wrong}"));
        assert_eq!(scenarios.len(), found.len());
        let lacking = scenarios.iter().filter(|scenario| scenario.lacks != Lacks::default()).count();
        // Only the reference has everything.
        assert!(profile != "reference" || lacking == 0, "{profile}: {lacking}");
    }
}

/// Whoever writes a scenario is told where it asks for what Calico alone has.
#[test]
fn a_choice_of_calicos_and_an_object_of_its_own_need_the_capability() {
    for (id, line) in [("interfaces.interface-down", "cluster: {"), ("modes.bgp-patches-as-written", "- patch: {")] {
        let written = scenario(id, "reference");
        let text = std::fs::read_to_string(repository().join(&written.file)).unwrap().replacen(", calico]", "]", 1);
        let file = load_bytes(text, &written.file, &fixtures("reference")).unwrap();
        let wrong = check(vec![file], &fixtures("reference")).unwrap_err().to_string();
        assert!(wrong.contains("this needs the capability `calico`") && wrong.contains(line), "{wrong}");
    }
}

/// Calico's own objects and annotations mean nothing to another CNI. What the document claims of a cluster with its
/// built-in CNI is asked of each.
#[test]
fn what_only_calico_understands_requires_it() {
    const CLAIMS: [&str; 5] = [
        "baseline.built-in-cni",
        "cidr.custom-cidrs",
        "deployment.custom-block",
        "deployment.default-block",
        "deployment.same-in-both-modes",
    ];
    let roots = Roots::find(None, &repository()).unwrap();
    let found = locate(&roots, &Filter::default()).unwrap();
    for scenario in read_suite(&found, &fixtures("reference")).unwrap() {
        let text = std::fs::read_to_string(repository().join(&scenario.file)).unwrap();
        let calicos = ["crd.projectcalico.org/v1", "projectcalico.org/IPv4", "name: calico-node, env"];
        let own = calicos.iter().any(|word| text.contains(word)) && !text.contains("flavour:");
        let id = scenario.id().to_string();
        let required = scenario.requires.capabilities.contains(&Capability::Calico);
        assert!(!own || required || CLAIMS.contains(&id.as_str()), "{id} needs the capability `calico`");
    }
}

#[test]
fn addresses_and_late_facts_are_filled_in() {
    let scenario = scenario("interfaces.overlay-on-second-nic", "reference");
    let Check::Resource(node) = check_of(&scenario, "chosen/announced-address") else { panic!("no resource") };
    let written = node.matches.as_ref().unwrap().written().to_string();
    assert!(written.contains("192.168.70.12/24"), "{written}");

    let Check::Routes(route) = check_of(&scenario, "chosen/route") else { panic!("no route") };
    let known = |fact: &LateFact| match fact {
        LateFact::NodePodBlock(node) if *node == "w1" => Some("10.1.5.64/26".to_owned()),
        LateFact::NodeTunnelAddress(node) if *node == "w1" => Some("10.1.5.64".to_owned()),
        _ => None,
    };
    assert_eq!(route.destination.resolve(&known).unwrap().to_string(), "10.1.5.64/26");
    assert_eq!(route.via.as_ref().unwrap().resolve(&known).unwrap().to_string(), "10.1.5.64");
    assert_eq!(route.dev.as_ref().unwrap().fixed().unwrap(), "vxlan.calico");
    let unknown = route.destination.resolve(&|_| None).unwrap_err().to_string();
    assert_eq!(unknown, "`${node.w1.podBlock}` is not known yet");
    let bad = route.destination.resolve(&|_| Some("10.1.5".to_owned())).unwrap_err().to_string();
    assert!(bad.starts_with("`10.1.5` (from `${node.w1.podBlock}`): "), "{bad}");
}

#[test]
fn a_sabotage_changes_only_what_it_names() {
    let scenario = scenario("cidr.custom-cidrs", "reference");
    let Change::Cluster(change) = &scenario.sabotage[0].change else { panic!("no cluster") };
    assert_eq!(change.0.pod_cidr.to_string(), "10.1.0.0/16");
    assert_eq!(change.0.service_cidr, scenario.cluster.service_cidr);
    assert_eq!(scenario.sabotage[0].must_fail, name_of(&scenario, "bootstrapped/pool"));
}

#[test]
fn a_matrix_is_printed_as_it_is_written() {
    let scenario = scenario("policy.deny-all-ingress", "reference");
    let Check::Matrix(matrix) = check_of(&scenario, "deny/nobody-gets-in") else { panic!("no matrix") };
    let text = std::fs::read_to_string(repository().join(&scenario.file)).unwrap();
    let written: Vec<&str> = text.lines().map(str::trim).collect();
    for (row, line) in matrix.table().lines().skip(1).enumerate() {
        assert_eq!(written[matrix.lines[row] - 1], line);
    }
    let flows: Vec<_> = matrix.flows().collect();
    assert_eq!(flows.len(), 16);
    assert_eq!(flows[4].from.to_string(), "other");
    assert_eq!(flows[5].port.to_string(), "9090/tcp");
    let seen = matrix.table_of(|row, column| format!("{row}.{column}"));
    assert!(seen.ends_with("node:w1   3.0               3.1               3.2            3.3\n"), "{seen}");
}

/// The suite is read whenever somebody types a command: it must not be felt.
#[test]
fn a_hundred_files_are_read_in_a_moment() {
    let roots = Roots::find(None, &repository()).unwrap();
    let found = locate(&roots, &Filter::default()).unwrap();
    let files: Vec<(String, Vec<u8>)> =
        found.iter().map(|one| (one.name.clone(), std::fs::read(&one.path).unwrap())).collect();
    let fixtures = fixtures("reference");
    let round = || {
        let start = std::time::Instant::now();
        let read = files.iter().cycle().take(100).map(|(name, bytes)| {
            let file = load_bytes(bytes.clone(), name, &fixtures).unwrap();
            check(vec![file], &fixtures).unwrap().len()
        });
        assert_eq!(read.sum::<usize>(), 100);
        start.elapsed()
    };
    let best = (0..5).map(|_| round()).min().unwrap();
    // Without optimisation everything is some twenty times slower.
    let limit = if cfg!(debug_assertions) { 900 } else { 30 };
    assert!(best.as_millis() <= limit, "100 files took {best:?}");
}

/// The points of the checklist, each with the expectations that cover it. `UPDATE_COVERAGE=1` writes the file instead.
#[test]
fn the_committed_coverage_is_current() {
    let fixtures = fixtures("reference");
    let roots = Roots::find(None, &repository()).unwrap();
    let found = locate(&roots, &Filter::default()).unwrap();
    let scenarios = read_suite(&found, &fixtures).unwrap_or_else(|wrong| panic!("{wrong}"));
    let mut text = String::from(
        "# NetworkPolicy, point by point\n\nWhich expectation covers which point of [the checklist](../fixtures/checklists/netpol.md): those that name it in `covers`. `UPDATE_COVERAGE=1 cargo test -p cknet --test scenario_suite` writes this table.\n\n| | point | covered by |\n|---|---|---|\n",
    );
    let mut bare = Vec::new();
    for (number, point) in &fixtures.checklists["netpol"] {
        let mut cases: Vec<String> = scenarios
            .iter()
            .flat_map(|scenario| scenario.expectations().map(move |(phase, one)| (scenario, phase, one)))
            .filter(|(_, _, one)| one.covers.iter().any(|of| of.list == "netpol" && of.number == *number))
            .map(|(scenario, phase, one)| format!("`{}`", scenario.case_id(phase, one)))
            .collect();
        cases.sort();
        if cases.is_empty() {
            bare.push(*number);
        }
        text.push_str(&format!("| {number} | {point} | {} |\n", cases.join("<br>")));
    }
    let path = repository().join("docs/netpol-coverage.md");
    if std::env::var_os("UPDATE_COVERAGE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == text, "docs/netpol-coverage.md is not that of the suite; write it with UPDATE_COVERAGE=1");
    assert_eq!(bare, UNCOVERED, "points that no expectation covers");
}

/// Points that nothing covers yet.
const UNCOVERED: [u16; 0] = [];

/// A second reader of JSON Schema, which knows nothing of the types, agrees about the suite and
/// refuses the bad scenarios whose fault is one of form.
#[test]
#[ignore = "needs python3 with the modules jsonschema and yaml"]
fn another_reader_understands_the_schema() {
    const SCRIPT: &str = r#"
import glob, json, re, sys, jsonschema, yaml
root = sys.argv[1]
schema = json.load(open(root + "/fixtures/scenario.schema.json"))
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)
suite = glob.glob(root + "/scenarios/*/*.yaml")
# PyYAML reads YAML 1.1, in which `on` is a boolean; scenarios are YAML 1.2.
class Reader(yaml.SafeLoader):
    pass
Reader.yaml_implicit_resolvers = {c: [(t, r) for t, r in rs if t != "tag:yaml.org,2002:bool"]
                                  for c, rs in yaml.SafeLoader.yaml_implicit_resolvers.items()}
Reader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(true|false)$"), list("tf"))
read = lambda p: yaml.load(open(p), Reader)
wrong = [p for p in suite if not validator.is_valid(read(p))]
form = ["unknown-key", "misspelt-outcome", "within-zero", "two-actions-in-one-step", "ports-out-of-range",
        "missing-api-version", "wrong-api-version", "mapping-for-text", "a-list", "empty-expect",
        "two-kinds-in-one-expectation", "unknown-action", "object-without-name", "no-value"]
path = root + "/fixtures/bad-scenarios/%s.yaml"
wrong += [p for p in form if validator.is_valid(read(path % p))]
sys.exit(f"not as expected: {wrong}" if wrong or not suite else 0)
"#;
    let output =
        std::process::Command::new("python3").args(["-c", SCRIPT, repository().to_str().unwrap()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
