//! What becomes of a recipe whose nodes say no: errors name the stage, the node and what it said.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cknet::distribution::canonical::Canonical;
use cknet::distribution::kubeadm::Kubeadm;
use cknet::distribution::rancher::Rancher;
use cknet::distribution::recipe::{Failure, Install, InstallError, Proxy, Stage, StageError, Tell, silent};
use cknet::distribution::{Bootstrapped, Distribution, DistributionError, Flavour, Tail};
use cknet::provider::{Exit, NodeError, Output};

use tokio::time::Instant;

use crate::recorder::{Recorder, install, member, refused, said, spec};

/// Makes a cluster of Canonical Kubernetes on nodes that answer so.
fn make(
    answer: impl Fn(&str, &str, usize) -> Option<Output> + Send + Sync + 'static,
) -> (Recorder, Result<Bootstrapped, DistributionError>) {
    let recorder = Recorder::new(Box::new(move |node, command, times| answer(node, command, times).map(Ok)));
    let made = carry_out(&recorder);
    (recorder, made)
}

fn carry_out(recorder: &Recorder) -> Result<Bootstrapped, DistributionError> {
    let spec = spec(Flavour::Canonical);
    let canonical = Canonical::new(install("1.36-classic/stable"), recorder.tell()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(canonical.bootstrap(&recorder.nodes(&spec), &spec))
}

fn stage_error(made: Result<Bootstrapped, DistributionError>) -> Box<StageError> {
    match made {
        Err(DistributionError::Stage(error)) => error,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("a cluster was made"),
    }
}

#[test]
fn a_token_that_is_not_known_yet_is_followed_by_a_fresh_one() {
    let (recorder, made) = make(|node, command, _| {
        let early = node == "w1" && (command.contains("token-1 ") || command.contains("token-2 "));
        early.then(|| refused(1, "Error: failed to join: CoreTokenRecord not found"))
    });
    made.unwrap();
    let transcript = recorder.transcript();
    for token in ["token-1", "token-2", "token-3"] {
        assert_eq!(transcript.matches(&format!("w1 join       $ /snap/bin/k8s join-cluster {token} ")).count(), 1);
    }
}

/// What refuses a token needs time to know it.
#[test]
fn tokens_do_not_follow_each_other_at_once() {
    let times = Arc::new(Mutex::new(Vec::new()));
    let seen = times.clone();
    let (_, made) = make(move |_, command, _| {
        command.contains("join-cluster").then(|| {
            seen.lock().unwrap().push(Instant::now());
            refused(1, "CoreTokenRecord not found")
        })
    });
    stage_error(made);
    let times = times.lock().unwrap();
    assert_eq!(times.len(), 3);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_secs(10)), "{times:?}");
}

