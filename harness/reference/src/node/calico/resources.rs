//! Calico's own kinds in crd.projectcalico.org/v1, as far as a node reads or writes them.

use std::borrow::Cow;

use ipnet::Ipv4Net;
use kube::api::ObjectMeta;
use kube::core::ClusterResourceScope;
use serde::{Deserialize, Serialize};

/// Declares a cluster-scoped kind of crd.projectcalico.org/v1 with a `spec`.
macro_rules! calico_kind {
    ($(#[$doc:meta])* $name:ident, $spec:ident, $plural:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Serialize, Deserialize)]
        pub struct $name {
            #[serde(rename = "apiVersion", default = "api_version")]
            pub api_version: String,
            #[serde(default)]
            pub kind: String,
            pub metadata: ObjectMeta,
            pub spec: $spec,
        }

        impl $name {
            pub fn new(name: &str, spec: $spec) -> Self {
                let metadata = ObjectMeta { name: Some(name.to_string()), ..ObjectMeta::default() };
                Self { api_version: api_version(), kind: stringify!($name).to_string(), metadata, spec }
            }
        }

        impl kube::Resource for $name {
            type DynamicType = ();
            type Scope = ClusterResourceScope;

            fn kind((): &()) -> Cow<'_, str> {
                stringify!($name).into()
            }
            fn group((): &()) -> Cow<'_, str> {
                "crd.projectcalico.org".into()
            }
            fn version((): &()) -> Cow<'_, str> {
                "v1".into()
            }
            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }
            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

fn api_version() -> String {
    "crd.projectcalico.org/v1".into()
}

calico_kind! {
    /// A range of addresses for pods and how packets between its blocks travel.
    IPPool, IPPoolSpec, "ippools"
}
calico_kind! {
    /// A block of a pool: who it belongs to and which of its addresses are given out.
    IPAMBlock, IPAMBlockSpec, "ipamblocks"
}
calico_kind! {
    /// That a block belongs to a node.
    BlockAffinity, BlockAffinitySpec, "blockaffinities"
}
calico_kind! {
    /// Settings of Felix, the agent on each node.
    FelixConfiguration, FelixConfigurationSpec, "felixconfigurations"
}

calico_kind! {
    /// How the cluster speaks BGP; the object named `default` counts.
    BGPConfiguration, BGPConfigurationSpec, "bgpconfigurations"
}
calico_kind! {
    /// A router with which nodes speak BGP.
    BGPPeer, BGPPeerSpec, "bgppeers"
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BGPConfigurationSpec {
    pub as_number: Option<u32>,
    pub listen_port: Option<u16>,
    pub node_to_node_mesh_enabled: Option<bool>,
    /// Blocks of service addresses that are announced, and so are sent here from outside.
    #[serde(rename = "serviceClusterIPs", default)]
    pub service_cluster_ips: Vec<ServiceBlock>,
    #[serde(flatten)]
    pub rest: serde_json::Map<String, serde_json::Value>,
}

/// A block of addresses of services.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceBlock {
    pub cidr: Ipv4Net,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BGPPeerSpec {
    /// The one node that is meant; all if neither this nor a selector is given.
    pub node: Option<String>,
    pub node_selector: Option<String>,
    /// Address, perhaps with a port.
    #[serde(rename = "peerIP")]
    pub peer_ip: Option<String>,
    #[serde(default)]
    pub as_number: u32,
    #[serde(flatten)]
    pub rest: serde_json::Map<String, serde_json::Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IPPoolSpec {
    pub cidr: Ipv4Net,
    #[serde(default = "default_block_size")]
    pub block_size: u8,
    #[serde(default)]
    pub vxlan_mode: Encapsulation,
    #[serde(default)]
    pub ipip_mode: Encapsulation,
    #[serde(default)]
    pub nat_outgoing: bool,
    #[serde(default)]
    pub disabled: bool,
    #[serde(flatten)]
    pub rest: serde_json::Map<String, serde_json::Value>,
}

/// Calico's default block size: /26, 64 addresses.
fn default_block_size() -> u8 {
    26
}

/// When packets between nodes are encapsulated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encapsulation {
    Always,
    /// Only when the other node is not in the same subnet.
    CrossSubnet,
    #[default]
    Never,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IPAMBlockSpec {
    pub cidr: Ipv4Net,
    /// `host:<node>`.
    pub affinity: Option<String>,
    /// Per address of the block: index into `attributes`, or nothing when it is free.
    pub allocations: Vec<Option<usize>>,
    pub attributes: Vec<AllocationAttribute>,
    /// Free ordinals, the next to be given out first.
    pub unallocated: Vec<u32>,
    #[serde(default)]
    pub strict_affinity: bool,
    #[serde(default)]
    pub deleted: bool,
}

/// What an address was given out for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AllocationAttribute {
    pub handle_id: Option<String>,
    #[serde(default)]
    pub secondary: serde_json::Map<String, serde_json::Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BlockAffinitySpec {
    pub cidr: Ipv4Net,
    pub node: String,
    pub state: String,
    #[serde(default)]
    pub deleted: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FelixConfigurationSpec {
    /// An override of what follows from the pools: the VXLAN device is kept or removed.
    pub vxlan_enabled: Option<bool>,
    #[serde(rename = "vxlanVNI")]
    pub vxlan_vni: Option<u32>,
    pub vxlan_port: Option<u16>,
    /// `Drop` unless given, `Reject` or `Disabled`: what becomes of a packet for an announced service address that no
    /// service has.
    pub service_loop_prevention: Option<String>,
    /// What Felix shall think of its kernel instead of finding it out: `Name=value` with commas between.
    pub feature_detect_override: Option<String>,
    #[serde(flatten)]
    pub rest: serde_json::Map<String, serde_json::Value>,
}

impl FelixConfigurationSpec {
    /// Whether the overlay's device may compute checksums: not on kernels where that is said to be broken. Felix finds
    /// it so before Linux 5.8; no kernel that this runs on is that old.
    pub fn trusts_checksum_offload(&self) -> bool {
        let said = self.feature_detect_override.as_deref().unwrap_or_default();
        !said.split(',').any(|one| one.trim() == "ChecksumOffloadBroken=true")
    }
}
