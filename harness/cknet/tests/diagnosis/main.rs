//! Each fault is made on a real cluster of the reference distribution, and the diagnosis has to name the right hop,
//! the right cause and the document's advice. All faults share one run of `faults.yaml`; each is one trial.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use libtest_mimic::{Arguments, Trial};
use serde_json::Value;

/// The expectation that the fault refutes; where the flow was last seen and where not, with a way back marked by `<`;
/// what is in the cause; the anchor of the advice.
type Fault = (&'static str, &'static str, &'static str, Option<&'static str>);

const OPEN: Option<&str> = Some("-correct-open-udp-4789");
const PORTS: Option<&str> = Some("required-ports");
const SILENT_PODS: Option<&str> = Some("issue-pods-cannot-communicate");
const NO_POLICY: Option<&str> = Some("issue-networkpolicy-not-working");
const ENFORCED: Option<&str> = Some("pattern-3-networkpolicy-enforcement");

/// What the diagnosis says where the tunnel's packets come to w1 and go no further there.
const NOT_OPENED: &str = "entering w1 eth0 | entering w1 vxlan.calico";
const NOT_WRAPPED: &str = "leaving cp1 vxlan.calico | leaving cp1 eth0";
const NOT_ARRIVED: &str = "leaving cp1 eth0 | entering w1 eth0";
const NOT_INTO_TUNNEL: &str = "entering w1 cali* | leaving w1 vxlan.calico";

const FAULTS: &[Fault] = &[
    ("tunnel-blocked-on-arrival/flow", NOT_OPENED, "cknet_firewall input of w1 ends it: udp dport 4789", OPEN),
    ("tunnel-blocked-on-arrival/datagram", NOT_OPENED, "cknet_firewall input of w1 ends it: udp dport 4789", OPEN),
    ("tunnel-blocked-on-arrival/table", NOT_OPENED, "cknet_firewall input of w1 ends it: udp dport 4789", OPEN),
    ("tunnel-blocked-on-arrival/service", NOT_OPENED, "cknet_firewall input of w1 ends it: udp dport 4789", OPEN),
    ("tunnel-blocked-first-of-all/flow", NOT_OPENED, "ip early raw of w1 ends it: early", None),
    ("answers-blocked/flow", "< entering cp1 eth0 | entering cp1 vxlan.calico", "cknet_firewall input of cp1", OPEN),
    ("tunnel-blocked-on-leaving/flow", NOT_WRAPPED, "cknet_firewall output of cp1 ends it: udp dport 4789", OPEN),
    ("port-of-a-node-blocked/flow", "entering w1 eth0 | leaving w1 eth0", "of w1 ends it: tcp dport 10250", PORTS),
    ("port-of-a-node-blocked/from-a-pod", "entering w1 eth0 | leaving w1 eth0", "w1 ends it: tcp dport 10250", PORTS),
    ("no-server/flow", "entering w1 eth0 |", "nothing listens on 9999/tcp of node w1", None),
    (
        "denied/flow",
        "entering w1 vxlan.calico | leaving w1 cali*",
        "no rule of cali-pi-default.deny-all allows",
        ENFORCED,
    ),
    (
        "policy-elsewhere/flow",
        "|",
        "namespace default, where server runs, has no NetworkPolicy; `deny-all` is in namespace elsewhere",
        NO_POLICY,
    ),
    ("pod-gone/flow", "entering w1 vxlan.calico | leaving w1 cali*", "the pod default/doomed is gone", SILENT_PODS),
    ("too-large/whole", NOT_ARRIVED, "has 1500 bytes there, and the MTU of eth0 on w1 is 1400", None),
    ("nic-down/flow", NOT_ARRIVED, "the device eth0 of w1 is down", None),
    ("agent-gone/flow", "|", "calico-node does not run on w1", NO_POLICY),
    (
        "wrong-entry/flow",
        NOT_WRAPPED,
        "leads to 192.168.60.99, which is not an address of w1 (192.168.60.12)",
        SILENT_PODS,
    ),
    ("no-entry/flow", NOT_WRAPPED, "vxlan.calico of cp1 has no forwarding entry", SILENT_PODS),
    ("no-route/flow", "entering cp1 cali* | leaving cp1 vxlan.calico", "cp1 has no route to 10.1.", SILENT_PODS),
    (
        "device-down/flow",
        NOT_INTO_TUNNEL,
        "vxlan.calico of w1 is down; calico-node, which would mend that",
        SILENT_PODS,
    ),
    ("device-gone/flow", NOT_INTO_TUNNEL, "there is no device vxlan.calico on w1", SILENT_PODS),
];

