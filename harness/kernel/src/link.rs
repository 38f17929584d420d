//! Links of one namespace by verbs: veth pairs, bridges, VXLAN devices; up, down, MTU, deleted.
//!
//! Every failure names what was tried and on which link. Addresses, routes and neighbours are in `route`.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use futures::TryStreamExt;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan};

use crate::ns::NetNs;

/// The rtnetlink verbs of one network namespace.
#[derive(Clone, Debug)]
pub struct Netlink {
    pub(crate) handle: rtnetlink::Handle,
}

/// A request that the kernel refused: what was tried, and its answer.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing}: {cause}")]
pub struct NetlinkError {
    pub doing: String,
    pub cause: io::Error,
}

pub type Result<T> = std::result::Result<T, NetlinkError>;

impl NetlinkError {
    /// The errno of the kernel's answer, if it was one.
    pub fn errno(&self) -> Option<i32> {
        self.cause.raw_os_error()
    }

    pub fn is_exists(&self) -> bool {
        self.errno() == Some(nix::libc::EEXIST)
    }

    /// The link, address or route was not there.
    pub fn is_absent(&self) -> bool {
        matches!(
            self.errno(),
            Some(nix::libc::ENODEV | nix::libc::ESRCH | nix::libc::ENOENT | nix::libc::EADDRNOTAVAIL)
        )
    }
}

/// Turns an rtnetlink failure into one that says what was tried.
pub(crate) fn refused(doing: impl FnOnce() -> String) -> impl FnOnce(rtnetlink::Error) -> NetlinkError {
    move |error| {
        let cause = match error {
            rtnetlink::Error::NetlinkError(message) => io::Error::from_raw_os_error(-message.raw_code()),
            other => io::Error::other(other.to_string()),
        };
        NetlinkError { doing: doing(), cause }
    }
}

/// One end of a veth pair.
#[derive(Clone, Debug)]
pub struct VethEnd<'a> {
    pub name: &'a str,
    /// Hardware address; chosen by the kernel when absent.
    pub mac: Option<[u8; 6]>,
    pub mtu: u32,
}

/// A VXLAN device with one VNI, no multicast group and no learning: its FDB is programmed.
#[derive(Clone, Debug)]
pub struct Vxlan<'a> {
    pub name: &'a str,
    pub vni: u32,
    /// UDP destination port.
    pub port: u16,
    /// Outer source address.
    pub local: Ipv4Addr,
    /// Index of the device that carries the outer packets.
    pub parent: u32,
    pub mac: [u8; 6],
    pub mtu: u32,
}

/// A VXLAN device as an administrator makes it: it learns who is where, and floods what it does not know.
#[derive(Clone, Debug)]
pub struct LearningVxlan<'a> {
    pub name: &'a str,
    /// `None` for metadata mode (`external` of ip-link(8)): each packet says its VNI.
    pub vni: Option<u32>,
    /// UDP destination port.
    pub port: u16,
    /// Index of the device that carries the outer packets; by the routes where there is none.
    pub parent: Option<u32>,
    /// The other end, to which everything goes that is not known better.
    pub remote: Option<Ipv4Addr>,
    pub mtu: Option<u32>,
}

/// What is known of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub up: bool,
    pub mtu: u32,
    pub mac: Option<[u8; 6]>,
    /// Index of the device below, for VXLAN and VLAN devices; of the other end for a veth.
    pub parent: Option<u32>,
    pub vxlan: Option<VxlanFacts>,
}

/// What the kernel says of a VXLAN device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VxlanFacts {
    pub vni: u32,
    pub port: u16,
    pub local: Option<Ipv4Addr>,
    pub parent: Option<u32>,
}

impl Netlink {
    /// Opens the verbs of `namespace`; requests are driven by the current tokio runtime.
    pub fn open(namespace: &NetNs) -> io::Result<Self> {
        Ok(Self { handle: namespace.netlink()? })
    }

