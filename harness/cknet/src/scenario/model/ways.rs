//! Owns which segments a machine reaches, and through which router: what its routing table is made of.
//! Must not know who sets the routes.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::{NodeName, Role, SegmentName, Topology};

/// A segment to which a machine has no interface, and the router next to the machine that leads there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way<'t> {
    /// Where it leads.
    pub segment: &'t SegmentName,
    /// The router's address on a segment of the machine.
    pub via: IpAddr,
}

impl Topology {
    /// The ways from a machine to all segments that routers join to its own, over as few routers as possible.
    #[must_use]
    pub fn ways(&self, node: &NodeName) -> Vec<Way<'_>> {
        let Some(machine) = self.nodes.get(node) else { return Vec::new() };
        let mut seen: Vec<&SegmentName> = machine.nics.iter().map(|(_, nic)| &nic.segment).collect();
        let mut next: VecDeque<(&SegmentName, Option<IpAddr>)> = seen.iter().map(|segment| (*segment, None)).collect();
        let mut ways = Vec::new();
        while let Some((segment, hop)) = next.pop_front() {
            for (router, address) in self.routers_on(segment).filter(|(router, _)| *router != node) {
                let via = hop.unwrap_or(address);
                for (_, nic) in self.nodes.get(router).into_iter().flat_map(|router| router.nics.iter()) {
                    if !seen.contains(&&nic.segment) {
                        seen.push(&nic.segment);
                        ways.push(Way { segment: &nic.segment, via });
                        next.push_back((&nic.segment, Some(via)));
                    }
                }
            }
        }
        ways
    }

    /// The router to which a machine gives what it knows no other way for: the first one on the segment of its first
    /// interface. A router has none.
    #[must_use]
    pub fn default_router(&self, node: &NodeName) -> Option<IpAddr> {
        let machine = self.nodes.get(node).filter(|machine| machine.role != Role::Router)?;
        let (_, first) = machine.first_nic()?;
        self.routers_on(&first.segment).next().map(|(_, address)| address)
    }

    /// Whether a machine has an interface on the segment of another one's first interface, or a way there.
    #[must_use]
    pub fn joined(&self, from: &NodeName, to: &NodeName) -> bool {
        let Some((_, target)) = self.nodes.get(to).and_then(|node| node.first_nic()) else { return false };
        let near = self.nodes.get(from).is_some_and(|node| node.nics.iter().any(|(_, n)| n.segment == target.segment));
        near || self.ways(from).iter().any(|way| *way.segment == target.segment)
    }

    /// The routers with an interface on a segment, each with its address there.
    fn routers_on<'t>(&'t self, segment: &SegmentName) -> impl Iterator<Item = (&'t NodeName, IpAddr)> {
        let routers = self.nodes.iter().filter(|(_, node)| node.role == Role::Router);
        routers.filter_map(move |(name, node)| {
            let (_, nic) = node.nics.iter().find(|(_, nic)| nic.segment == *segment)?;
            Some((name, nic.address))
        })
    }
}
