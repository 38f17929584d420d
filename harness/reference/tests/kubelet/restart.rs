//! What a kubelet finds that was started again.

use kube::api::DeleteParams;
use serde_json::json;

use crate::node::{container, eventually, on_a_node, shell};

#[test]
fn pods_outlive_their_kubelet() {
    on_a_node(async |mut node| {
        let script = "echo $$$$; i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.05; done";
        node.create("lasting", shell(script)).await;
        let before = node.await_running("lasting").await;
        let id = &before["status"]["containerStatuses"][0]["containerID"];
        node.stop_kubelet().await;
        node.start_kubelet();
        let last = async || node.pods().logs("lasting", &Default::default()).await.unwrap_or_default();
        let seen = eventually("its log", async || Some(last().await).filter(|text| text.contains("tick"))).await;
        eventually("more of its log", async || Some(last().await).filter(|text| text.len() > seen.len())).await;
        let after = node.await_running("lasting").await;
        assert_eq!(&after["status"]["containerStatuses"][0]["containerID"], id);
        assert_eq!(after["status"]["containerStatuses"][0]["restartCount"], 0);
        let pid: i32 = last().await.lines().next().unwrap().parse().unwrap();
        node.delete("lasting").await;
        node.await_gone("lasting").await;
        eventually("the process's end", async || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            (status.is_empty() || status.contains(") Z ")).then_some(())
        })
        .await;
    });
}

#[test]
fn a_container_that_died_meanwhile_is_started_again() {
    on_a_node(async |mut node| {
        node.create("mortal", shell("echo $$$$; exec sleep 600")).await;
        node.await_running("mortal").await;
        let text = eventually("its pid", async || {
            node.pods().logs("mortal", &Default::default()).await.ok().filter(|text| !text.is_empty())
        });
        let pid: i32 = text.await.trim().parse().unwrap();
        node.stop_kubelet().await;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
        nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).unwrap();
        node.start_kubelet();
        let restarted = |pod: &serde_json::Value| pod["status"]["containerStatuses"][0]["restartCount"] == 1;
        let pod = node.await_pod("mortal", "restarted", restarted).await;
        let last = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"];
        assert_eq!(last["reason"], "ContainerStatusUnknown");
        node.await_running("mortal").await;
    });
}

#[test]
fn what_the_api_forgot_meanwhile_is_cleared_away() {
    on_a_node(async |mut node| {
        node.create("orphan", container(json!({}))).await;
        let pod = node.await_running("orphan").await;
        let uid = pod["metadata"]["uid"].as_str().unwrap().to_string();
        node.stop_kubelet().await;
        let forced = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        node.pods().delete("orphan", &forced).await.unwrap();
        assert_eq!(node.addresses.given.lock().unwrap().len(), 1);
        node.start_kubelet();
        eventually("the sandbox's end", async || {
            let gone =
                !node.folder.join(format!("netns/cni-{uid}")).exists() && !node.folder.join("pods").join(&uid).exists();
            gone.then_some(())
        })
        .await;
        assert!(node.addresses.given.lock().unwrap().is_empty());
    });
}