#[test]
fn tokens_are_not_asked_for_without_end() {
    let (recorder, made) = make(|node, command, _| match command {
        _ if node == "w1" && command.contains("join-cluster") => Some(refused(1, "the token has expired")),
        "snap changes" => Some(said("ID  Status  Summary\n7   Done    Install \"k8s\" snap\n")),
        _ => None,
    });
    let error = stage_error(made);
    assert_eq!((error.stage, error.node.as_str()), (Stage::Join, "w1"));
    assert!(matches!(error.failure, Failure::TokensRefused { attempts: 3, .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "canonical: stage `join` on node `w1`: it did not join with 3 tokens, each of them fresh: the token has \
         expired\nevidence:\n  w1: snap changes\n    ID  Status  Summary\n    7   Done    Install \"k8s\" snap"
    );
    assert!(!recorder.transcript().contains("get-join-token w2"), "the next one does not begin");
}

#[test]
fn another_refusal_is_not_tried_again_and_no_token_is_shown() {
    let (recorder, made) =
        make(|_, command, _| command.contains("join-cluster").then(|| refused(1, "token-1: node already in cluster")));
    let error = stage_error(made).to_string();
    let told = "`/snap/bin/k8s join-cluster *** --address 192.168.70.0/24 --timeout 10m` ended with exit code 1: ***: \
                node already in cluster";
    assert!(error.contains(told), "{error}");
    assert_eq!(recorder.transcript().matches("join-cluster").count(), 1);
}

#[test]
fn nodes_join_one_after_the_other() {
    let (recorder, made) = make(|_, _, _| None);
    made.unwrap();
    assert_eq!(recorder.most_joining(), 1);
    let transcript = recorder.transcript();
    let registered = transcript.find("k8s kubectl get node w1").unwrap();
    assert!(registered < transcript.find("get-join-token w2").unwrap(), "{transcript}");
}

#[test]
fn a_bootstrap_that_fails_is_told_with_the_logs_of_the_node() {
    let (_, made) = make(|_, command, _| {
        if command.contains("k8s bootstrap") {
            return Some(refused(1, "Error: unknown key `calico-interface`"));
        }
        let logs = (1..=40).map(|line| format!("line {line}\n")).collect::<String>();
        command.starts_with("journalctl").then(|| said(&logs))
    });
    let error = stage_error(made);
    assert_eq!((error.stage, error.node.as_str()), (Stage::Bootstrap, "cp1"));
    assert!(matches!(&error.failure, Failure::Command { exit: Exit::Code(1), .. }), "{error}");
    assert!(error.to_string().contains("unknown key `calico-interface` (a failed bootstrap leaves state behind)"));
    assert!(error.evidence.contains("line 40") && !error.evidence.contains("line 25\n"), "{}", error.evidence);
}

#[test]
fn a_node_that_is_never_registered_is_not_awaited_for_ever() {
    let (_, made) = make(|_, command, _| {
        command.contains("get node w2").then(|| refused(1, "Error from server (NotFound): nodes \"w2\" not found"))
    });
    let error = stage_error(made);
    assert_eq!((error.stage, error.node.as_str()), (Stage::Join, "cp1"));
    let Failure::Awaited { awaited, last, .. } = &error.failure else { panic!("{error}") };
    assert_eq!(awaited, "node `w2` is registered");
    assert!(last.contains("NotFound"), "{last}");
}

#[test]
fn machines_that_cannot_carry_the_snap_are_told_before_anything_is_installed() {
    for (command, words) in [
        ("test ! -e /run/containerd", "/run/containerd is there"),
        ("test ! -e /snap/microk8s", "beside microk8s"),
        ("sh -c test \"$(uname -n)\" = w1", "another name than the node in the scenario"),
    ] {
        let (recorder, made) = make(move |node, asked, _| (node == "w1" && asked == command).then(|| refused(1, "")));
        let error = stage_error(made);
        assert_eq!((error.stage, error.node.as_str()), (Stage::Preflight, "w1"));
        assert!(error.to_string().contains(words), "{error}");
        assert!(!recorder.transcript().contains("w1 install"), "{}", recorder.transcript());
    }
}

#[test]
fn an_answer_that_is_no_token_is_an_error_and_not_an_argument() {
    let (recorder, made) = make(|_, command, _| command.contains("get-join-token").then(|| said("a notice\nand more")));
    let error = stage_error(made);
    assert!(matches!(&error.failure, Failure::Answer { wanted: "a token", .. }), "{error}");
    assert!(!recorder.transcript().contains("join-cluster"));
}

#[test]
fn a_machine_that_is_gone_is_asked_for_no_logs() {
    let recorder = Recorder::new(Box::new(|node, command, _| {
        (node == "cp1" && command.contains("k8s bootstrap")).then(|| Err(NodeError::Gone { node: "cp1".into() }))
    }));
    let error = stage_error(carry_out(&recorder));
    assert!(matches!(error.failure, Failure::Node(NodeError::Gone { .. })), "{error}");
    assert!(error.evidence.is_empty() && !recorder.transcript().contains("journalctl"));
}

/// Nothing that is awaited comes from a machine that is not there.
#[test]
fn a_wait_ends_with_the_node_that_is_asked() {
    let asked = |answer: fn(usize) -> Option<NodeError>| {
        let times = Arc::new(Mutex::new(Vec::new()));
        let seen = times.clone();
        let recorder = Recorder::new(Box::new(move |_, command, times| {
            command.contains("get node w1").then(|| {
                seen.lock().unwrap().push(Instant::now());
                answer(times).map_or_else(|| Ok(refused(1, "NotFound")), Err)
            })
        }));
        let error = stage_error(carry_out(&recorder));
        assert_eq!((error.stage, error.node.as_str()), (Stage::Join, "cp1"));
        assert!(error.evidence.is_empty() && !recorder.transcript().contains("journalctl"), "{}", error.evidence);
        let times = times.lock().unwrap();
        (error, times.len(), times[times.len() - 1] - times[0])
    };
    let (error, looks, _) = asked(|times| (times == 3).then(|| NodeError::Gone { node: "cp1".into() }));
    assert!(matches!(error.failure, Failure::Node(NodeError::Gone { .. })), "{error}");
    assert_eq!(looks, 3);

    // Out of reach for 30 s, back, and then for good.
    let (error, _, waited) = asked(|times| {
        let broken = || NodeError::Failed { node: "cp1".into(), doing: "run".into(), cause: "the way broke".into() };
        (times != 10).then(broken)
    });
    let Failure::Lost { awaited, last, .. } = &error.failure else { panic!("{error}") };
    assert_eq!(awaited, "node `w1` is registered");
    assert!(last.contains("the way broke"), "{last}");
    assert!((Duration::from_secs(87)..Duration::from_secs(100)).contains(&waited), "{waited:?}");
}

#[test]
fn a_command_that_hangs_is_an_error_of_its_stage() {
    let recorder = Recorder::new(Box::new(|node, command, _| {
        let deadline =
            NodeError::Deadline { node: node.into(), command: command.into(), deadline: Duration::from_secs(900) };
        (node == "w2" && command.contains("snap install")).then_some(Err(deadline))
    }));
    let error = stage_error(carry_out(&recorder));
    assert_eq!((error.stage, error.node.as_str()), (Stage::Install, "w2"));
}

#[test]
fn what_no_recipe_was_written_for_is_refused_before_there_is_a_machine() {
    let canonical = |channel: &str| Canonical::new(install(channel), silent()).err().unwrap().to_string();
    assert_eq!(canonical(""), "canonical needs `--channel`, such as 1.36-classic/stable");
    assert_eq!(
        canonical("latest/edge"),
        "canonical: the channel `latest/edge` names no version, such as 1.36-classic/stable does"
    );
    assert_eq!(canonical("1.31/stable"), "canonical 1.31 is not supported; 1.32 to 1.36 are");
    let by_files = |names: &[&str]| Install { packages: names.iter().map(Into::into).collect(), ..install("v1.33") };
    assert!(matches!(Kubeadm::new(by_files(&["k8s.deb"]), silent()), Err(InstallError::NoPackage { .. })));
    let two = Rancher::k3s(by_files(&["k3s", "core22.snap"]), silent(), "a-token".into()).err().unwrap();
    assert!(two.to_string().starts_with("k3s is one file; `--package`"), "{two}");

    let mut spec = spec(Flavour::Kubeadm);
    spec.members.push(member("cp2", 14, true));
    let recorder = Recorder::willing();
    let kubeadm = Kubeadm::new(install("v1.33"), recorder.tell()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let error = runtime.block_on(kubeadm.bootstrap(&recorder.nodes(&spec), &spec)).err().unwrap();
    assert_eq!(error.to_string(), "kubeadm: `cp2` would be a second control plane; this recipe makes one");
    assert_eq!(recorder.transcript(), "", "nothing was done");
}

/// What nodes that never get ready say is part of the error: the gate itself only knows the API.
#[test]
fn all_nodes_are_asked_when_a_cluster_does_not_get_ready() {
    let recorder = Recorder::new(Box::new(|node, command, _| {
        command.contains("containerd").then(|| Ok(said(&format!("failed to pull an image on {node}\n"))))
    }));
    let spec = spec(Flavour::Canonical);
    let canonical = Canonical::new(install("1.36-classic/stable"), silent()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let evidence = runtime.block_on(canonical.evidence(&recorder.nodes(&spec), &spec, Tail::SHORT));
    for node in ["cp1", "w1", "w2"] {
        assert!(evidence.contains(&format!("failed to pull an image on {node}")), "{evidence}");
    }
}

/// A recipe for what is wanted.
type Recipe = fn(Install, Tell) -> Box<dyn Distribution>;

/// kubeadm prints the proxy of which it warns, curl and apt the one that refuses them.
#[test]
fn a_password_of_a_proxy_is_in_no_error() {
    let url = "http://user:p%40s@proxy.example:3128";
    let proxy = Some(Proxy { url: url.into(), direct: Vec::new() });
    let behind = |channel: &str| Install { proxy: proxy.clone(), ..install(channel) };
    let failing: [(&str, Flavour, Recipe); 8] = [
        ("Release.key", Flavour::Kubeadm, |install, tell| Box::new(Kubeadm::new(install, tell).unwrap())),
        (" update", Flavour::Kubeadm, |install, tell| Box::new(Kubeadm::new(install, tell).unwrap())),
        (" install --yes", Flavour::Kubeadm, |install, tell| Box::new(Kubeadm::new(install, tell).unwrap())),
        ("kubeadm init", Flavour::Kubeadm, |install, tell| Box::new(Kubeadm::new(install, tell).unwrap())),
        ("curl", Flavour::K3s, |install, tell| Box::new(Rancher::k3s(install, tell, "t".into()).unwrap())),
        ("install.sh", Flavour::K3s, |install, tell| Box::new(Rancher::k3s(install, tell, "t".into()).unwrap())),
        ("install.sh", Flavour::Rke2, |install, tell| Box::new(Rancher::rke2(install, tell, "t".into()).unwrap())),
        ("snap set", Flavour::Canonical, |install, tell| Box::new(Canonical::new(install, tell).unwrap())),
    ];
    for (words, flavour, recipe) in failing {
        let recorder = Recorder::new(Box::new(move |_, command, _| {
            command.contains(words).then(|| Ok(refused(1, &format!("the proxy {url} said 407 to user:p%40s"))))
        }));
        let spec = spec(flavour);
        let channel = if flavour == Flavour::Canonical { "1.36-classic/stable" } else { "v1.33" };
        let made = {
            let recipe = recipe(behind(channel), recorder.tell());
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(recipe.bootstrap(&recorder.nodes(&spec), &spec))
        };
        let error = stage_error(made).to_string();
        assert!(error.contains("said 407") && !error.contains("p%40s"), "{words}: {error}");
    }
}
