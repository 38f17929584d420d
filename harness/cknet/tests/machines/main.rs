//! Providers of machines through the built binary: from launch to delete, with a stand-in for Multipass whose machines
//! are Linux namespaces (`fixtures/stand-in/multipass`) in a network of the test's own.
//!
//! Real LXD and real Vagrant are tried by `.ci/recipe machines`, where they can be installed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod hosts;
mod members;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use libtest_mimic::{Arguments, Failed, Trial};

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_cknet");

/// A scenario with two nodes on one segment.
const SCENARIO: &str = "firewall.vxlan-port-blocked";

/// A scenario after which its nodes are not what they were; one that finds such a node cannot be carried out.
const MARKING: &str = "\
apiVersion: cknet/v1
kind: Scenario
metadata:
  id: marking.NAME
  title: A node is marked
  kind: pattern
  severity: minor
  docs: canonical-kubernetes-networking.md#pattern-3-networkpolicy-enforcement
requires: {capabilities: [overlay, node-commands], fidelity: model}
topology:
  segments: {lan: {cidr: 192.168.60.0/24}}
  nodes:
    cp1: {role: control-plane, nics: {eth0: lan}}
    w1: {role: worker, nics: {eth0: lan}}
workloads:
  client: {node: cp1}
  server: {node: w1, listen: [8080/tcp]}
phases:
  - id: marked
    steps:
      - nodeRun: {node: w1, argv: [sh, -c, test ! -e /etc/marked && touch /etc/marked]}
    expect:
      - {id: allowed, connectivity: {from: client, to: server, port: 8080/tcp, is: allowed}, within: 10s}