fn main() {
    let required = std::env::var("CKNET_REQUIRE").is_ok_and(|list| list.split(',').any(|item| item == "netns"));
    let missing = if !succeeds("unshare", &["-Urnpm", "--fork", "true"]) {
        Some("needs namespaces")
    } else if !succeeds("nft", &["--version"]) {
        Some("needs nft")
    } else {
        None
    };
    let kind = missing.filter(|_| !required);
    let trial = |fault: &'static Fault| {
        let test = move || {
            of(fault);
            Ok(())
        };
        Trial::test(fault.0, test).with_kind(kind.unwrap_or_default()).with_ignored_flag(kind.is_some())
    };
    let mut trials: Vec<Trial> = FAULTS.iter().map(trial).collect();
    let controls = || {
        controls();
        Ok(())
    };
    trials.push(Trial::test("controls", controls).with_ignored_flag(kind.is_some()));
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// Judges what was said of one fault.
fn of((name, hop, cause, advice): &Fault) {
    let outcome = outcome(name);
    let failure = &outcome["failure"];
    let lost = &failure["lostAt"];
    let spot = |seen: &Value| {
        let text = |key: &str| seen[key].as_str().unwrap_or_default();
        let device = if text("device").starts_with("cali") { "cali*" } else { text("device") };
        format!("{} {} {device}", text("direction"), text("node")).trim().to_string()
    };
    let back = if lost["answer"] == true { "< " } else { "" };
    let found = format!("{back}{} | {}", spot(&lost["lastSeen"]), spot(&lost["next"]));
    assert_eq!(found.trim(), *hop, "{failure:#}");
    assert!(failure["cause"].as_str().unwrap_or_default().contains(cause), "no `{cause}` in {failure:#}");
    let anchor = failure["advice"]["docs"].as_str().and_then(|docs| Some(docs.split_once('#')?.1));
    assert_eq!(anchor, *advice, "{failure:#}");
}

/// What has nothing to do with the fault of its phase gets through.
fn controls() {
    for name in
        ["sound/flow", "denied/control", "policy-elsewhere/control", "agent-gone/control", "device-down/control"]
    {
        assert_eq!(outcome(name)["is"], "pass", "{name}: {:#}", outcome(name));
    }
}

fn outcome(name: &str) -> &'static Value {
    static TOLD: OnceLock<BTreeMap<String, Value>> = OnceLock::new();
    let told = TOLD.get_or_init(run);
    told.get(name).unwrap_or_else(|| panic!("nothing was judged as `{name}`: {:?}", told.keys()))
}

/// Runs the faults once; the outcome of each expectation.
fn run() -> BTreeMap<String, Value> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let area = folder.path().join("scenarios/faults");
    std::fs::create_dir_all(&area).unwrap();
    std::fs::write(area.join("diagnosed.yaml"), include_str!("faults.yaml")).unwrap();
    std::os::unix::fs::symlink(repository.join("fixtures"), folder.path().join("fixtures")).unwrap();
    let reports = folder.path().join("reports");
    let output = Command::new(env!("CARGO_BIN_EXE_cknet"))
        .args(["run", "--scenarios"])
        .arg(folder.path().join("scenarios"))
        .arg("--reports")
        .arg(&reports)
        .env("CKNET_STATE", folder.path().join("state"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let events =
        std::fs::read_to_string(reports.join("events.ndjson")).unwrap_or_else(|error| panic!("{error}: {said}"));
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let judged = events.filter(|event| event["event"] == "expectation-judged");
    judged
        .map(|event| {
            let text = |key: &str| event["case"][key].as_str().unwrap().to_string();
            (format!("{}/{}", text("phase"), text("expectation")), event["outcome"].clone())
        })
        .collect()
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