    /// Makes a veth pair: `near` in this namespace, `far` in the namespace behind `far_ns`, in one request.
    pub async fn add_veth(&self, near: &VethEnd<'_>, far: &VethEnd<'_>, far_ns: BorrowedFd<'_>) -> Result<()> {
        let mut peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(far.name.to_string())
            .mtu(far.mtu)
            .setns_by_fd(far_ns.as_raw_fd());
        if let Some(mac) = far.mac {
            peer = peer.address(mac.to_vec());
        }
        let mut pair = LinkVeth::new(near.name, far.name)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())))
            .mtu(near.mtu);
        if let Some(mac) = near.mac {
            pair = pair.address(mac.to_vec());
        }
        let request = self.handle.link().add(pair.build()).execute();
        request.await.map_err(refused(|| format!("create veth pair `{}` - `{}`", near.name, far.name)))
    }

    pub async fn add_bridge(&self, name: &str) -> Result<()> {
        let bridge = LinkBridge::new(name).mcast_snooping(false).up().build();
        let request = self.handle.link().add(bridge).execute();
        request.await.map_err(refused(|| format!("create bridge `{name}`")))
    }

    pub async fn add_vxlan(&self, device: &Vxlan<'_>) -> Result<()> {
        let message = LinkVxlan::new(device.name, device.vni)
            .dev(device.parent)
            .port(device.port)
            .local(device.local)
            .learning(false)
            .address(device.mac.to_vec())
            .mtu(device.mtu)
            .up()
            .build();
        let request = self.handle.link().add(message).execute();
        request.await.map_err(refused(|| {
            format!("create vxlan device `{}` with VNI {} on UDP {}", device.name, device.vni, device.port)
        }))
    }

    /// Makes a learning VXLAN device and sets it up, or leaves nothing behind.
    pub async fn add_learning_vxlan(&self, device: &LearningVxlan<'_>) -> Result<()> {
        let mut message = LinkVxlan::new(device.name, device.vni.unwrap_or(0)).port(device.port).up();
        if device.vni.is_none() {
            message = message.collect_metadata(true);
        }
        if let Some(parent) = device.parent {
            message = message.dev(parent);
        }
        if let Some(remote) = device.remote {
            message = message.remote(remote);
        }
        if let Some(mtu) = device.mtu {
            message = message.mtu(mtu);
        }
        let request = self.handle.link().add(message.build()).execute();
        request.await.map_err(refused(|| match device.vni {
            Some(vni) => format!("create vxlan device `{}` with VNI {vni} on UDP {}", device.name, device.port),
            None => format!("create vxlan device `{}` in metadata mode on UDP {}", device.name, device.port),
        }))
    }

    /// Makes the link with `index` a port of the bridge with index `bridge`.
    pub async fn enslave(&self, index: u32, bridge: u32) -> Result<()> {
        self.set(LinkUnspec::new_with_index(index).controller(bridge).up().build(), || {
            format!("attach link {index} to bridge {bridge}")
        })
        .await
    }

    pub async fn up(&self, index: u32) -> Result<()> {
        self.set(LinkUnspec::new_with_index(index).up().build(), || format!("set link {index} up")).await
    }

    pub async fn down(&self, index: u32) -> Result<()> {
        self.set(LinkUnspec::new_with_index(index).down().build(), || format!("set link {index} down")).await
    }

    /// Gives a link another name; it has to be down.
    pub async fn rename(&self, index: u32, name: &str) -> Result<()> {
        let change = LinkUnspec::new_with_index(index).name(name.to_string()).build();
        self.set(change, || format!("rename link {index} to `{name}`")).await
    }

    pub async fn set_mtu(&self, index: u32, mtu: u32) -> Result<()> {
        self.set(LinkUnspec::new_with_index(index).mtu(mtu).build(), || format!("set MTU {mtu} on link {index}")).await
    }

    /// Deletes a link; one that is not there is no failure.
    pub async fn delete(&self, index: u32) -> Result<()> {
        match self.handle.link().del(index).execute().await.map_err(refused(|| format!("delete link {index}"))) {
            Err(error) if error.is_absent() => Ok(()),
            other => other,
        }
    }

    /// The link with this name, or `None`.
    pub async fn link(&self, name: &str) -> Result<Option<Link>> {
        let mut found = self.handle.link().get().match_name(name.to_string()).execute();
        match std::pin::pin!(&mut found).try_next().await.map_err(refused(|| format!("look up link `{name}`"))) {
            Ok(message) => Ok(message.map(|message| Link::from(&message))),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The link with this name; one that is not there is a failure.
    pub async fn expect_link(&self, name: &str) -> Result<Link> {
        self.link(name).await?.ok_or_else(|| NetlinkError {
            doing: format!("find link `{name}`"),
            cause: io::Error::from_raw_os_error(nix::libc::ENODEV),
        })
    }

    pub async fn links(&self) -> Result<Vec<Link>> {
        let messages: Vec<LinkMessage> =
            self.handle.link().get().execute().try_collect().await.map_err(refused(|| "list links".into()))?;
        Ok(messages.iter().map(Link::from).collect())
    }

    async fn set(&self, message: LinkMessage, doing: impl FnOnce() -> String) -> Result<()> {
        self.handle.link().set(message).execute().await.map_err(refused(doing))
    }
}

impl From<&LinkMessage> for Link {
    fn from(message: &LinkMessage) -> Self {
        let mut link = Link {
            index: message.header.index,
            name: String::new(),
            up: message.header.flags.contains(LinkFlags::Up),
            mtu: 0,
            mac: None,
            parent: None,
            vxlan: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().ok(),
                LinkAttribute::Link(parent) => link.parent = Some(*parent),
                LinkAttribute::LinkInfo(info) => link.vxlan = info.iter().find_map(vxlan_facts),
                _ => {}
            }
        }
        link
    }
}

fn vxlan_facts(info: &LinkInfo) -> Option<VxlanFacts> {
    let LinkInfo::Data(InfoData::Vxlan(data)) = info else { return None };
    let mut facts = VxlanFacts { vni: 0, port: 0, local: None, parent: None };
    for item in data {
        match item {
            InfoVxlan::Id(vni) => facts.vni = *vni,
            InfoVxlan::Port(port) => facts.port = *port,
            InfoVxlan::Local(local) => facts.local = Some(*local),
            InfoVxlan::Link(parent) => facts.parent = Some(*parent),
            _ => {}
        }
    }
    Some(facts)
}