sabotage:
  - id: closed
    title: The port is closed
    do: {extraStep: {before: marked, step: {firewall: {nodes: [w1], close: \"${cni.overlayPort}/udp\"}}}}
    mustFail: marked/allowed
";

/// What is tried, in a workplace of its own.
type Try = fn(&Workplace) -> Result<(), Failed>;

fn main() {
    let arguments = Arguments::from_args();
    let missing = missing();
    let tests: [(&str, Try); 20] = [
        ("a_scenario_passes_on_machines_and_nothing_is_left", passes),
        ("a_guest_code_of_four_comes_back_once", code_four),
        ("a_name_that_is_taken_is_told_and_left_to_its_owner", taken),
        ("a_machine_that_cannot_be_deleted_is_told_and_stays_in_the_ledger", stuck),
        ("two_runs_at_once_wait_for_each_other", two_at_once),
        ("a_launch_that_outlives_a_killed_run_is_awaited_by_gc", killed_while_launching),
        ("a_machine_runs_what_its_user_data_says", user_data),
        ("a_launch_that_timed_out_is_told_and_deleted", late),
        ("a_machine_that_gives_no_shell_is_told_with_its_state", mute),
        ("a_killed_run_is_found_by_gc", killed),
        ("without_the_daemon_the_way_to_start_it_is_told", no_daemon),
        ("without_a_bridge_the_way_to_make_one_is_told", no_bridge),
        ("answers_that_cannot_be_read_are_told", malformed),
        ("an_address_of_its_own_in_a_segment_is_told", overlap),
        ("machines_of_others_are_left_alone", others),
        ("machines_are_put_back_for_the_next_cluster", put_back),
        ("machines_that_cannot_be_put_back_are_made_anew", no_way_back),
        ("a_cluster_of_machines_is_left_running_and_taken_down", up_and_down),
        ("sabotages_are_proved_on_machines", proved),
        ("a_shell_on_a_kept_machine_is_a_shell_there", shell),
    ];
    let without_sshd = missing.clone().or_else(hosts::missing);
    let all = tests.into_iter().map(|(name, test)| (name, test, missing.clone()));
    let all = all.chain(
        [hosts::TRIALS, members::TRIALS].concat().into_iter().map(|(name, test)| (name, test, without_sshd.clone())),
    );
    let trials = all.map(|(name, test, missing)| {
        let kind = missing.clone().unwrap_or_default();
        let trial = Trial::test(name, move || test(&Workplace::new()));
        // The reason stands beside the name.
        trial.with_kind(kind).with_ignored_flag(missing.is_some())
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

/// What the stand-in lacks here.
fn missing() -> Option<String> {
    let has = |program: &str| Command::new(program).arg("--version").output().is_ok() || on_path(program);
    let lacking: Vec<&str> =
        ["bash", "unshare", "nsenter", "ip", "pgrep"].into_iter().filter(|program| !has(program)).collect();
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root".into());
    }
    (!lacking.is_empty()).then(|| format!("needs {}: apt-get install iproute2 procps util-linux", lacking.join(", ")))
}

fn on_path(program: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|folder| folder.join(program).is_file())
}

/// A state directory and a stand-in of its own.
struct Workplace {
    folder: tempfile::TempDir,
}

impl Workplace {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a script of `sh` in a network of its own with two bridges, in which `$CKNET` is the program and
    /// `multipass` the stand-in. Everything in it ends with it.
    fn script(&self, script: &str) -> Output {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
        let path = format!("{}:{}", root.join("fixtures/stand-in").display(), std::env::var("PATH").unwrap());
        let prepare = "mount -t proc proc /proc; mount -t sysfs sysfs /sys; ip link set lo up; \
                       for b in cknet0 cknet1; do ip link add $b type bridge; ip link set $b up; done;";
        Command::new("unshare")
            .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "bash", "-c"])
            .arg(format!("{prepare} {script}"))
            .current_dir(root)
            .env("PATH", path)
            .env("CKNET", EXECUTABLE)
            .env("CKNET_STATE", self.path("state"))
            .env("STAND_IN", self.path("multipass"))
            .env("SCENARIO", SCENARIO)
            .output()
            .unwrap()
    }

    /// Two scenarios that want the same cluster and spoil it.
    fn marking_suite(&self) -> PathBuf {
        let scenarios = self.path("suite/scenarios");
        std::fs::create_dir_all(scenarios.join("marking")).unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
        std::os::unix::fs::symlink(root.join("fixtures"), self.path("suite/fixtures")).unwrap();
        for name in ["one", "two"] {
            let path = scenarios.join(format!("marking/{name}.yaml"));
            std::fs::write(path, MARKING.replace("NAME", name)).unwrap();
        }
        scenarios
    }

    /// How often the stand-in was called with this verb.
    fn count(&self, verb: &str) -> usize {
        self.calls().lines().filter(|call| call.split(' ').next() == Some(verb)).count()
    }

    /// Machines that the stand-in still knows.
    fn machines(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path("multipass/machines")) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }

    fn calls(&self) -> String {
        std::fs::read_to_string(self.path("multipass/calls")).unwrap_or_default()
    }
}

fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// `true`, or a failure that shows what was said.
fn holds(what: &str, is: bool, said: &str) -> Result<(), Failed> {
    if is { Ok(()) } else { Err(format!("{what}:\n{said}").into()) }
}

fn passes(here: &Workplace) -> Result<(), Failed> {
    let output = here.script("$CKNET run $SCENARIO --provider multipass");
    let said = text(&output);
    holds("it passes", output.status.code() == Some(0), &said)?;
    holds("fidelity is told", said.contains("fidelity  dataplane"), &said)?;
    holds("no machine is left", here.machines().is_empty(), &said)?;
    let calls = here.calls();
    let launches = calls.lines().filter(|call| call.starts_with("launch ")).count();
    holds("two machines were launched", launches == 2, &calls)?;
    holds("nobody's machines were purged", !calls.lines().any(|call| call.starts_with("purge")), &calls)
}

fn code_four(here: &Workplace) -> Result<(), Failed> {
    // The stand-in would run it for ever; that it ends at all is the test.
    let script = "multipass launch 24.04 --name one --cloud-init - </dev/null >/dev/null; \
                  timeout 20 multipass exec -n one -- sudo -n sh -c 'exit 4'; echo plain $?; \
                  timeout 20 multipass exec -n one -- sudo -n sh -c \
                  \"timeout -s KILL 5 sh -c 'exit 4'; printf '\\n%s %s\\n' mark \\$? >&2; exit 0\"; echo marked $?";
    let output = here.script(script);
    let said = text(&output);
    holds("a plain command is run for ever", said.contains("plain 124"), &said)?;
    holds("one behind a mark ends", said.contains("marked 0") && said.contains("mark 4"), &said)?;
    // A step of a scenario that ends so is told with its code, and once.
    let suite = here.marking_suite();
    let path = suite.join("marking/one.yaml");
    let four = std::fs::read_to_string(&path)?.replace("test ! -e /etc/marked && touch /etc/marked", "exit 4");
    std::fs::write(path, four)?;
    let script = format!("timeout 120 $CKNET run marking.one --scenarios {} --provider multipass", suite.display());
    let output = here.script(&script);
    let said = text(&output);
    holds("the run comes to its end", output.status.code() == Some(3), &said)?;
    holds("the code is told", said.contains("exit code 4"), &said)
}

fn taken(here: &Workplace) -> Result<(), Failed> {
    // The second launch of the stand-in finds a machine of that name.
    let script = "export STAND_IN_TAKEN=w1; $CKNET run $SCENARIO --provider multipass; echo code $?";
    let output = here.script(script);
    let said = text(&output);
    holds("it is an error of the machinery", said.contains("code 3"), &said)?;
    holds("the name is told", said.contains("already exists"), &said)
}

fn stuck(here: &Workplace) -> Result<(), Failed> {
    let script = "STAND_IN_STUCK=1 $CKNET run $SCENARIO --provider multipass; echo code $?; \
                  echo left: $(ls $STAND_IN/machines | wc -l); $CKNET gc; echo gc $?";
    let output = here.script(script);
    let said = text(&output);
    holds("all held, and something is left", said.contains("code 5") && said.contains("left: 2"), &said)?;
    holds("why is told", said.contains("cannot delete"), &said)?;
    holds("gc tries again", said.contains("gc 0") && here.machines().is_empty(), &said)
}

fn two_at_once(here: &Workplace) -> Result<(), Failed> {
    let script = "for n in 1 2; do $CKNET run $SCENARIO --provider multipass >$STAND_IN.$n 2>&1 & eval run$n=$!; done; \
                  wait $run1; echo one $?; wait $run2; echo two $?; cat $STAND_IN.1 $STAND_IN.2";
    let output = here.script(script);
    let said = text(&output);
    holds("both pass", said.contains("one 0") && said.contains("two 0"), &said)?;
    holds("one tells for what it waits", said.contains("waiting for the bridge `cknet0`"), &said)?;
    holds("no machine is left", here.machines().is_empty(), &said)
}

fn killed_while_launching(here: &Workplace) -> Result<(), Failed> {
    let script = "export STAND_IN_SLOW=3; $CKNET run $SCENARIO --provider multipass >/dev/null 2>&1 & run=$!; \
                  for i in $(seq 600); do [ -e $STAND_IN/machines/*-cp1/starting ] && break; sleep 0.01; done; \
                  kill -9 $run; wait $run; echo starting: $(ls $STAND_IN/machines/*/starting); \
                  $CKNET gc; echo code $?; sleep 4; echo then: $(ls $STAND_IN/machines)";
    let output = here.script(script);
    let said = text(&output);
    holds("it was killed in the middle of a launch", said.contains("-cp1/starting"), &said)?;
    holds("gc waits for its end and deletes it", said.contains("code 0") && said.contains("then:\n"), &said)
}

fn user_data(here: &Workplace) -> Result<(), Failed> {
    let script = "printf '#cloud-config\nruncmd:\n- touch /etc/first-start\n' | \
                  multipass launch 24.04 --name one --cloud-init - >/dev/null; \
                  multipass exec -n one -- sudo -n ls /etc/first-start";
    let said = text(&here.script(script));
    holds("it did", said.contains("/etc/first-start\n"), &said)
}

fn late(here: &Workplace) -> Result<(), Failed> {
    let output = here.script("STAND_IN_LATE=1 $CKNET run $SCENARIO --provider multipass");
    let said = text(&output);
    holds("a cluster that cannot be made is an error", output.status.code() == Some(3), &said)?;
    holds("the time-out is told", said.contains("its machine may be there all the same"), &said)?;
    holds("its machine is deleted", here.machines().is_empty(), &said)
}

fn mute(here: &Workplace) -> Result<(), Failed> {
    let output = here.script("STAND_IN_MUTE=1 CKNET_MACHINE_BOOT_SECONDS=2 $CKNET run $SCENARIO --provider multipass");
    let said = text(&output);
    holds("a machine without a shell is an error", output.status.code() == Some(3), &said)?;
    holds("how long it had is told", said.contains("gave no shell within 2s of its start"), &said)?;
    holds("and what it said last", said.contains("Connection refused"), &said)?;
    holds("and what its provider says of it", said.contains("multipass info cknet-"), &said)?;
    holds("its machine is deleted", here.machines().is_empty(), &said)
}

fn killed(here: &Workplace) -> Result<(), Failed> {
    let script = "$CKNET run $SCENARIO --provider multipass >/dev/null 2>&1 & run=$!; \
                  for i in $(seq 600); do [ -e $STAND_IN/machines/*-w1/pid ] && break; sleep 0.1; done; \
                  kill -9 $run; wait $run; echo left: $(ls $STAND_IN/machines); $CKNET status; \
                  $CKNET gc; echo code $?; echo then: $(ls $STAND_IN/machines)";
    let output = here.script(script);
    let said = text(&output);
    holds("it was killed with machines there", said.contains("left: cknet-"), &said)?;
    let told = said.contains("left by a run that has ended, on multipass; remove it: cknet gc");
    holds("that is told", told, &said)?;
    holds("gc removes them", said.contains("code 0") && said.contains("then:\n"), &said)
}

fn no_daemon(here: &Workplace) -> Result<(), Failed> {
    let output = here.script("STAND_IN_NO_DAEMON=1 $CKNET run $SCENARIO --provider multipass");
    let said = text(&output);
    holds("it is an error of the machinery", output.status.code() == Some(3), &said)?;
    holds("the command is told", said.contains("snap restart multipass.multipassd"), &said)
}

fn no_bridge(here: &Workplace) -> Result<(), Failed> {
    let output = here.script("ip link delete cknet0; $CKNET run $SCENARIO --provider multipass");
    let said = text(&output);
    holds("it is an error of the machinery", output.status.code() == Some(3), &said)?;
    holds("the command is told", said.contains("ip link add cknet0 type bridge"), &said)?;
    let output = here.script(
        "ip link delete cknet0; ip link add mine type bridge; ip link set mine up; \
         $CKNET run $SCENARIO --provider multipass --machine-network mine",
    );
    holds("another bridge will do", output.status.code() == Some(0), &text(&output))
}

fn malformed(here: &Workplace) -> Result<(), Failed> {
    let output = here.script("STAND_IN_MALFORMED=networks $CKNET run $SCENARIO --provider multipass");
    let said = text(&output);
    holds("it is an error of the machinery", output.status.code() == Some(3), &said)?;
    holds("the call is told", said.contains("multipass networks --format json` answered what cannot be read"), &said)?;
    // Nobody knows what is left: that is told, the ledger stays open, and gc finds it.
    let script =
        "STAND_IN_MALFORMED=list $CKNET run $SCENARIO --provider multipass; echo code $?; $CKNET gc; echo gc $?";
    let said = text(&here.script(script));
    holds("what is left is not known", said.contains("code 5"), &said)?;
    holds("and removed later", said.contains("gc 0") && here.machines().is_empty(), &said)
}

fn overlap(here: &Workplace) -> Result<(), Failed> {
    let output = here.script("STAND_IN_OWN=192.168.60.7/24 $CKNET run $SCENARIO --provider multipass");
    let said = text(&output);
    holds("it is an error of the machinery", output.status.code() == Some(3), &said)?;
    holds("both are told", said.contains("`mp-own`, that overlaps 192.168.60.0/24 of a segment"), &said)?;
    holds("its machine is deleted", here.machines().is_empty(), &said)?;
    let output = here.script("STAND_IN_OWN=10.1.7.2/24 $CKNET run $SCENARIO --provider multipass");
    let said = text(&output);
    holds("so it is with pods", output.status.code() == Some(3), &said)?;
    let told = said.contains("10.1.7.0/24 by `mp-own`, that overlaps 10.1.0.0/16 of the pods");
    holds("both are told", told, &said)?;
    holds("its machines are deleted", here.machines().is_empty(), &said)
}

fn others(here: &Workplace) -> Result<(), Failed> {
    let output = here.script(
        "multipass launch 24.04 --name cknet-of-somebody --cloud-init - </dev/null; \
         $CKNET run $SCENARIO --provider multipass; echo code $?; $CKNET gc",
    );
    let said = text(&output);
    holds("it passes", said.contains("code 0"), &said)?;
    holds("that machine stays", here.machines() == ["cknet-of-somebody"], &said)
}

fn put_back(here: &Workplace) -> Result<(), Failed> {
    let suite = here.marking_suite();
    let output = here.script(&format!("$CKNET run --scenarios {} --provider multipass", suite.display()));
    let said = text(&output);
    holds("both pass", output.status.code() == Some(0) && said.contains("2 passed"), &said)?;
    let counted = ["launch", "snapshot", "restore", "delete"].map(|verb| here.count(verb));
    holds("each machine is launched, kept, put back and deleted once", counted == [2, 2, 2, 2], &here.calls())?;
    holds("it is told", said.contains("on the machines of the one before"), &said)?;
    // Another cluster on the same topology is put on the same machines.
    std::fs::remove_file(here.path("multipass/calls"))?;
    let path = suite.join("marking/two.yaml");
    let other = std::fs::read_to_string(&path)?.replace("[overlay,", "[custom-cidrs, overlay,");
    let other = other.replace("workloads:\n", "cluster: {podCidr: 10.77.0.0/16}\nworkloads:\n");
    std::fs::write(path, other)?;
    let output = here.script(&format!("$CKNET run --scenarios {} --provider multipass", suite.display()));
    holds("both pass", output.status.code() == Some(0), &text(&output))?;
    let counted = ["launch", "snapshot", "restore", "delete"].map(|verb| here.count(verb));
    holds("machines carry clusters of several kinds", counted == [2, 2, 2, 2], &here.calls())?;
    // One alone spoils nothing for anybody.
    std::fs::remove_file(here.path("multipass/calls")).unwrap();
    let output = here.script(&format!("$CKNET run marking.one --scenarios {} --provider multipass", suite.display()));
    holds("one passes", output.status.code() == Some(0), &text(&output))?;
    holds("and is worth no snapshot", here.count("launch") == 2 && here.count("snapshot") == 0, &here.calls())
}

fn no_way_back(here: &Workplace) -> Result<(), Failed> {
    let suite = here.marking_suite();
    let script = format!("STAND_IN_NO_WAY_BACK=1 $CKNET run --scenarios {} --provider multipass", suite.display());
    let output = here.script(&script);
    let said = text(&output);
    holds("both pass", output.status.code() == Some(0) && said.contains("2 passed"), &said)?;
    holds("why is told", said.contains("cannot be put back") && said.contains("Failed to restore"), &said)?;
    holds("machines are made anew", here.count("launch") == 4, &here.calls())?;
    holds("no machine is left", here.machines().is_empty(), &said)
}

fn up_and_down(here: &Workplace) -> Result<(), Failed> {
    let script = "$CKNET up --workers 1 --provider multipass; echo up $?; $CKNET status; \
                  echo host: $($CKNET shell w1 -- hostname); echo there: $(ls $STAND_IN/machines); \
                  $CKNET down; echo down $?";
    let output = here.script(script);
    let said = text(&output);
    holds("it comes up", said.contains("up 0") && said.contains("cp1, w1  held by process"), &said)?;
    holds("w1 is a machine", said.contains("host: w1\n") && said.contains("-up-w1"), &said)?;
    holds("it goes down", said.contains("down 0") && here.machines().is_empty(), &said)?;
    let output = here.script("STAND_IN_LATE=1 $CKNET up --workers 1 --provider multipass; echo up $?; $CKNET gc");
    let said = text(&output);
    holds(
        "one that cannot be made is told",
        said.contains("up 3") && said.contains("its machine may be there all the same"),
        &said,
    )?;
    holds("and leaves nothing", here.machines().is_empty() && said.contains("0 open runs"), &said)
}

fn proved(here: &Workplace) -> Result<(), Failed> {
    let suite = here.marking_suite();
    let output = here.script(&format!("$CKNET prove marking --scenarios {} --provider multipass", suite.display()));
    let said = text(&output);
    let all = said.contains("marking.one/closed") && !said.contains("SURVIVED") && !said.contains("skipped");
    holds("every sabotage is killed", output.status.code() == Some(0) && all, &said)?;
    holds("on machines that are put back", here.count("launch") == 2 && here.count("restore") > 2, &here.calls())
}

fn shell(here: &Workplace) -> Result<(), Failed> {
    let script = "$CKNET run $SCENARIO --provider multipass --keep >$STAND_IN.log 2>&1 & run=$!; \
                  for i in $(seq 600); do grep -q ^pass $STAND_IN.log && break; sleep 0.1; done; \
                  echo host: $($CKNET shell w1 -- hostname); $CKNET shell w1 -- sh -c 'exit 7'; echo code $?; \
                  kill -TERM $run; wait $run; echo ended $?";
    let output = here.script(script);
    let said = text(&output);
    holds("it is that machine", said.contains("host: w1\n"), &said)?;
    holds("its exit code comes back", said.contains("code 7"), &said)?;
    holds("its end takes the machines down", here.machines().is_empty(), &said)
}
