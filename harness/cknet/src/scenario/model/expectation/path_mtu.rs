//! Owns what is expected of the size of packets on their way.
//! Must not know how it is measured.

use crate::scenario::model::Endpoint;
use crate::scenario::read::{Read, Reading, record, words};
use crate::scenario::tree::Node as TreeNode;

record! {
    "`pathMtu`";
    /// The largest packet that passes between two ends whole, there and back.
    pub struct PathMtu {
        /// From where it is sent: a workload or `node:NAME`.
        pub from: Endpoint,
        /// To where: a workload, `node:NAME` or an address.
        pub to: Endpoint,
        /// Its size in bytes, with the IP header; at least 68.
        pub is: PacketSize,
        /// What becomes of larger ones; either unless given.
        pub larger: Option<Beyond>,
    }
}

words! {
    "an end of a packet";
    /// What becomes of a packet that is too large.
    pub enum Beyond {
        /// The sender learns of it: from its own kernel, or from a router.
        Reported = "reported",
        /// It vanishes: a black hole.
        Silent = "silent",
    }
}

/// The size of an IPv4 packet in bytes, from 68 (RFC 791: what every link carries whole) to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PacketSize(u16);

impl PacketSize {
    /// Its bytes.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl std::fmt::Display for PacketSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Read for PacketSize {
    fn read(node: &TreeNode, r: &mut Reading<'_>) -> Option<Self> {
        const SMALLEST: u16 = 68;
        let size = u16::read(node, r)?;
        if size < SMALLEST {
            r.problem(node.span, format!("`{size}` is no packet size; those are {SMALLEST} to {}", u16::MAX));
            return None;
        }
        Some(Self(size))
    }
}

impl schemars::JsonSchema for PacketSize {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PacketSize".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "The size of an IPv4 packet in bytes, with its header",
            "type": "integer",
            "minimum": 68,
            "maximum": 65535,
        })
    }
}
