//! Owns what is expected of the packets of a flow where they pass.
//! Must not know how they are watched.

use super::yes;
use crate::scenario::late::Late;
use crate::scenario::model::{Address, Endpoint, NodeName, PortNumber, PortProto, SegmentName, Via};
use crate::scenario::read::{Read, Reading, record, words};
use crate::scenario::tree::{Node as TreeNode, Value};

record! {
    "`wire`";
    /// How the packets of a flow look where they pass: the flow is sent while somebody watches. A flow of which
    /// nothing is seen there refutes this, unless `present` is false.
    pub struct Wire {
        /// From where it is sent: a workload or `node:NAME`.
        pub from: Endpoint,
        /// To where it is sent. Only packets in this direction are looked at.
        pub to: Endpoint,
        /// To which port.
        pub port: PortProto,
        /// By which address it goes; `pod` unless given.
        #[schemars(default)]
        pub via: Via = Via::default(),
        /// Where its packets are watched.
        pub on: WatchPoint,
        /// What they are wrapped in.
        pub encapsulated: Option<Encapsulated>,
        /// The VXLAN network identifier, mostly `${cni.overlayVni}`.
        pub vni: Option<u32>,
        /// The UDP port to which the tunnel sends, mostly `${cni.overlayPort}`.
        pub outer_port: Option<PortNumber>,
        /// Whose address the tunnel sends from.
        pub outer_from: Option<Late<Address>>,
        /// Whose address the tunnel sends to.
        pub outer_to: Option<Late<Address>>,
        /// Whether the flow passes there; `true` unless given. One that does not has to be answered all the same:
        /// it takes another way.
        #[schemars(default = "yes")]
        pub present: bool = yes(),
    }
}

words! {
    "an encapsulation of packets";
    /// What packets are wrapped in.
    pub enum Encapsulated {
        /// VXLAN.
        Vxlan = "vxlan",
        /// Nothing.
        None = "none",
    }
}

/// Where packets are watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchPoint {
    /// Everywhere on a segment: at each interface that is attached to it.
    Segment(SegmentName),
    /// At one device of a node.
    Device(DeviceOf),
}

record! {
    "a device of a node";
    /// A device of a node.
    pub struct DeviceOf {
        /// The node.
        pub node: NodeName,
        /// The device, mostly `${cni.overlayDevice}`.
        pub device: String,
    }
}

impl std::fmt::Display for WatchPoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Segment(name) => write!(f, "segment {name}"),
            Self::Device(DeviceOf { node, device }) => write!(f, "{node} {device}"),
        }
    }
}

impl Read for WatchPoint {
    fn read(node: &TreeNode, r: &mut Reading<'_>) -> Option<Self> {
        match &node.value {
            Value::Map(_) => DeviceOf::read(node, r).map(Self::Device),
            _ => SegmentName::read(node, r).map(Self::Segment),
        }
    }
}

impl schemars::JsonSchema for WatchPoint {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "WatchPoint".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let segment = generator.subschema_for::<SegmentName>();
        let device = generator.subschema_for::<DeviceOf>();
        schemars::json_schema!({
            "description": "Where packets are watched: a segment, or `{node, device}`",
            "anyOf": [segment, device],
        })
    }
}

impl Wire {
    /// What the packets are expected to look like, in words.
    #[must_use]
    pub fn look(&self) -> String {
        let mut text = match self.encapsulated {
            _ if !self.present => return "not seen".into(),
            Some(Encapsulated::Vxlan) => "in VXLAN".to_owned(),
            Some(Encapsulated::None) => return "not encapsulated".into(),
            None => return "seen".into(),
        };
        let mut add = |what: &str, value: Option<String>| {
            if let Some(value) = value {
                text.push_str(&format!(", {what} {value}"));
            }
        };
        add("VNI", self.vni.map(|vni| vni.to_string()));
        add("UDP", self.outer_port.map(|port| port.to_string()));
        add("from", self.outer_from.as_ref().map(ToString::to_string));
        add("to", self.outer_to.as_ref().map(ToString::to_string));
        text
    }
}
