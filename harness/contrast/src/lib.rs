//! What the document says about other distributions, held against what a cluster of theirs shows. Pure.
//!
//! The crate is for its tests (`tests/containers`), which run real programs in containers beside the model. It must not
//! know how a cluster was started or asked.
//!
//! Not a default member of the workspace: `cargo test --package cknet-contrast`, or `.ci/recipe containers`.

use k8s_openapi::api::core::v1::{Node, NodeCondition};

/// The port at which flannel's VXLAN carries packets between nodes.
pub const FLANNEL_PORT: u16 = 8472;

/// What flannel writes at a node about how it carries packets.
const FLANNEL_BACKEND: &str = "flannel.alpha.coreos.com/backend-type";

/// Whether a kubelet says that its node is ready, and if not, in which words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    NotReady(String),
    /// No kubelet has said anything yet.
    Untold,
}

/// What the condition `Ready` of a node says.
pub fn readiness(node: &Node) -> Readiness {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready");
    match ready {
        None => Readiness::Untold,
        Some(NodeCondition { status, .. }) if status == "True" => Readiness::Ready,
        Some(NodeCondition { message, .. }) => Readiness::NotReady(message.clone().unwrap_or_default()),
    }
}

/// Whether a kubelet's words mean that nobody has installed a CNI.
pub fn lacks_cni(words: &str) -> bool {
    words.contains("cni plugin not initialized") || words.contains("cni config uninitialized")
}

/// The backend that flannel says it uses on this node, if flannel is there.
pub fn flannel_backend(node: &Node) -> Option<&str> {
    node.metadata.annotations.as_ref()?.get(FLANNEL_BACKEND).map(String::as_str)
}

/// Whether the text of `/proc/net/udp` has a socket at the port. The kernel's own sockets for tunnels are in it too.
pub fn listens(proc_net_udp: &str, port: u16) -> bool {
    let local = |line: &str| u16::from_str_radix(line.split_whitespace().nth(1)?.split_once(':')?.1, 16).ok();
    proc_net_udp.lines().skip(1).any(|line| local(line) == Some(port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn node(annotations: Value, conditions: Value) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "n", "annotations": annotations},
            "status": {"conditions": conditions},
        }))
        .unwrap()
    }

    #[test]
    fn a_node_is_ready_when_its_kubelet_says_so() {
        let told = |conditions| readiness(&node(json!({}), conditions));
        assert_eq!(told(json!([])), Readiness::Untold);
        assert_eq!(told(json!([{"type": "DiskPressure", "status": "True"}])), Readiness::Untold);
        let pressure = json!({"type": "DiskPressure", "status": "False"});
        assert_eq!(told(json!([pressure, {"type": "Ready", "status": "True"}])), Readiness::Ready);
        let why = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady \
                   message:Network plugin returns error: cni plugin not initialized";
        let refused = told(json!([{"type": "Ready", "status": "False", "message": why}]));
        assert_eq!(refused, Readiness::NotReady(why.into()));
        assert!(lacks_cni(why));
        assert!(!lacks_cni("PLEG is not healthy"));
    }

    #[test]
    fn flannel_is_known_by_its_annotation() {
        assert_eq!(
            flannel_backend(&node(json!({"flannel.alpha.coreos.com/backend-type": "vxlan"}), json!([]))),
            Some("vxlan")
        );
        assert_eq!(
            flannel_backend(&node(json!({"projectcalico.org/IPv4Address": "192.168.60.11/24"}), json!([]))),
            None
        );
    }

    #[test]
    fn a_port_is_read_from_the_local_side_alone() {
        let sockets = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
                       10: 00000000:2118 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 0 2 0 0\n\
                       11: 0100007F:0035 0100007F:12B5 01 00000000:00000000 00:00000000 00000000     0        0 0 2 0 0\n";
        assert!(listens(sockets, FLANNEL_PORT));
        assert!(listens(sockets, 53));
        assert!(!listens(sockets, 4789));
    }
}
