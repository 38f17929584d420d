//! A cluster that is there already and whose nodes can be reached by ssh: one of `cknet up`, whose nodes get an sshd each
//! (`fixtures/stand-in/node`). What a scenario closes on them is open after it.

use libtest_mimic::Failed;

use super::{Try, Workplace, holds, text};

pub const TRIALS: &[(&str, Try)] = &[
    ("firewalls_of_a_cluster_that_is_there_are_worked_by_ssh", firewalls),
    ("nodes_of_a_killed_run_are_as_they_were_after_gc", killed),
    ("hosts_that_are_no_nodes_are_told", strangers),
];

/// A cluster, and what its nodes are like as far as a run may change it.
const CLUSTER: &str = r#"
    $CKNET up --workers 1 >$STAND_IN.up 2>&1 || { cat $STAND_IN.up; exit 9; }
    up=$(ls $CKNET_STATE/runs | head -1); kubeconfig=$CKNET_STATE/runs/$up/up.kubeconfig
    fixtures/stand-in/node $up cp1 && fixtures/stand-in/node $up w1 || exit 9
    printf '%s\n' 'hosts:' '- {host: w1}' '- {host: cp1}' >$STAND_IN/hosts.yaml
    state() {
        for node in cp1 w1; do
            ssh -o LogLevel=ERROR $node 'ls -A /run /var/lib; command -v nft >/dev/null && nft list table inet cknet_firewall 2>&1; \
                nft list tables | grep cknet | sort'
        done
    }
    run() { $CKNET run "$@" --kubeconfig $kubeconfig --inventory $STAND_IN/hosts.yaml; }
    state >$STAND_IN/before
"#;

fn firewalls(here: &Workplace) -> Result<(), Failed> {
    let skipped = "overlay.second-vxlan cni.unusable-first-file";
    let suite = here.marking_suite();
    let output = here.script(&format!(
        "{CLUSTER} run $SCENARIO firewall.required-ports {skipped}; code=$?; state | diff $STAND_IN/before -; \
         echo code $code diff $?; run marking.one --scenarios {}; echo marking $?; $CKNET down",
        suite.display()
    ));
    let said = text(&output);
    holds("they pass, and the nodes are what they were", said.contains("code 0 diff 0"), &said)?;
    holds("two ran", said.contains(" in 2 scenarios: "), &said)?;
    let undone = "requires to run a command on node `w1`, which nobody could undo";
    for reason in ["requires node-links, node-interfaces", undone, "to change settings of the cluster's nodes"] {
        holds("what cannot be undone is skipped with that reason", said.contains(reason), &said)?;
    }
    holds("where nothing else is asked for", said.contains("marking 4"), &said)
}

fn killed(here: &Workplace) -> Result<(), Failed> {
    let script = "$CKNET run $SCENARIO --kubeconfig $kubeconfig --inventory $STAND_IN/hosts.yaml >/dev/null 2>&1 & run=$!; \
                  for i in $(seq 600); do ssh -o LogLevel=ERROR w1 test -e /var/lib/cknet/undo && break; sleep 0.1; done; \
                  for i in $(seq 600); do ssh -o LogLevel=ERROR w1 nft list tables | grep -q 'cknet_f' && break; sleep 0.05; done; \
                  kill -9 $run; wait $run; state | diff -q $STAND_IN/before -; $CKNET gc; echo gc $?; \
                  state | diff $STAND_IN/before -; echo diff $?; run $SCENARIO; echo again $?; $CKNET down";
    let output = here.script(&format!("{CLUSTER} {script}"));
    let said = text(&output);
    holds("it was in the middle of its work", said.contains("differ"), &said)?;
    holds("they are given back as they were", said.contains("gc 0\ndiff 0"), &said)?;
    holds("and the cluster serves another run", said.contains("again 0"), &said)
}

fn strangers(here: &Workplace) -> Result<(), Failed> {
    let script = "sed -i /w1/d $STAND_IN/hosts.yaml; run $SCENARIO; echo absent $?; \
                  state | diff $STAND_IN/before -; echo diff $?; $CKNET gc --dry-run; \
                  $CKNET run $SCENARIO --inventory $STAND_IN/hosts.yaml; echo wires $?; $CKNET down";
    let output = here.script(&format!("{CLUSTER} {script}"));
    let said = text(&output);
    let absent = "as node `w1` has: cp1 (cp1)";
    holds("a node that is no host is told", said.contains(absent) && said.contains("absent 3"), &said)?;
    holds("and everything is as it was", said.contains("diff 0"), &said)?;
    holds("wires are needed for other things", said.contains("has no `wires`") && said.contains("wires 2"), &said)
}
