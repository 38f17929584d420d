//! What each recipe asks of nodes that do as they should, for every channel that it supports.

use std::fs;

use cknet::distribution::canonical::Canonical;
use cknet::distribution::kubeadm::Kubeadm;
use cknet::distribution::microk8s::Microk8s;
use cknet::distribution::rancher::Rancher;
use cknet::distribution::recipe::{Cni, Install, ProbeImage, Proxy, Tell, silent};
use cknet::distribution::{ClusterSpec, Distribution, Encapsulation, Flavour};

use crate::recorder::{Recorder, install, member, pair};

/// Carries a recipe out on willing nodes.
fn transcript(spec: &ClusterSpec, recipe: impl Fn(Tell) -> Box<dyn Distribution>) -> String {
    let recorder = Recorder::willing();
    let distribution = recipe(recorder.tell());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let made = runtime.block_on(distribution.bootstrap(&recorder.nodes(spec), spec)).unwrap_or_else(|e| panic!("{e}"));
    assert!(made.kubeconfig.contains("127.0.0.1:40123") || distribution.name() == "canonical", "{}", made.kubeconfig);
    recorder.by_node()
}

/// Nodes that pull the probe image get none.
#[test]
fn a_named_probe_image_is_not_imported() {
    let pulled = || ProbeImage::Pulled("registry.example/probe:v1".into());
    let install = |channel: &str| Install { probe: pulled(), ..install(channel) };
    let (snap, rancher) = (install("1.36-classic/stable"), install("v1.33"));
    let canonical = Canonical::new(snap.clone(), silent()).unwrap();
    assert_eq!(canonical.probe_image().pulled(), Some("registry.example/probe:v1"));
    let token = || "a-token".to_string();
    for transcript in [
        self::canonical(snap.clone(), &pair(Flavour::Canonical)),
        transcript(&pair(Flavour::Canonical), |tell| Box::new(Microk8s::new(snap.clone(), tell).unwrap())),
        transcript(&pair(Flavour::K3s), |tell| Box::new(Rancher::k3s(rancher.clone(), tell, token()).unwrap())),
        transcript(&pair(Flavour::Rke2), |tell| Box::new(Rancher::rke2(rancher.clone(), tell, token()).unwrap())),
        transcript(&pair(Flavour::Kubeadm), |tell| Box::new(Kubeadm::new(rancher.clone(), tell).unwrap())),
    ] {
        assert!(!transcript.contains("images import"), "{transcript}");
    }
}

fn canonical(install: Install, spec: &ClusterSpec) -> String {
    transcript(spec, |tell| Box::new(Canonical::new(install.clone(), tell).unwrap()))
}

fn with_calico(channel: &str) -> Install {
    Install { cni: Cni::Calico, ..install(channel) }
}

/// Nothing is downloaded, and what has to leave goes through a proxy.
fn without_internet(channel: &str, folder: &tempfile::TempDir) -> Install {
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    Install {
        packages: vec![file("package", "the program")],
        images: vec![file("core.tar", "some images"), file("more.tar", "other images")],
        proxy: Some(Proxy { url: "http://u:p%40s@proxy.example:3128".into(), direct: vec!["registry.example".into()] }),
        ..install(channel)
    }
}

#[test]
fn canonical_on_every_channel() {
    for version in ["1.32", "1.33", "1.34", "1.35", "1.36"] {
        let channel = format!("{version}-classic/stable");
        let transcript = canonical(install(&channel), &pair(Flavour::Canonical));
        insta::assert_snapshot!(format!("canonical-{version}-stock"), transcript);
        let transcript = canonical(with_calico(&channel), &pair(Flavour::Canonical));
        insta::assert_snapshot!(format!("canonical-{version}-calico"), transcript);
    }
}

/// Lines that only one of the two has.
fn apart(before: &str, after: &str) -> Vec<String> {
    let only = |these: &str, those: &str, sign: char| {
        let those: Vec<&str> = those.lines().collect();
        let only = these.lines().filter(|line| !those.contains(line));
        only.map(|line| format!("{sign} {}", line.trim())).collect::<Vec<_>>()
    };
    // The same on both nodes.
    let mut lines = [only(before, after, '-'), only(after, before, '+')].concat();
    lines.sort();
    lines.dedup();
    lines
}

