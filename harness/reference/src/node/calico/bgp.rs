//! What a node says over BGP and to whom: BIRD's configuration, made of Node, BGPConfiguration and BGPPeer objects as
//! calico-node's templates make it.
//!
//! Pure. Must not know processes.

use std::fmt::{self, Write};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::resources::{BGPConfigurationSpec, BGPPeerSpec, Encapsulation, IPPoolSpec};

/// The AS of a cluster that names none, and BGP's port.
const DEFAULT_AS: u32 = 64512;
const DEFAULT_PORT: u16 = 179;

/// Everything that decides about sessions and routes.
pub struct View<'a> {
    pub name: &'a str,
    pub address: Ipv4Addr,
    /// The AS that this node's annotation gives it.
    pub as_number: Option<u32>,
    /// The other nodes, each with its own AS if it has one.
    pub others: &'a [(Ipv4Addr, Option<u32>)],
    pub configuration: &'a BGPConfigurationSpec,
    pub peers: &'a [BGPPeerSpec],
    pub pools: &'a [IPPoolSpec],
    /// The blocks of this node.
    pub blocks: &'a [Ipv4Net],
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Session {
    /// `Mesh_192_168_60_12`; Calico's way to name a protocol.
    name: String,
    address: Ipv4Addr,
    port: u16,
    as_number: u32,
}

impl Session {
    fn new(kind: &str, address: Ipv4Addr, port: u16, as_number: u32) -> Self {
        let name = format!("{kind}_{}", address.to_string().replace('.', "_"));
        Self { name, address, port, as_number }
    }
}

