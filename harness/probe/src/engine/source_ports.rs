//! Which source port the next datagram to a target leaves from.
//!
//! The kernel picks ports for UDP at random, so with a probe every 20 ms it soon repeats one that connection
//! tracking still holds as allowed (30 to 120 s), and the datagram passes a policy that denies it. Ports are
//! therefore handed out in turn for each target; TCP needs nothing, because the kernel does the same there.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;

/// The kernel's default `ip_local_port_range`.
const FIRST: u16 = 32768;
const COUNT: u16 = 28232;
/// Targets remembered; beyond that the map starts anew rather than grow.
const MOST_TARGETS: usize = 1 << 16;

#[derive(Debug, Default)]
pub(super) struct SourcePorts {
    start: RandomState,
    next: HashMap<SocketAddr, u16>,
}

impl SourcePorts {
    /// The next port to try for this target.
    pub(super) fn draw(&mut self, target: SocketAddr) -> u16 {
        if self.next.len() >= MOST_TARGETS {
            self.next.clear();
        }
        // Targets start at different places, or all cells of a pass would want the same port.
        let start = || (self.start.hash_one(target) % u64::from(COUNT)) as u16;
        let turn = self.next.entry(target).or_insert_with(start);
        let port = FIRST + *turn;
        *turn = (*turn + 1) % COUNT;
        port
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_port_comes_back_only_after_all_others() {
        let mut ports = SourcePorts::default();
        let target = "10.0.0.1:53".parse().unwrap();
        let drawn: std::collections::HashSet<_> = (0..COUNT).map(|_| ports.draw(target)).collect();
        assert_eq!(drawn.len(), usize::from(COUNT));
        assert!(drawn.iter().all(|port| (32768..=60999).contains(port)));
    }
}