/// A line that the newer version alone is told, and the fact that makes it so.
struct Reason {
    cni: Cni,
    from: &'static str,
    line: &'static str,
    fact: &'static str,
}

const REASONS: [Reason; 2] = [
    Reason {
        cni: Cni::Stock,
        from: "1.36",
        line: "+ |     kube-proxy-enabled: false",
        fact: "`cluster-config.network.kube-proxy-enabled` exists from 1.36 on; older versions read the file strictly and \
               refuse it. Cilium does kube-proxy's work",
    },
    Reason {
        cni: Cni::Calico,
        from: "1.36",
        line: "+ |     kube-proxy-enabled: true",
        fact: "the same key; with the network off at bootstrap nobody but kube-proxy serves services",
    },
];

/// Beside the channel itself nothing differs without a reason, and no reason is without its difference.
#[test]
fn versions_of_canonical_differ_exactly_where_there_is_a_reason() {
    let of = |version: &str, cni: Cni| {
        let install = Install { cni, ..install(&format!("{version}-classic/stable")) };
        canonical(install, &pair(Flavour::Canonical))
    };
    let channel = |version: &str, sign: &str| {
        format!("{sign} install    $ snap install k8s --classic --channel={version}-classic/stable  [900 s]")
    };
    for cni in [Cni::Stock, Cni::Calico] {
        for version in ["1.33", "1.34", "1.35", "1.36"] {
            let reasons = || REASONS.iter().filter(|reason| reason.cni == cni && reason.from <= version);
            let mut expected = vec![channel("1.32", "-"), channel(version, "+")];
            expected.extend(reasons().map(|reason| reason.line.to_string()));
            expected.sort();
            let facts: Vec<&str> = reasons().map(|reason| reason.fact).collect();
            assert_eq!(apart(&of("1.32", cni), &of(version, cni)), expected, "{version}: {facts:?}");
        }
    }
}

#[test]
fn canonical_without_internet() {
    let folder = tempfile::tempdir().unwrap();
    let transcript = canonical(without_internet("1.36", &folder), &pair(Flavour::Canonical));
    insta::assert_snapshot!("canonical-1.36-without-internet", transcript);
}

/// Bases come first; what vouches for a snap lies beside it.
#[test]
fn snaps_as_files_come_with_their_bases_and_assertions() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let path = folder.path().join(name);
        fs::write(&path, name).unwrap();
        path
    };
    let packages = ["k8s_4321.snap", "snapd_1.snap", "core22_2.snap"].map(file).to_vec();
    let _ = ["k8s_4321.assert", "core22_2.assert"].map(file);
    let install = Install { packages, ..install("1.36") };
    let transcript = canonical(install, &pair(Flavour::Canonical));
    let (first, _) = transcript.split_once("== w1").unwrap();
    let steps: Vec<&str> = first.lines().filter(|line| line.starts_with("install ")).collect();
    let wanted = [
        "install    > /var/lib/cknet/base-0.snap 644  [900 s]",
        "install    $ snap install --dangerous /var/lib/cknet/base-0.snap  [900 s]",
        "install    > /var/lib/cknet/base-1.snap 644  [900 s]",
        "install    > /var/lib/cknet/base-1.assert 644  [900 s]",
        "install    $ snap ack /var/lib/cknet/base-1.assert  [60 s]",
        "install    $ snap install /var/lib/cknet/base-1.snap  [900 s]",
        "install    > /var/lib/cknet/k8s.snap 644  [900 s]",
        "install    > /var/lib/cknet/k8s.assert 644  [900 s]",
        "install    $ snap ack /var/lib/cknet/k8s.assert  [60 s]",
        "install    $ snap install --classic /var/lib/cknet/k8s.snap  [900 s]",
    ];
    assert_eq!(steps, wanted, "{transcript}");
}

/// None of them takes the place of another.
#[test]
fn archives_of_images_of_one_name_are_numbered() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, name).unwrap();
        path
    };
    let install = Install { images: ["a/all.tar", "b/all.tar"].map(file).to_vec(), ..install("1.36") };
    let transcript = canonical(install, &pair(Flavour::Canonical));
    for (number, name) in [(0, "a"), (1, "b")] {
        let there = format!("> /var/snap/k8s/common/images/{number}-all.tar 644  [900 s]\n    | {name}/all.tar");
        assert!(transcript.contains(&there), "{transcript}");
    }
}

