//! A sandbox on the real kernel. Needs CAP_SYS_ADMIN; says so and stops where it is absent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use cknet_kernel::child::{Child, Exit};
use cknet_kernel::ns::NetNs;
use cknet_kernel::sandbox::{Sandbox, SandboxPlan, unpin};

fn lacks_privilege() -> bool {
    let lacks = NetNs::create().is_err();
    if lacks {
        let required = std::env::var("CKNET_REQUIRE").is_ok_and(|list| list.contains("netns"));
        assert!(!required, "CKNET_REQUIRE names netns, but no namespace can be made here");
        eprintln!("ignored: making namespaces needs CAP_SYS_ADMIN");
    }
    lacks
}

fn shell(script: &str) -> String {
    let output = Command::new("/bin/sh").args(["-c", script]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn inside_there_is_another_host_name_network_and_file_and_outside_nothing_changed() {
    if lacks_privilege() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (seen, own) = (folder.path().join("seen"), folder.path().join("own"));
    fs::write(&seen, "outside\n").unwrap();
    fs::write(&own, "inside\n").unwrap();
    let plan =
        SandboxPlan { isolated_as: Some("pod-a".into()), binds: vec![(own, seen.clone())], ..SandboxPlan::default() };
    let sandbox = Sandbox::create(plan).await.unwrap();

    let path = seen.display().to_string();
    let inside =
        sandbox.run(move || shell(&format!("uname -n; cat {path}; cat /proc/net/dev | tail -n +3 | cut -d: -f1")));
    assert_eq!(inside.await.unwrap().split_whitespace().collect::<Vec<_>>(), ["pod-a", "inside", "lo"]);
    assert_eq!(fs::read_to_string(&seen).unwrap(), "outside\n");
    assert_ne!(shell("uname -n").trim(), "pod-a");
    let answered =
        sandbox.run(|| std::net::UdpSocket::bind("127.0.0.1:0").unwrap().connect("127.0.0.1:9")).await.unwrap();
    answered.expect("the loopback device is up");
}

#[tokio::test]
async fn a_sandbox_is_found_again_and_everything_in_it_dies() {
    if lacks_privilege() {
        return;
    }
    let plan = || SandboxPlan { isolated_as: Some("pod-b".into()), ..SandboxPlan::default() };
    let sandbox = Sandbox::create(plan()).await.unwrap();
    let started = sandbox.run(|| {
        // The second shell leaves the group, as a daemon does.
        let script = "setsid sleep 600 & exec sleep 600";
        Command::new("/bin/sh").args(["-c", script]).stdout(Stdio::null()).process_group(0).spawn()
    });
    let child = Child::watch(started.await.unwrap().unwrap()).unwrap();
    let identity = sandbox.network().identity().unwrap();
    drop(sandbox);

    let found = Sandbox::of_process(child.pid(), true).unwrap();
    assert_eq!(found.network().identity().unwrap(), identity);
    assert_eq!(found.run(|| shell("uname -n")).await.unwrap(), "pod-b\n");
    // Another sandbox around the same network: its death is theirs too.
    let again = Sandbox::create(SandboxPlan { network: Some(found.network().clone()), ..plan() }).await.unwrap();
    assert_eq!(again.network().identity().unwrap(), identity);
    let killed = tokio::task::spawn_blocking(move || again.kill_all(Duration::from_secs(5))).await.unwrap().unwrap();
    assert!(killed >= 1, "{killed} processes were found");
    child.ended().await.unwrap();
    assert_eq!(child.reap().unwrap(), Exit::Signal(9));
    assert_eq!(found.kill_all(Duration::ZERO).unwrap(), 0);
}

#[tokio::test]
async fn a_network_stays_while_it_is_pinned() {
    if lacks_privilege() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let pin = folder.path().join("net");
    let sandbox =
        Sandbox::create(SandboxPlan { isolated_as: Some("pod-c".into()), ..SandboxPlan::default() }).await.unwrap();
    sandbox.network().pin(&pin).unwrap();
    let identity = sandbox.network().identity().unwrap();
    drop(sandbox);
    assert_eq!(NetNs::open(&pin).unwrap().identity().unwrap(), identity);
    unpin(&pin).unwrap();
    assert!(!pin.exists());
    unpin(&pin).unwrap();
}
