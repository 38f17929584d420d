//! What a failed system call or a queued error says about the network. Pure: numbers in, a sight out.

use std::net::IpAddr;

use nix::errno::Errno;

use super::error_queue::{Origin, Reported};
use crate::wire::{Doubt, Sight};

/// The circumstances of a failure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failed {
    pub(super) errno: Errno,
    /// The error queue's entry, if there was one.
    pub(super) reported: Option<Reported>,
    pub(super) target: IpAddr,
    /// The address the probe left from, if known.
    pub(super) local: Option<IpAddr>,
    /// Whether the probe is a lone packet, for which "port unreachable" is the only way to say closed.
    pub(super) datagram: bool,
}

const V4_UNREACHABLE: u8 = 3;
const V6_UNREACHABLE: u8 = 1;

/// The sight of a probe that failed while or after it was sent.
pub(super) fn sight(failed: &Failed) -> Sight {
    if let Some(reported) = failed.reported.filter(|r| r.origin == Origin::Icmp) {
        return icmp_sight(failed, &reported);
    }
    let errno = failed.reported.map_or(failed.errno, |r| r.errno);
    let unreachable = |reason: &str| Sight::Unreachable { errno: format!("{errno:?}"), reason: reason.to_owned() };
    let inconclusive = |reason| Sight::Inconclusive { reason, detail: errno.desc().to_lowercase() };
    match errno {
        Errno::ECONNREFUSED => Sight::Refused,
        // The kernel stopped repeating an unanswered first packet.
        Errno::ETIMEDOUT => Sight::Silent,
        Errno::ENETUNREACH => unreachable("no route to the network"),
        Errno::EHOSTUNREACH => unreachable("no route to the host, or no neighbour answered for it"),
        Errno::ENETDOWN => unreachable("the link is down"),
        Errno::EACCES => unreachable("a route prohibits it"),
        Errno::EPERM => unreachable("the vantage's own packet filter refused to send"),
        Errno::EMSGSIZE => unreachable("the packet is larger than the path's MTU"),
        // A `blackhole` route answers so; other causes of it leave no way to send either.
        Errno::EINVAL => unreachable("the route takes no packets"),
        Errno::EADDRNOTAVAIL | Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS | Errno::EAGAIN => {
            inconclusive(Doubt::Limits)
        }
        Errno::ECONNRESET | Errno::EPIPE | Errno::ECONNABORTED => inconclusive(Doubt::ClosedEarly),
        _ => inconclusive(Doubt::NeverLeft),
    }
}

fn icmp_sight(failed: &Failed, reported: &Reported) -> Sight {
    let v6 = failed.target.is_ipv6();
    let (unreachable, host, port) = if v6 { (V6_UNREACHABLE, 3, 4) } else { (V4_UNREACHABLE, 1, 3) };
    let is = |code| reported.kind == unreachable && reported.code == code;
    // Our own kernel reports a next hop that does not answer ARP as an ICMP error from itself.
    if is(host) && reported.offender.is_some() && reported.offender == failed.local {
        return Sight::Unreachable {
            errno: "EHOSTUNREACH".into(),
            reason: "no neighbour answered for the next hop".into(),
        };
    }
    if failed.datagram && is(port) && reported.offender == Some(failed.target) {
        return Sight::Refused;
    }
    Sight::IcmpError { kind: reported.kind, code: reported.code, from: reported.offender }
}

/// The sight of a probe whose socket could not be made.
pub(super) fn no_socket(errno: Errno, protocol: &str) -> Sight {
    let (reason, detail) = match errno {
        Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT | Errno::ESOCKTNOSUPPORT => {
            (Doubt::Unsupported, format!("{protocol} is unsupported by this kernel"))
        }
        Errno::EPERM | Errno::EACCES => (Doubt::Permission, format!("may not open a socket for {protocol}")),
        Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS => {
            (Doubt::Limits, format!("no socket for {protocol}: {}", errno.desc().to_lowercase()))
        }
        _ => (Doubt::NeverLeft, format!("no socket for {protocol}: {}", errno.desc().to_lowercase())),
    };
    Sight::Inconclusive { reason, detail }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rstest::rstest;

    const TARGET: [u8; 4] = [10, 0, 0, 9];
    const SELF: [u8; 4] = [10, 0, 0, 1];
    const ROUTER: [u8; 4] = [10, 0, 0, 254];

    fn icmp(code: u8, from: [u8; 4], datagram: bool) -> Sight {
        let errno = Errno::ECONNREFUSED;
        let reported =
            Reported { errno, origin: Origin::Icmp, kind: 3, code, offender: Some(from.into()), returned: 0 };
        let local = Some(SELF.into());
        sight(&Failed { errno, reported: Some(reported), target: TARGET.into(), local, datagram })
    }

    #[rstest]
    #[case::closed_port(3, TARGET, true, Sight::Refused)]
    #[case::reject_by_a_router(3, ROUTER, true, Sight::IcmpError { kind: 3, code: 3, from: Some(ROUTER.into()) })]
    #[case::reject_of_tcp(3, TARGET, false, Sight::IcmpError { kind: 3, code: 3, from: Some(TARGET.into()) })]
    #[case::prohibited(13, ROUTER, true, Sight::IcmpError { kind: 3, code: 13, from: Some(ROUTER.into()) })]
    #[case::router_without_neighbour(1, ROUTER, true, Sight::IcmpError { kind: 3, code: 1, from: Some(ROUTER.into()) })]
    fn icmp_errors(#[case] code: u8, #[case] from: [u8; 4], #[case] datagram: bool, #[case] expected: Sight) {
        assert_eq!(icmp(code, from, datagram), expected);
    }

    #[test]
    fn a_host_error_from_ourselves_is_a_neighbour_that_does_not_answer() {
        assert!(matches!(icmp(1, SELF, true), Sight::Unreachable { errno, .. } if errno == "EHOSTUNREACH"));
    }

    #[rstest]
    #[case(Errno::ENETUNREACH, "ENETUNREACH")]
    #[case(Errno::EPERM, "EPERM")]
    #[case(Errno::EACCES, "EACCES")]
    #[case(Errno::EMSGSIZE, "EMSGSIZE")]
    fn local_refusals_keep_their_name(#[case] errno: Errno, #[case] name: &str) {
        let failed = Failed { errno, reported: None, target: TARGET.into(), local: None, datagram: true };
        assert!(matches!(sight(&failed), Sight::Unreachable { errno, .. } if errno == name));
    }

    #[test]
    fn exhaustion_says_nothing_about_the_network() {
        let failed = |errno| Failed { errno, reported: None, target: TARGET.into(), local: None, datagram: false };
        for errno in [Errno::EADDRNOTAVAIL, Errno::EMFILE, Errno::ENOBUFS] {
            assert!(matches!(sight(&failed(errno)), Sight::Inconclusive { reason: Doubt::Limits, .. }), "{errno}");
        }
        assert_eq!(sight(&failed(Errno::ECONNREFUSED)), Sight::Refused);
        assert_eq!(sight(&failed(Errno::ETIMEDOUT)), Sight::Silent);
    }
}
