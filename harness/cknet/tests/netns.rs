//! The namespaces provider through its seams, on the real kernel.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use cknet::provider::netns::Netns;
use cknet::provider::{Exit, Invocation, Lease, Nic, NodeError, NodeSpec, Provider, Segment, Topology};

const SOON: Duration = Duration::from_secs(10);

fn two_nodes() -> Topology {
    let node = |name: &str, host: u8| NodeSpec {
        name: name.into(),
        nics: vec![Nic {
            name: "eth0".into(),
            segment: "lan".into(),
            address: format!("192.168.60.{host}/24").parse().unwrap(),
        }],
        forwards: true,
        routes: Vec::new(),
    };
    Topology {
        segments: vec![Segment { name: "lan".into(), cidr: "192.168.60.0/24".parse().unwrap(), mtu: 1500 }],
        nodes: vec![node("cp1", 11), node("w1", 12)],
    }
}

async fn acquire() -> (Lease, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let provider = Netns { executable: env!("CARGO_BIN_EXE_cknet").into(), folder: folder.path().into() };
    (provider.acquire("test", &two_nodes()).await.unwrap(), folder)
}

#[tokio::test]
async fn a_node_has_its_own_name_files_and_network() {
    let (lease, _folder) = acquire().await;
    let (cp1, w1) = (lease.nodes.get("cp1").unwrap(), lease.nodes.get("w1").unwrap());

    let output = cp1.run(Invocation::new(["cat", "/proc/sys/kernel/hostname"]), SOON).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "cp1\n");

    cp1.put("/etc/cni/net.d/10-test.conflist", 0o600, b"{}".to_vec()).await.unwrap();
    assert_eq!(cp1.take("/etc/cni/net.d/10-test.conflist").await.unwrap(), b"{}");
    assert!(w1.take("/etc/cni/net.d/10-test.conflist").await.is_err(), "another node must not see the file");
    assert!(!std::path::Path::new("/etc/cni/net.d/10-test.conflist").exists(), "the host must not see the file");

    let output = w1.run(Invocation::new(["cat", "/proc/net/fib_trie"]), SOON).await.unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("192.168.60.12"));
    lease.release.release().await.unwrap();
}

#[tokio::test]
async fn standard_streams_and_exit_codes_arrive() {
    let (lease, _folder) = acquire().await;
    let w1 = lease.nodes.get("w1").unwrap();
    let script = "cat; echo problem >&2; exit 7";
    let output = w1.run(Invocation::new(["sh", "-c", script]).stdin("given"), SOON).await.unwrap();
    assert_eq!(output.exit, Exit::Code(7));
    assert_eq!((output.stdout.as_slice(), output.complaint().as_str()), (&b"given"[..], "problem"));

    let missing = w1.run(Invocation::new(["no-such-program"]), SOON).await.unwrap_err();
    assert!(missing.to_string().contains("no-such-program"), "{missing}");
    lease.release.release().await.unwrap();
}

#[tokio::test]
async fn a_program_past_its_deadline_is_killed_with_its_children() {
    let (lease, _folder) = acquire().await;
    let w1 = lease.nodes.get("w1").unwrap();
    let deadline = Duration::from_millis(200);
    let late = w1.run(Invocation::new(["sh", "-c", "sleep 4242 & sleep 4242"]), deadline).await.unwrap_err();
    assert!(matches!(late, NodeError::Deadline { .. }), "{late}");
    let left = w1.run(Invocation::new(["sh", "-c", "grep -lz ^4242$ /proc/[0-9]*/cmdline"]), SOON).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "", "no process of it may be left");
    lease.release.release().await.unwrap();
}

#[tokio::test]
async fn nodes_reach_each_other_over_their_segment() {
    let (lease, _folder) = acquire().await;
    let (cp1, w1) = (lease.nodes.get("cp1").unwrap(), lease.nodes.get("w1").unwrap());
    let Ok(ping) = cp1.run(Invocation::new(["ping", "-c1", "-W2", "192.168.60.12"]), SOON).await else {
        // No ping on this machine: the port of the other node is refused at once, which needs the wire as well.
        let dial = "exec 3<>/dev/tcp/192.168.60.12/9";
        let refused = cp1.run(Invocation::new(["bash", "-c", dial]), SOON).await.unwrap();
        assert!(refused.complaint().contains("refused"), "{}", refused.complaint());
        return;
    };
    assert!(ping.succeeded(), "{}", ping.complaint());
    drop(w1.run(Invocation::new(["true"]), SOON).await.unwrap());
    lease.release.release().await.unwrap();
}

#[tokio::test]
async fn nothing_is_left_when_nodes_are_released() {
    let namespaces = || {
        let mut found: Vec<_> = std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path().join("ns/net")).ok())
            .collect();
        found.sort();
        found.dedup();
        found.len()
    };
    let (lease, _folder) = acquire().await;
    let w1 = lease.nodes.get("w1").unwrap().clone();
    w1.start("sleeper", Invocation::new(["sleep", "4243"])).await.unwrap();
    let holder = lease.release.holder().unwrap();
    assert!(namespaces() > 1);
    lease.release.release().await.unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{holder}")).exists());
    assert!(matches!(w1.run(Invocation::new(["true"]), SOON).await, Err(NodeError::Gone { .. })));
}