impl View<'_> {
    fn cluster_as(&self) -> u32 {
        self.configuration.as_number.unwrap_or(DEFAULT_AS)
    }

    fn sessions(&self) -> Vec<Session> {
        let port = self.configuration.listen_port.unwrap_or(DEFAULT_PORT);
        let mut sessions = Vec::new();
        if self.configuration.node_to_node_mesh_enabled.unwrap_or(true) {
            let own = self.others.iter();
            sessions.extend(own.map(|(address, number)| {
                Session::new("Mesh", *address, port, number.unwrap_or_else(|| self.cluster_as()))
            }));
        }
        sessions.extend(self.peers.iter().filter_map(|peer| self.peer(peer)));
        sessions.sort();
        sessions.dedup_by(|one, other| one.address == other.address);
        sessions
    }

    /// The session that a BGPPeer calls for on this node, if it means this node.
    fn peer(&self, peer: &BGPPeerSpec) -> Option<Session> {
        let kind = match (&peer.node, peer.node_selector.as_deref()) {
            (Some(node), _) if node == self.name => "Node",
            (None, None | Some("" | "all()")) => "Global",
            // Other selectors are outside of this model.
            _ => return None,
        };
        let (address, port) = match peer.peer_ip.as_deref()?.split_once(':') {
            Some((address, port)) => (address.parse().ok()?, port.parse().ok()?),
            None => (peer.peer_ip.as_deref()?.parse().ok()?, DEFAULT_PORT),
        };
        (address != self.address).then(|| Session::new(kind, address, port, peer.as_number))
    }

    /// The text of `bird.cfg`.
    pub fn config(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        let address = self.address;
        let own_as = self.as_number.unwrap_or_else(|| self.cluster_as());
        writeln!(out, "router id {address};\nlog stderr all;\ndebug protocols {{ states }};\n")?;
        writeln!(out, "protocol device {{ scan time 2; }}")?;
        writeln!(out, "protocol direct {{ ipv4; interface -\"cali*\", -\"vxlan*\", \"*\"; }}\n")?;
        // A block is announced whole; packets for addresses in it that no pod has end here.
        writeln!(out, "protocol static {{\n  ipv4;")?;
        for block in self.blocks {
            writeln!(out, "  route {block} blackhole;")?;
        }
        writeln!(out, "}}\nfunction calico_aggr() {{")?;
        for block in self.blocks {
            writeln!(out, "  if net = {block} then accept;\n  if net ~ {block} then reject;")?;
        }
        writeln!(out, "}}\nfilter calico_export_to_bgp_peers {{\n  calico_aggr();")?;
        for pool in self.pools {
            writeln!(out, "  if net ~ {} then accept;", pool.cidr)?;
        }
        writeln!(out, "  reject;\n}}\nfilter calico_kernel_programming {{")?;
        for pool in self.pools.iter().filter(|pool| pool.vxlan_mode != Encapsulation::Never) {
            writeln!(out, "  # VXLAN routes are programmed by Felix.\n  if net ~ {} then reject;", pool.cidr)?;
        }
        writeln!(out, "  if source = RTS_STATIC || source = RTS_BGP then accept;\n  reject;\n}}\n")?;
        writeln!(
            out,
            "protocol kernel {{\n  learn;\n  persist;\n  scan time 2;\n  graceful restart;\n  merge paths on;"
        )?;
        writeln!(out, "  ipv4 {{ import all; export filter calico_kernel_programming; }};\n}}\n")?;
        let listen = self.configuration.listen_port.unwrap_or(DEFAULT_PORT);
        writeln!(
            out,
            "template bgp bgp_template {{\n  debug {{ states }};\n  description \"Connection to BGP peer\";"
        )?;
        writeln!(out, "  local {address} port {listen} as {own_as};\n  multihop;\n  graceful restart;")?;
        writeln!(out, "  connect delay time 0;\n  connect retry time 1;\n  error wait time 1, 2;")?;
        writeln!(out, "  ipv4 {{\n    import all;\n    export filter calico_export_to_bgp_peers;")?;
        writeln!(out, "    gateway recursive;\n    add paths on;\n  }};\n}}\n")?;
        for Session { name, address, port, as_number } in self.sessions() {
            writeln!(
                out,
                "protocol bgp {name} from bgp_template {{ neighbor {address} port {port} as {as_number}; }}"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn sessions(configuration: serde_json::Value, peers: serde_json::Value) -> Vec<String> {
        let others = [("192.168.60.12".parse().unwrap(), None), ("192.168.60.13".parse().unwrap(), Some(64600))];
        let view = View {
            name: "cp1",
            address: "192.168.60.11".parse().unwrap(),
            as_number: None,
            others: &others,
            configuration: &serde_json::from_value(configuration).unwrap(),
            peers: &serde_json::from_value::<Vec<_>>(peers).unwrap(),
            pools: &[],
            blocks: &["10.1.0.0/26".parse().unwrap()],
        };
        let line = |line: &str| line.strip_prefix("protocol bgp ").map(str::to_string);
        view.config().lines().filter_map(line).collect()
    }

    #[test]
    fn nodes_form_a_mesh_unless_told_otherwise() {
        let mesh = sessions(json!({}), json!([]));
        assert_eq!(mesh.len(), 2);
        assert!(mesh[0].ends_with("{ neighbor 192.168.60.12 port 179 as 64512; }"), "{mesh:?}");
        assert!(mesh[1].ends_with("{ neighbor 192.168.60.13 port 179 as 64600; }"), "{mesh:?}");
        assert!(sessions(json!({"asNumber": 65001}), json!([]))[0].contains("as 65001"));
        assert!(sessions(json!({"nodeToNodeMeshEnabled": false}), json!([])).is_empty());
    }

    #[test]
    fn peers_are_for_all_nodes_or_for_one() {
        let off = || json!({"nodeToNodeMeshEnabled": false});
        let peers = json!([
            {"peerIP": "192.168.60.1", "asNumber": 64999},
            {"peerIP": "192.168.60.2:1790", "asNumber": 64998, "node": "cp1"},
            {"peerIP": "192.168.60.3", "asNumber": 64997, "node": "w1"},
        ]);
        let found = sessions(off(), peers);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("Global_192_168_60_1 ") && found[0].contains("port 179 as 64999"), "{found:?}");
        assert!(found[1].starts_with("Node_192_168_60_2 ") && found[1].contains("port 1790 as 64998"), "{found:?}");
    }
}
