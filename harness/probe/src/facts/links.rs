//! Links: what they are, whether they carry, and what a VXLAN device is set to.

use std::collections::HashMap;
use std::net::IpAddr;

use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use serde::{Deserialize, Serialize};

/// One link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub name: String,
    pub index: u32,
    /// `veth`, `bridge`, `vxlan` …; `loopback` or `physical` where the driver gives none.
    pub kind: String,
    /// Switched on.
    pub up: bool,
    /// Switched on and carrying.
    pub lower_up: bool,
    pub mtu: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// The bridge or bond it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<String>,
    /// The link below it, or the other end of a veth in this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vxlan: Option<Vxlan>,
    /// Computes the checksums of what it sends itself; unknown where its driver does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum_offload: Option<bool>,
    pub counters: LinkCounters,
}

/// How a VXLAN device is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vxlan {
    pub vni: u32,
    /// UDP port that packets are sent to.
    pub port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<IpAddr>,
    /// The device that carries the packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Learns forwarding entries from what it receives.
    pub learning: bool,
    /// Takes its VNI from routes instead of being bound to one.
    pub external: bool,
}

/// A link's counters since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkCounters {
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

/// The names behind link numbers.
pub(super) struct LinkNames(HashMap<u32, String>);

impl LinkNames {
    pub(super) fn of(links: &[LinkMessage]) -> Self {
        let name = |message: &LinkMessage| {
            message.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some((message.header.index, name.clone())),
                _ => None,
            })
        };
        Self(links.iter().filter_map(name).collect())
    }

    /// The name, or the number for a link that went since.
    pub(super) fn name(&self, index: u32) -> String {
        self.0.get(&index).cloned().unwrap_or_else(|| format!("if{index}"))
    }
}

pub(super) fn link(message: &LinkMessage, names: &LinkNames) -> Link {
    let flags = message.header.flags;
    let loopback = flags.contains(LinkFlags::Loopback);
    let mut link = Link {
        name: names.name(message.header.index),
        index: message.header.index,
        kind: if loopback { "loopback".into() } else { "physical".into() },
        up: flags.contains(LinkFlags::Up),
        lower_up: flags.contains(LinkFlags::LowerUp),
        mtu: 0,
        mac: None,
        master: None,
        parent: None,
        vxlan: None,
        checksum_offload: None,
        counters: LinkCounters::default(),
    };
    // The other end of a veth in another namespace has a number that means nothing here.
    let mut elsewhere = false;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(bytes) if !bytes.is_empty() => link.mac = Some(mac(bytes)),
            LinkAttribute::Controller(index) => link.master = Some(names.name(*index)),
            LinkAttribute::Link(index) if *index != 0 => link.parent = Some(names.name(*index)),
            LinkAttribute::LinkNetNsId(_) => elsewhere = true,
            LinkAttribute::LinkInfo(infos) => read_infos(&mut link, infos, names),
            LinkAttribute::Stats64(stats) => {
                link.counters = LinkCounters {
                    rx_packets: stats.rx_packets,
                    rx_bytes: stats.rx_bytes,
                    rx_errors: stats.rx_errors,
                    rx_dropped: stats.rx_dropped,
                    tx_packets: stats.tx_packets,
                    tx_bytes: stats.tx_bytes,
                    tx_errors: stats.tx_errors,
                    tx_dropped: stats.tx_dropped,
                };
            }
            _ => {}
        }
    }
    if elsewhere {
        link.parent = None;
    }
    link
}

fn read_infos(link: &mut Link, infos: &[LinkInfo], names: &LinkNames) {
    for info in infos {
        match info {
            LinkInfo::Kind(kind) => link.kind = kind_name(kind),
            LinkInfo::Data(InfoData::Vxlan(settings)) => link.vxlan = Some(vxlan(settings, names)),
            _ => {}
        }
    }
}

fn kind_name(kind: &InfoKind) -> String {
    match kind {
        InfoKind::Other(name) => name.clone(),
        known => format!("{known:?}").to_lowercase(),
    }
}

fn vxlan(settings: &[InfoVxlan], names: &LinkNames) -> Vxlan {
    let mut vxlan = Vxlan::default();
    for setting in settings {
        match setting {
            InfoVxlan::Id(vni) => vxlan.vni = *vni,
            InfoVxlan::Port(port) => vxlan.port = *port,
            InfoVxlan::Local(ip) if !ip.is_unspecified() => vxlan.local = Some((*ip).into()),
            InfoVxlan::Local6(ip) if !ip.is_unspecified() => vxlan.local = Some((*ip).into()),
            InfoVxlan::Link(index) if *index != 0 => vxlan.parent = Some(names.name(*index)),
            InfoVxlan::Learning(on) => vxlan.learning = *on,
            InfoVxlan::CollectMetadata(on) => vxlan.external = *on,
            _ => {}
        }
    }
    vxlan
}

pub(super) fn mac(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}
