//! Distributions that cannot be installed here are refused in words, before anything is made.

use crate::workplace::Workplace;
use crate::{Case, Needs};

pub const TRIALS: &[Case] = &[
    (Needs::Nothing, "product::namespaces_carry_no_snap", namespaces_carry_no_snap),
    (Needs::Nothing, "product::what_does_not_fit_together_is_refused", what_does_not_fit_together_is_refused),
    (Needs::Nothing, "product::no_machine_is_made_without_a_probe_image", no_machine_is_made_without_a_probe_image),
];

fn namespaces_carry_no_snap() {
    let workplace = Workplace::new();
    let canonical = ["run", "policy.deny-all-ingress", "--distribution", "canonical"];
    let refused = workplace.run(canonical.iter().chain(&["--channel", "1.32-classic/stable"])).expect(2);
    let words = "distribution `canonical` cannot be installed on provider `netns`";
    assert!(refused.stderr.contains(words), "{}", refused.stderr);
    assert!(workplace.run(["gc"]).expect(0).stdout.starts_with("0 open runs"), "a run that did not begin is closed");
}

/// The executable of tests needs the machine's libraries, which `cknet image` says too.
fn no_machine_is_made_without_a_probe_image() {
    let workplace = Workplace::new();
    let archive = workplace.path("probe.tar");
    workplace.run(["image", "--output", &archive.to_string_lossy()]).expect(2);
    let canonical = ["run", "policy.deny-all-ingress", "--provider", "lxd", "--distribution", "canonical"];
    let refused = workplace.run(canonical.iter().chain(&["--channel", "1.32-classic/stable"])).expect(2);
    for words in ["just static", "--probe-image NAME"] {
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
    }
    assert!(workplace.run(["gc"]).expect(0).stdout.starts_with("0 open runs"), "a run that did not begin is closed");
}

fn what_does_not_fit_together_is_refused() {
    let workplace = Workplace::new();
    for (arguments, words) in [
        (&["--distribution", "canonical"][..], "canonical needs `--channel`, such as 1.36-classic/stable"),
        (
            &["--distribution", "canonical", "--channel", "1.20/stable"],
            "canonical 1.20 is not supported; 1.32 to 1.36 are",
        ),
        (&["--distribution", "canonical", "--channel", "1.36/stabel"], "with stable, candidate, beta or edge"),
        (&["--channel", "1.36-classic/stable"], "`--channel` is for real distributions"),
        (&["--distribution", "k3s", "--channel", "v1.33", "--cni", "calico"], "k3s brings its own CNI"),
        (&["--distribution", "canonical", "--channel", "1.36", "--package", "/nowhere"], "there is no file `/nowhere`"),
        (&["--distribution", "openshift"], "possible values"),
        (&["--probe-image", "reg.example/probe:v1"], "`--probe-image` is for real distributions"),
        (&["--distribution", "canonical", "--probe-image", "Not An Image"], "the name of an image has small letters"),
    ] {
        let refused = workplace.run(["run", "policy.deny-all-ingress"].iter().chain(arguments)).expect(2);
        assert!(refused.stderr.contains(words), "{arguments:?}: {}", refused.stderr);
    }
    assert!(workplace.runs().is_empty(), "nothing was begun");
}
