//! The node as the API sees it.

use std::fs;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::node::{TestNode, condition, eventually, on_a_node};

async fn seen(node: &TestNode) -> Option<Value> {
    let nodes: Api<Node> = Api::all(node.client.clone());
    nodes.get_opt("n1").await.unwrap().map(|node| serde_json::to_value(node).unwrap())
}

async fn await_ready(node: &TestNode, status: &str) -> Value {
    eventually(&format!("Ready={status}"), async || seen(node).await.filter(|seen| condition(seen, "Ready") == status))
        .await
}

#[test]
fn a_node_is_ready_while_there_is_a_network_configuration_and_keeps_its_lease() {
    on_a_node(async |node| {
        let ready = await_ready(&node, "True").await;
        assert_eq!(ready["metadata"]["labels"]["kubernetes.io/hostname"], "n1");
        assert_eq!(ready["metadata"]["labels"]["node-role.kubernetes.io/worker"], "");
        assert_eq!(ready["status"]["addresses"][0], json!({"address": "127.0.0.1", "type": "InternalIP"}));
        assert_eq!(ready["status"]["nodeInfo"]["kubeletVersion"], "v1.33.13");
        assert!(ready["status"]["nodeInfo"]["containerRuntimeVersion"].as_str().unwrap().starts_with("cknet://"));

        fs::remove_file(node.cni_config()).unwrap();
        let unready = await_ready(&node, "False").await;
        let told =
            unready["status"]["conditions"].as_array().unwrap().iter().find(|told| told["type"] == "Ready").unwrap();
        assert_eq!(told["reason"], "KubeletNotReady");
        assert!(told["message"].as_str().unwrap().ends_with("cni plugin not initialized"), "{told}");
        fs::write(node.cni_config(), "{}").unwrap();
        await_ready(&node, "True").await;

        let leases: Api<Lease> = Api::namespaced(node.client.clone(), "kube-node-lease");
        let renewed = async || leases.get_opt("n1").await.unwrap().and_then(|lease| lease.spec?.renew_time);
        let first = eventually("a lease", &renewed).await;
        eventually("a renewal", async || renewed().await.filter(|time| *time > first)).await;
    });
}

#[test]
fn a_condition_that_somebody_else_changed_is_put_right() {
    on_a_node(async |node| {
        await_ready(&node, "True").await;
        let nodes: Api<Node> = Api::all(node.client.clone());
        let lost =
            json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}]}});
        nodes.patch_status("n1", &PatchParams::default(), &Patch::Strategic(lost)).await.unwrap();
        await_ready(&node, "True").await;
    });
}
