//! What calico-node writes on its Node object, and what it reads on the others'.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

const ADDRESS: &str = "projectcalico.org/IPv4Address";
const TUNNEL_ADDRESS: &str = "projectcalico.org/IPv4VXLANTunnelAddr";
const AS_NUMBER: &str = "projectcalico.org/ASNumber";
const TUNNEL_MAC: &str = "projectcalico.org/VXLANTunnelMACAddr";

/// A node as Calico sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalicoNode {
    pub name: String,
    pub address: Ipv4Net,
    /// Absent where no pool uses VXLAN.
    pub tunnel: Option<Tunnel>,
}

/// A node's end of the VXLAN overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    pub address: Ipv4Addr,
    pub mac: [u8; 6],
}

/// Reads the annotations; `None` until calico-node has run on that node.
pub fn read(node: &Node) -> Option<CalicoNode> {
    let annotation = |key: &str| node.annotations().get(key).map(String::as_str);
    let address = annotation(ADDRESS)?.parse().ok()?;
    let tunnel = annotation(TUNNEL_ADDRESS)
        .zip(annotation(TUNNEL_MAC))
        .and_then(|(address, mac)| Some(Tunnel { address: address.parse().ok()?, mac: parse_mac(mac)? }));
    Some(CalicoNode { name: node.name_any(), address, tunnel })
}

/// The AS that an annotation gives to a node.
pub fn as_number(node: &Node) -> Option<u32> {
    node.annotations().get(AS_NUMBER)?.parse().ok()
}

/// The node's InternalIP.
pub fn internal_address(node: &Node) -> Option<Ipv4Addr> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    addresses.iter().find(|address| address.type_ == "InternalIP")?.address.parse().ok()
}

/// Writes the annotations of this node.
pub async fn annotate(nodes: &Api<Node>, node: &CalicoNode) -> Result<(), kube::Error> {
    let annotations = json!({
        ADDRESS: node.address.to_string(),
        TUNNEL_ADDRESS: node.tunnel.map(|tunnel| tunnel.address.to_string()),
        TUNNEL_MAC: node.tunnel.map(|tunnel| cknet_kernel::route::mac_text(tunnel.mac)),
    });
    let patch = json!({"metadata": {"annotations": annotations}});
    nodes.patch(&node.name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// Tells the cluster that the network of this node is up.
pub async fn announce_network(nodes: &Api<Node>, name: &str) -> Result<(), kube::Error> {
    let now = jiff::Timestamp::now().to_string();
    let condition = json!({
        "type": "NetworkUnavailable",
        "status": "False",
        "reason": "CalicoIsUp",
        "message": "Calico is running on this node",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    });
    let patch = json!({"status": {"conditions": [condition]}});
    nodes.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await?;
    Ok(())
}

/// The tunnel's hardware address: derived from the node's name so that it survives a restart; locally administered.
pub fn tunnel_mac(node: &str) -> [u8; 6] {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(format!("vxlan.{node}").as_bytes());
    [0x66, digest[0], digest[1], digest[2], digest[3], digest[4]]
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    bytes?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_survive_their_text() {
        let mac = tunnel_mac("w1");
        assert_eq!(parse_mac(&cknet_kernel::route::mac_text(mac)), Some(mac));
        assert_eq!(mac[0] & 3, 2, "unicast and locally administered");
        assert_eq!(parse_mac("66:40"), None);
    }
}
