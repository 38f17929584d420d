//! What a rule looks at in a packet, and the bytes it is compared with.
//!
//! Knows widths, byte orders and the type numbers by which the `nft` program shows values; nothing of rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IP protocol number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u8);

impl Protocol {
    pub const ICMP: Self = Self(1);
    pub const IPIP: Self = Self(4);
    pub const TCP: Self = Self(6);
    pub const UDP: Self = Self(17);
    pub const ICMPV6: Self = Self(58);
    pub const SCTP: Self = Self(132);
}

/// A connection tracking state, as a bit (`enum ip_conntrack_info` as nf_tables numbers it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CtState(pub u32);

impl CtState {
    pub const INVALID: Self = Self(1);
    pub const ESTABLISHED: Self = Self(2);
    pub const RELATED: Self = Self(4);
    pub const NEW: Self = Self(8);
    pub const UNTRACKED: Self = Self(64);
}

impl std::ops::BitOr for CtState {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A connection tracking status bit (`enum ip_conntrack_status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CtStatus(pub u32);

impl CtStatus {
    pub const CONFIRMED: Self = Self(8);
    pub const SNAT: Self = Self(16);
    pub const DNAT: Self = Self(32);
}

/// A direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    Original,
    Reply,
}

/// What the routing table says an address is (`RTN_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressType {
    Unicast = 1,
    Local = 2,
    Broadcast = 3,
    Multicast = 5,
}

/// Which address a routing table question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FibAddress {
    Source,
    Destination,
}

/// Something of a packet, or of its connection, or a number made for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    IifName,
    OifName,
    NfProto,
    L4Proto,
    Mark,
    Ip4Source,
    Ip4Destination,
    Ip6Source,
    Ip6Destination,
    SourcePort,
    DestinationPort,
    IcmpType,
    Icmp6Type,
    CtState,
    CtStatus,
    CtDirection,
    CtMark,
    /// The destination port of the connection's first packet, before any translation.
    CtOriginalPort,
    /// The destination address of the connection's first packet, before any translation.
    CtOriginalIp4Destination,
    /// The type of an address; `on_interface` asks about the outgoing interface only.
    AddressType {
        address: FibAddress,
        on_interface: bool,
    },
    /// A random number below `modulus`.
    Random {
        modulus: u32,
    },
    /// A number below `modulus` that grows by one with each packet.
    Increment {
        modulus: u32,
    },
}

impl Field {
    /// The type of this field in a set.
    pub const fn key_type(self) -> KeyType {
        match self {
            Self::IifName | Self::OifName => KeyType::InterfaceName,
            Self::NfProto => KeyType::NfProto,
            Self::L4Proto => KeyType::Protocol,
            Self::Mark | Self::CtMark => KeyType::Mark,
            Self::Ip4Source | Self::Ip4Destination | Self::CtOriginalIp4Destination => KeyType::Ip4,
            Self::Ip6Source | Self::Ip6Destination => KeyType::Ip6,
            Self::SourcePort | Self::DestinationPort | Self::CtOriginalPort => KeyType::Port,
            Self::IcmpType => KeyType::IcmpType,
            Self::Icmp6Type => KeyType::Icmp6Type,
            Self::CtState => KeyType::CtState,
            Self::CtStatus => KeyType::CtStatus,
            Self::CtDirection => KeyType::CtDirection,
            Self::AddressType { .. } => KeyType::AddressType,
            Self::Random { .. } | Self::Increment { .. } => KeyType::Integer,
        }
    }

    /// Bytes of the field's value.
    pub const fn width(self) -> usize {
        self.key_type().width()
    }
}

/// The type of one component of a set's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyType {
    Integer,
    NfProto,
    Ip4,
    Ip6,
    Protocol,
    Port,
    IcmpType,
    Mark,
    CtState,
    CtDirection,
    CtStatus,
    Icmp6Type,
    AddressType,
    InterfaceName,
}

impl KeyType {
    /// Bytes of a value of this type.
    pub const fn width(self) -> usize {
        match self {
            Self::NfProto | Self::Protocol | Self::IcmpType | Self::Icmp6Type | Self::CtDirection => 1,
            Self::Port => 2,
            Self::Integer | Self::Ip4 | Self::Mark | Self::CtState | Self::CtStatus | Self::AddressType => 4,
            Self::Ip6 | Self::InterfaceName => 16,
        }
    }

    /// Bytes of a value of this type inside a concatenated key: registers hold four bytes each.
    pub const fn slot(self) -> usize {
        (self.width() + 3) & !3
    }

    /// The number of this type in nft's `enum datatypes`; the kernel only keeps it for whoever lists the set.
    pub(super) const fn number(self) -> u32 {
        match self {
            Self::Integer => 4,
            Self::NfProto => 2,
            Self::Ip4 => 7,
            Self::Ip6 => 8,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::IcmpType => 14,
            Self::Mark => 19,
            Self::CtState => 26,
            Self::CtDirection => 27,
            Self::CtStatus => 28,
            Self::Icmp6Type => 29,
            Self::AddressType => 38,
            Self::InterfaceName => 41,
        }
    }

    /// Whether values are kept in the machine's byte order.
    pub(super) const fn host_order(self) -> bool {
        matches!(
            self,
            Self::Integer | Self::Mark | Self::CtState | Self::CtStatus | Self::AddressType | Self::InterfaceName
        )
    }
}

/// The bytes of a value, as the kernel holds them in a register.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(pub(super) Vec<u8>);

impl Value {
    /// The raw bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// A number in the machine's byte order: marks, states, counters.
    pub fn host(number: u32) -> Self {
        Self(number.to_ne_bytes().to_vec())
    }

    /// An interface name as a whole, padded; names are at most 15 bytes, longer ones are cut.
    pub fn interface(name: &str) -> Self {
        let mut bytes = name.as_bytes().to_vec();
        bytes.truncate(15);
        bytes.resize(16, 0);
        Self(bytes)
    }

    /// The beginning of an interface name: what `cali*` matches.
    pub fn interface_prefix(prefix: &str) -> Self {
        Self(prefix.as_bytes().to_vec())
    }

    /// Several values as one key, each padded to whole registers.
    pub fn concat<const N: usize>(parts: [Value; N]) -> Self {
        let mut bytes = Vec::new();
        for part in parts {
            bytes.extend_from_slice(&part.0);
            bytes.resize((bytes.len() + 3) & !3, 0);
        }
        Self(bytes)
    }
}

impl From<Ipv4Addr> for Value {
    fn from(address: Ipv4Addr) -> Self {
        Self(address.octets().to_vec())
    }
}

impl From<Ipv6Addr> for Value {
    fn from(address: Ipv6Addr) -> Self {
        Self(address.octets().to_vec())
    }
}

impl From<IpAddr> for Value {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => address.into(),
        }
    }
}

impl From<Protocol> for Value {
    fn from(protocol: Protocol) -> Self {
        Self(vec![protocol.0])
    }
}

/// A port, or another number of two bytes in network order.
impl From<u16> for Value {
    fn from(port: u16) -> Self {
        Self(port.to_be_bytes().to_vec())
    }
}

/// A number of one byte.
impl From<u8> for Value {
    fn from(number: u8) -> Self {
        Self(vec![number])
    }
}

impl From<CtState> for Value {
    fn from(state: CtState) -> Self {
        Self::host(state.0)
    }
}

impl From<AddressType> for Value {
    fn from(kind: AddressType) -> Self {
        Self::host(kind as u32)
    }
}

impl From<Direction> for Value {
    fn from(direction: Direction) -> Self {
        Self(vec![direction as u8])
    }
}
