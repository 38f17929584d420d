//! Several runs at once, in one state directory and in one folder for reports.

use crate::workplace::{SOON, Workplace};
use crate::{Case, Needs};

pub const TRIALS: &[Case] = &[
    (Needs::Namespaces, "together::two_runs_do_not_meet", || at_once(2)),
    (Needs::Namespaces, "together::four_runs_do_not_meet", || at_once(4)),
];

fn at_once(number: usize) {
    let workplace = Workplace::new();
    let runs: Vec<_> = (0..number)
        .map(|_| workplace.start(workplace.cknet(["run", "policy.deny-all-ingress", "cidr.default-cidrs"])))
        .collect();
    for run in runs {
        run.ended(SOON * 2).expect(0);
    }
    assert_eq!(workplace.runs().len(), number);
    workplace.await_nothing_left();
    let gc = workplace.run(["gc"]).expect(0);
    assert!(gc.stdout.starts_with("0 open runs"), "{}", gc.stdout);
}