/// What a scenario says of Calico reaches the operator, and a second control plane joins as one.
#[test]
fn canonical_as_a_scenario_wants_it() {
    let mut spec = pair(Flavour::Canonical);
    spec.pod_cidr = "10.100.0.0/16".parse().unwrap();
    spec.service_cidr = "10.200.0.0/16".parse().unwrap();
    spec.encapsulation = Encapsulation::None;
    spec.bird = true;
    spec.block_size = 24;
    spec.autodetection = "interface=eth1".into();
    spec.members[1] = member("cp2", 12, true);
    insta::assert_snapshot!("canonical-1.36-bgp", canonical(with_calico("1.36-classic/edge"), &spec));
}

#[test]
fn microk8s() {
    let mut spec = pair(Flavour::Canonical);
    spec.autodetection = "cidr=192.168.70.0/24".into();
    let made = |install: Install| transcript(&spec, |tell| Box::new(Microk8s::new(install.clone(), tell).unwrap()));
    insta::assert_snapshot!("microk8s", made(install("1.33/stable")));
    let folder = tempfile::tempdir().unwrap();
    insta::assert_snapshot!("microk8s-without-internet", made(without_internet("1.33", &folder)));
}

#[test]
fn k3s() {
    let made = |install: Install| {
        let spec = pair(Flavour::K3s);
        transcript(&spec, |tell| Box::new(Rancher::k3s(install.clone(), tell, "a-token".into()).unwrap()))
    };
    insta::assert_snapshot!("k3s", made(install("v1.33")));
    let folder = tempfile::tempdir().unwrap();
    insta::assert_snapshot!("k3s-without-internet", made(without_internet("v1.33", &folder)));
}

#[test]
fn rke2() {
    let folder = tempfile::tempdir().unwrap();
    let install = Install { packages: Vec::new(), ..without_internet("v1.33", &folder) };
    let spec = pair(Flavour::Rke2);
    let made = transcript(&spec, |tell| Box::new(Rancher::rke2(install.clone(), tell, "a-token".into()).unwrap()));
    insta::assert_snapshot!("rke2", made);
}

/// One setting has to do for nodes whose NICs have different names.
#[test]
fn canal_finds_nics_of_different_names() {
    let spec = pair(Flavour::Rke2);
    let recorder = Recorder::willing();
    let mut nodes = recorder.nodes(&spec);
    let renamed = recorder.node("w1", [("lan0", "192.168.70.12/24")]);
    nodes.by_name.insert("w1".into(), renamed);
    let rke2 = Rancher::rke2(install("v1.33"), recorder.tell(), "a-token".into()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(rke2.bootstrap(&nodes, &spec)).unwrap_or_else(|e| panic!("{e}"));
    let transcript = recorder.transcript();
    assert!(transcript.contains("regexIface: ^(192[.]168[.]70[.]11|192[.]168[.]70[.]12)$"), "{transcript}");
}

#[test]
fn kubeadm() {
    let made = |install: Install| {
        transcript(&pair(Flavour::Kubeadm), |tell| Box::new(Kubeadm::new(install.clone(), tell).unwrap()))
    };
    insta::assert_snapshot!("kubeadm", made(install("v1.33")));
    let folder = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(
        "kubeadm-behind-proxy",
        made(Install { packages: Vec::new(), ..without_internet("v1.33", &folder) })
    );
}

/// The definitions that are applied are those of the operator that then runs, and the ones the page names.
#[test]
fn one_image_of_calicos_operator() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let read = |path: &str| fs::read_to_string(format!("{root}/{path}")).unwrap();
    let image = |path: &str| {
        let text = read(path);
        text.lines().find_map(|line| line.trim().strip_prefix("image: ")).unwrap().to_string()
    };
    let operator = image("fixtures/manifests/calico/operator.yaml");
    assert_eq!(image("fixtures/manifests/calico/definitions.yaml"), operator);
    assert!(read("docs/distributions.md").contains(&format!("`{operator}`")), "{operator}");
}
