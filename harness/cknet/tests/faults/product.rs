//! Distributions that cannot be installed here are refused in words, before anything is made.

use crate::workplace::Workplace;
use crate::{Case, Needs};

pub const TRIALS: &[Case] = &[
    (Needs::Nothing, "product::namespaces_carry_no_snap", namespaces_carry_no_snap),
    (Needs::Nothing, "product::what_does_not_fit_together_is_refused", what_does_not_fit_together_is_refused),
    (Needs::Nothing, "product::no_set_up_of_another_product", no_set_up_of_another_product),
    (Needs::Nothing, "product::no_machine_is_made_without_a_probe_image", no_machine_is_made_without_a_probe_image),
];

/// What makes clusters, and can be told which distribution they are of.
const COMMANDS: [&[&str]; 3] = [&["run", "policy.deny-all-ingress"], &["prove", "policy.deny-all-ingress"], &["up"]];

const CANONICAL: [&str; 4] = ["--distribution", "canonical", "--channel", "1.32-classic/stable"];

fn namespaces_carry_no_snap() {
    let workplace = Workplace::new();
    for command in COMMANDS {
        let refused = workplace.run(command.iter().chain(&CANONICAL)).expect(2);
        let words = "error: distribution `canonical` cannot be installed on provider `netns`: it needs machines";
        assert!(refused.stderr.contains(words), "{command:?}: {}", refused.stderr);
        assert_eq!(refused.stdout, "", "{command:?}");
    }
    assert!(workplace.run(["gc"]).expect(0).stdout.starts_with("0 open runs"), "a run that did not begin is closed");
}

/// The executable of tests needs the machine's libraries, which `cknet image` says too.
fn no_machine_is_made_without_a_probe_image() {
    let workplace = Workplace::new();
    let archive = workplace.path("probe.tar");
    workplace.run(["image", "--output", &archive.to_string_lossy()]).expect(2);
    for command in COMMANDS {
        let refused = workplace.run(command.iter().chain(&CANONICAL).chain(&["--provider", "lxd"])).expect(2);
        for words in ["just static", "--probe-image NAME"] {
            assert!(refused.stderr.contains(words), "{command:?}: {}", refused.stderr);
        }
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
        for command in COMMANDS {
            let refused = workplace.run(command.iter().chain(arguments)).expect(2);
            assert!(refused.stderr.contains(words), "{command:?} {arguments:?}: {}", refused.stderr);
        }
    }
    assert!(workplace.runs().is_empty(), "nothing was begun");
}

/// A scenario skips where it cannot be; who asks for its cluster alone is told.
fn no_set_up_of_another_product() {
    let workplace = Workplace::new();
    let refused = workplace.run(["up", "contrast.k3s-flannel"].iter().chain(&CANONICAL)).expect(2);
    let words = "error: `contrast.k3s-flannel` wants a cluster of K3s; canonical cannot be that";
    assert_eq!(refused.stderr.trim_end(), words);
    assert!(workplace.runs().is_empty(), "nothing was begun");
}
