//! What is kept for a person: for how long, who is reminded of it, and that it goes by itself.

use crate::workplace::{SOON, Workplace, until};
use crate::{Case, Needs};

pub const TRIALS: &[Case] = &[
    (Needs::Nothing, "kept::what_is_no_time_is_told", what_is_no_time_is_told),
    (Needs::Namespaces, "kept::a_cluster_goes_when_its_time_is_over", a_cluster_goes_when_its_time_is_over),
    (Needs::Namespaces, "kept::a_run_ends_when_its_time_is_over", a_run_ends_when_its_time_is_over),
];

fn what_is_no_time_is_told() {
    let workplace = Workplace::new();
    for time in ["soon", "0s", "4"] {
        let refused = workplace.run(["up", "--keep-for", time]).expect(2);
        assert!(refused.stderr.contains("is no time to keep something; write 30m, 4h or 1h30m"), "{}", refused.stderr);
    }
    let refused = workplace.run(["run", "policy.deny-all-ingress", "--keep-for", "4h"]).expect(2);
    assert!(refused.stderr.contains("--keep"), "{}", refused.stderr);
}

fn a_cluster_goes_when_its_time_is_over() {
    let workplace = Workplace::new();
    workplace.run(["up", "--workers", "0", "--keep-for", "10s"]).expect(0);
    let status = workplace.run(["status"]).expect(0);
    assert!(status.stdout.contains("kept for 0 min more"), "{}", status.stdout);
    let other = workplace.run(["run", "policy.invalid", "--quiet"]).expect(0);
    let reminder = other.stderr.lines().find(|line| line.starts_with("reminder: cluster ")).unwrap_or_default();
    assert!(reminder.contains("(cp1) is kept for 0 min more; end it: cknet down r"), "{}", other.stderr);
    until("its end", SOON, || {
        workplace.run(["status"]).expect(0).stdout.starts_with("no cluster is running").then_some(())
    });
    workplace.await_nothing_left();
    assert!(workplace.run(["gc"]).expect(0).stdout.starts_with("0 open runs"), "it has closed its notes itself");
}

fn a_run_ends_when_its_time_is_over() {
    let workplace = Workplace::new();
    let ended = workplace.run(["run", "policy.invalid", "--keep", "--keep-for", "5s"]);
    assert!(ended.stderr.contains("the time to keep the cluster is over: it is taken down"), "{}", ended.stderr);
    assert!(ended.stdout.contains("PASSED"), "{}", ended.stdout);
    assert_eq!(ended.code(), 0);
    workplace.await_nothing_left();
}
