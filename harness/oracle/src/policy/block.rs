//! An `ipBlock`: a range of addresses without some of its parts.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// Addresses inside `cidr` and outside every `except`.
///
/// A block of one family says nothing about the other. An IPv4 range written in IPv6 form
/// (`::ffff:10.0.0.0/104`) is that IPv4 range, as it is for the API server's own parser.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IpBlock {
    cidr: IpNet,
    except: Vec<IpNet>,
}

impl IpBlock {
    /// A block; host bits of the ranges do not count.
    pub fn new(cidr: IpNet, except: impl IntoIterator<Item = IpNet>) -> Self {
        Self { cidr: unmapped(cidr), except: except.into_iter().map(unmapped).collect() }
    }

    /// The range, without host bits.
    pub fn cidr(&self) -> IpNet {
        self.cidr
    }

    /// The parts that the range leaves out.
    pub fn except(&self) -> &[IpNet] {
        &self.except
    }

    /// Whether the block has this address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.cidr.contains(&address) && !self.except.iter().any(|part| part.contains(&address))
    }

    /// Whether the exceptions together leave nothing of the range.
    pub fn is_empty(&self) -> bool {
        IpNet::aggregate(&self.except).iter().any(|part| part.contains(&self.cidr))
    }
}

fn unmapped(net: IpNet) -> IpNet {
    let net = net.trunc();
    let IpNet::V6(six) = net else { return net };
    match (six.addr().to_ipv4_mapped(), six.prefix_len().checked_sub(96)) {
        (Some(four), Some(length)) => match Ipv4Net::new(four, length) {
            Ok(four) => IpNet::V4(four),
            // Not reached: 128 - 96 is the longest IPv4 prefix.
            Err(_) => net,
        },
        _ => net,
    }
}

impl fmt::Display for IpBlock {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.cidr)?;
        for (position, part) in self.except.iter().enumerate() {
            let joint = if position == 0 { " except " } else { ", " };
            write!(out, "{joint}{part}")?;
        }
        Ok(())
    }
}
