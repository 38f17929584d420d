//! The commands around a cluster: `cknet up`, `status`, `shell` and `down`, as a newcomer uses them.

use std::path::Path;

use libtest_mimic::Trial;

use super::cluster::{Cluster, shared};
use super::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("commands::up_says_how_to_go_on", up_says_how_to_go_on),
        trial("commands::a_shell_on_a_node", a_shell_on_a_node),
        trial("commands::a_shell_in_a_pod", a_shell_in_a_pod),
        trial("commands::a_cluster_comes_and_goes", a_cluster_comes_and_goes),
    ]
}

fn up_says_how_to_go_on() {
    let cluster = shared();
    let lines: Vec<&str> = cluster.said.lines().collect();
    assert!(lines[0].starts_with(&format!("cluster {} is ready: cp1, w1, w2 (", cluster.run)), "{}", cluster.said);
    assert_eq!(lines[1], "a model of the documented behaviour, not Canonical Kubernetes");
    assert_eq!(lines[3], format!("export KUBECONFIG={}", cluster.kubeconfig.display()));
    assert!(lines.last().unwrap().starts_with(&format!("cknet down {} ", cluster.run)), "{}", cluster.said);
    let status = cluster.cknet("status").out;
    assert!(status.starts_with(&format!("{}  cp1, w1, w2  ", cluster.run)), "{status}");
    assert!(status.contains(&format!("  export KUBECONFIG={}\n", cluster.kubeconfig.display())), "{status}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&cluster.kubeconfig).unwrap().permissions());
    assert_eq!(mode & 0o077, 0, "a kubeconfig is a key: nobody else may read it");
}

fn a_shell_on_a_node() {
    let cluster = shared();
    assert_eq!(cluster.on_node("w1", "hostname"), "w1\n");
    assert_eq!(cluster.cknet("shell w1 -- sh -c 'exit 9'").code, 9);
    let unknown = cluster.cknet("shell w9 -- hostname");
    assert_eq!(
        (unknown.code, unknown.err.as_str()),
        (2, "error: no node `w9`; there are cp1, w1, w2, and a pod is named NAMESPACE/POD\n")
    );
    let unknown = cluster.cknet("shell --run nope w1 -- hostname");
    assert_eq!((unknown.code, unknown.err.as_str()), (2, "error: no cluster `nope` is running; see: cknet status\n"));
}

fn a_shell_in_a_pod() {
    let cluster = shared();
    let space = cluster.space("shells");
    space.pods(&[("one", "one", "w1", &[])]);
    let done = cluster.cknet("shell shells/one -- sh -c 'hostname; echo to err >&2; exit 9'");
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (9, "one\n", "to err\n"));
    let unknown = cluster.cknet("shell shells/two -- true");
    assert_eq!(
        (unknown.code, unknown.err.as_str()),
        (3, "error: cannot enter pod `shells/two`: pods \"two\" not found\n")
    );
    let missing = cluster.cknet("shell shells/one -- no-such-program");
    assert!(missing.err.contains("executable file not found in $PATH"), "{missing:?}");
}

fn a_cluster_comes_and_goes() {
    let cluster = Cluster::up("--workers 0").unwrap();
    let names = cluster.kubectl("get nodes -o name");
    let held = cluster.cknet("status").out;
    let down = cluster.down();
    assert_eq!(names, "node/cp1\n");
    assert_eq!(down, Ok(()));
    let holder = held.lines().next().and_then(|line| line.rsplit(' ').next()).unwrap();
    assert!(!Path::new("/proc").join(holder).exists(), "process {holder} is still there");
    let done = cluster.kubectl_with("get nodes --request-timeout=2s", "");
    assert_eq!(done.code, 1, "nobody answers any more: {done:?}");
    assert_eq!(cluster.cknet("down").out, "no cluster is running\n");
    let shell = cluster.cknet("shell cp1 -- true");
    assert_eq!((shell.code, shell.err.as_str()), (2, "error: no cluster is running; make one: cknet up\n"));
}
