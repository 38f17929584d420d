//! Every sight, made by the network itself.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use cknet_probe::engine::Prober;
use cknet_probe::wire::{Batch, Cell, Doubt, Expect, Observation, Sight, Target, VantageId};
use libtest_mimic::Trial;
use rtnetlink::packet_route::route::RouteType;

use crate::lab::{Lab, NOWHERE, PROHIBITED, ROUTER, UNREACHABLE};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("answers_name_the_peer_and_our_address", answers_name_the_peer_and_our_address),
        trial("icmp_echoes_come_back_at_any_size", icmp_echoes_come_back_at_any_size),
        trial("whole_echoes_come_back_up_to_the_mtu", whole_echoes_come_back_up_to_the_mtu),
        trial("padded_datagrams_come_back_padded", padded_datagrams_come_back_padded),
        trial("silence_costs_one_deadline_for_all", silence_costs_one_deadline_for_all),
        trial("closed_ports_refuse", closed_ports_refuse),
        trial("icmp_errors_keep_type_code_and_sender", icmp_errors_keep_type_code_and_sender),
        trial("local_refusals_are_unreachable", local_refusals_are_unreachable),
        trial("a_dead_namespace_says_nothing", a_dead_namespace_says_nothing),
        trial("an_unknown_vantage_says_nothing", an_unknown_vantage_says_nothing),
        trial("crowds_of_rejects_are_marked", crowds_of_rejects_are_marked),
        trial("source_ports_do_not_come_back", source_ports_do_not_come_back),
        trial("sctp_answers_or_is_said_to_be_unsupported", sctp_answers_or_is_said_to_be_unsupported),
        trial("two_thousand_cells", two_thousand_cells),
        trial("a_late_answer_is_marked_as_sent_twice", a_late_answer_is_marked_as_sent_twice),
    ]
}

const QUIET: Duration = Duration::from_millis(60);

pub fn tcp(address: SocketAddr) -> Target {
    Target::Tcp { address, expect: Expect::Echo }
}

pub fn udp(address: SocketAddr) -> Target {
    Target::Udp { address, payload: 0 }
}

fn icmp(address: impl Into<IpAddr>) -> Target {
    Target::Icmp { address: address.into(), payload: 0, whole: false }
}

fn name(pod: usize) -> VantageId {
    VantageId::new(format!("pod-{pod}"))
}

/// A prober with all pods of a lab attached.
fn prober(lab: &Lab) -> Prober {
    let mut prober = Prober::new().unwrap();
    for pod in 0..lab.pods.len() {
        prober.attach(&name(pod), &lab.path(pod)).unwrap();
    }
    prober
}

fn batch(cells: Vec<(usize, Target)>) -> Batch {
    let cell = |(id, (from, target)): (usize, _)| Cell { id: id as u32, from: name(from), target };
    let cells = cells.into_iter().enumerate().map(cell).collect();
    Batch { pass: 1, cells, quiet: QUIET, cap: Duration::from_secs(3) }
}

/// Probes targets from pod 0 and checks that each is observed once, in order.
pub fn probe(lab: &Lab, targets: Vec<Target>) -> Vec<Observation> {
    let asked = batch(targets.into_iter().map(|target| (0, target)).collect());
    let seen = prober(lab).probe(&asked).observations;
    assert_eq!(seen.iter().map(|one| one.id).collect::<Vec<_>>(), (0..asked.cells.len() as u32).collect::<Vec<_>>());
    seen
}

fn sight(lab: &Lab, target: Target) -> Sight {
    probe(lab, vec![target]).remove(0).sight
}

fn answers_name_the_peer_and_our_address() {
    let mut lab = Lab::new(2);
    lab.pods[1].serve("production/backend", &["8080/tcp", "53/udp"]);
    let (to, to6) = (&lab.pods[1], &lab.pods[1]);
    let http = |address| Target::Http { address, host: "backend".into(), path: "/x".into() };
    let targets = vec![
        tcp(to.at(8080)),
        udp(to.at(53)),
        http(to.at(8080)),
        tcp(to6.at6(8080)),
        udp(to6.at6(53)),
        http(to6.at6(8080)),
    ];
    for (seen, target) in probe(&lab, targets.clone()).iter().zip(&targets) {
        assert_eq!(seen.sight, Sight::Answered, "{target:?}");
        assert_eq!(seen.peer.as_deref(), Some("production/backend"), "{target:?}");
        // Nothing translates addresses here, so both ends saw the same one.
        let own: IpAddr = if target.ip().is_ipv6() { lab.pods[0].ip6.into() } else { lab.pods[0].ip.into() };
        assert_eq!(seen.seen_source.map(|address| address.ip()), Some(own), "{target:?}");
        assert_eq!(seen.seen_source, seen.local, "{target:?}");
        assert!(seen.rtt_us.is_some_and(|rtt| rtt < 900_000), "{seen:?}");
        assert!(!seen.retransmitted && !seen.maybe_rate_limited);
        assert_eq!(seen.http_status, matches!(target, Target::Http { .. }).then_some(200));
    }
}

fn icmp_echoes_come_back_at_any_size() {
    let lab = Lab::new(2);
    let with = |address: IpAddr, payload| Target::Icmp { address, payload, whole: false };
    let (v4, v6) = (lab.pods[1].ip.into(), lab.pods[1].ip6.into());
    // 8972 bytes do not fit one packet here: fragments have to come back as well.
    let targets = vec![with(v4, 0), with(v4, 1400), with(v4, 8972), with(v6, 0), with(v6, 1400)];
    for seen in probe(&lab, targets) {
        assert_eq!(seen.sight, Sight::Answered, "{seen:?}");
        assert!(seen.rtt_us.is_some());
    }
    assert_eq!(sight(&lab, icmp(lab.pods[1].ghost(0).ip())), Sight::Silent);
}

fn whole_echoes_come_back_up_to_the_mtu() {
    let lab = Lab::new(2);
    let whole = |payload| Target::Icmp { address: lab.pods[1].ip.into(), payload, whole: true };
    // 1500 bytes of Ethernet less 20 of IP and 8 of ICMP.
    let seen = probe(&lab, vec![whole(1472), whole(1473), icmp(lab.pods[1].ip)]);
    assert_eq!(seen[0].sight, Sight::Answered);
    assert!(matches!(&seen[1].sight, Sight::Unreachable { errno, .. } if errno == "EMSGSIZE"), "{:?}", seen[1]);
    assert_eq!(seen[2].sight, Sight::Answered);
}

fn padded_datagrams_come_back_padded() {
    let mut lab = Lab::new(2);
    lab.pods[1].serve("a/b", &["53/udp"]);
    let address = lab.pods[1].at(53);
    for payload in [0, 1400, 20_000] {
        assert_eq!(sight(&lab, Target::Udp { address, payload }), Sight::Answered, "{payload}");
    }
}

fn silence_costs_one_deadline_for_all() {
    let lab = Lab::new(2);
    let ghost = |port| lab.pods[1].ghost(port);
    let cells = (1..200).flat_map(|port| [(0, tcp(ghost(port))), (1, udp(ghost(port)))]).collect();
    let asked = batch(cells);
    let started = Instant::now();
    let seen = prober(&lab).probe(&asked);
    assert!(seen.observations.iter().all(|one| one.sight == Sight::Silent && one.rtt_us.is_none()));
    assert!(seen.observations.iter().all(|one| !one.maybe_rate_limited));
    assert!(seen.took >= QUIET + seen.launched, "gave up early: {:?}", seen.took);
    assert!(started.elapsed() < Duration::from_secs(1), "398 silent cells took {:?}", started.elapsed());
}

fn closed_ports_refuse() {
    let lab = Lab::new(2);
    let to = &lab.pods[1];
    for target in [tcp(to.at(81)), udp(to.at(81)), tcp(to.at6(81)), udp(to.at6(81))] {
        assert_eq!(sight(&lab, target.clone()), Sight::Refused, "{target:?}");
    }
}

fn icmp_errors_keep_type_code_and_sender() {
    for (address, code) in [(PROHIBITED, 13), (UNREACHABLE, 1)] {
        let expected = Sight::IcmpError { kind: 3, code, from: Some(ROUTER.into()) };
        for target in [tcp((address, 80).into()), udp((address, 80).into()), icmp(address)] {
            // A lab for each: the kernel sends one peer only a few of these errors.
            assert_eq!(sight(&Lab::new(1), target.clone()), expected, "{target:?}");
        }
    }
}

fn local_refusals_are_unreachable() {
    let lab = Lab::new(2);
    let address = |last| std::net::Ipv4Addr::new(192, 0, 2, last);
    lab.end_in_pod(0, address(11), RouteType::Prohibit);
    lab.end_in_pod(0, address(12), RouteType::BlackHole);
    lab.end_in_pod(0, address(13), RouteType::Unreachable);
    let named =
        [(NOWHERE, "ENETUNREACH"), (address(11), "EACCES"), (address(12), "EINVAL"), (address(13), "EHOSTUNREACH")];
    for (address, name) in named {
        for target in [tcp((address, 80).into()), udp((address, 80).into()), icmp(address)] {
            let seen = sight(&lab, target.clone());
            assert!(matches!(&seen, Sight::Unreachable { errno, .. } if errno == name), "{target:?}: {seen:?}");
        }
    }
}

fn a_dead_namespace_says_nothing() {
    let mut lab = Lab::new(2);
    let mut prober = prober(&lab);
    let asked = batch(vec![(0, tcp(lab.pods[1].ghost(80))), (1, tcp(lab.pods[0].ghost(80)))]);
    assert!(prober.probe(&asked).observations.iter().all(|one| one.sight == Sight::Silent));
    // The pod ends; the prober's own handle keeps the namespace, and silence in it would look like a drop.
    drop(lab.pods.remove(0));
    let seen = prober.probe(&asked).observations;
    assert!(matches!(seen[0].sight, Sight::Inconclusive { reason: Doubt::NoVantage, .. }), "{:?}", seen[0]);
    assert_eq!(seen[1].sight, Sight::Silent);
    assert!(prober.attach(&name(0), "/proc/1/ns/nothing").unwrap_err().to_string().contains("`/proc/1/ns/nothing`"));
}

fn an_unknown_vantage_says_nothing() {
    let lab = Lab::new(1);
    let mut prober = prober(&lab);
    assert!(prober.detach(&name(0)));
    assert!(!prober.detach(&name(0)));
    let seen = prober.probe(&batch(vec![(0, tcp(lab.pods[0].at(80)))])).observations;
    assert!(matches!(seen[0].sight, Sight::Inconclusive { reason: Doubt::NoVantage, .. }), "{:?}", seen[0]);
}

fn crowds_of_rejects_are_marked() {
    let lab = Lab::new(2);
    let crowd = (1000..1060).map(|port| udp(lab.pods[1].at(port))).collect();
    let seen = probe(&lab, crowd);
    let refused = seen.iter().filter(|one| one.sight == Sight::Refused).count();
    // One peer is told at most six times in a row; the others fall silent although their ports are closed too.
    assert!((1..20).contains(&refused), "{refused} refused");
    for one in seen {
        assert_eq!(one.maybe_rate_limited, one.sight == Sight::Silent, "{one:?}");
    }
}

fn source_ports_do_not_come_back() {
    let mut lab = Lab::new(2);
    lab.pods[1].serve("a/b", &["53/udp", "80/tcp"]);
    let mut prober = prober(&lab);
    let asked = batch(vec![(0, udp(lab.pods[1].at(53))), (0, tcp(lab.pods[1].at(80)))]);
    let mut seen = [HashSet::new(), HashSet::new()];
    for _ in 0..200 {
        for (ports, one) in seen.iter_mut().zip(prober.probe(&asked).observations) {
            assert_eq!(one.sight, Sight::Answered);
            assert!(ports.insert(one.seen_source.unwrap().port()), "port of {:?} came back", one.seen_source);
        }
    }
}

fn sctp_answers_or_is_said_to_be_unsupported() {
    let mut lab = Lab::new(2);
    let address = lab.pods[1].at(9);
    let target = Target::Sctp { address, expect: Expect::Echo };
    match socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, Some(socket2::Protocol::SCTP)) {
        Ok(_) => {
            lab.pods[1].serve("a/sctp", &["9/sctp"]);
            assert_eq!(sight(&lab, target), Sight::Answered);
        }
        Err(_) => {
            let seen = sight(&lab, target);
            assert!(matches!(seen, Sight::Inconclusive { reason: Doubt::Unsupported, .. }), "{seen:?}");
        }
    }
}

fn two_thousand_cells() {
    let mut lab = Lab::new(20);
    let listen = ["1001/tcp", "1002/tcp", "1003/tcp", "1004/tcp", "1005/udp"];
    for pod in 0..lab.pods.len() {
        lab.pods[pod].serve(&format!("many/pod-{pod}"), &listen);
    }
    let mut cells = Vec::new();
    for from in 0..20 {
        for to in (0..20).filter(|to| *to != from) {
            for port in 1001..=1005 {
                let pod = &lab.pods[to];
                // Every other pair is cut.
                let address = if (from + to) % 2 == 0 { pod.at(port) } else { pod.ghost(port) };
                cells.push((from, if port == 1005 { udp(address) } else { tcp(address) }));
            }
            cells.push((from, icmp(lab.pods[to].ip)));
        }
    }
    let asked = batch(cells);
    assert!(asked.cells.len() > 2000);
    let seen = prober(&lab).probe(&asked).observations;
    for (cell, one) in asked.cells.iter().zip(&seen) {
        let IpAddr::V4(ip) = cell.target.ip() else { unreachable!() };
        let (open, to) = (ip.octets()[1] == 9, u16::from_be_bytes([ip.octets()[2], ip.octets()[3]]) - 1);
        assert_eq!(one.id, cell.id);
        assert_eq!(one.sight, if open { Sight::Answered } else { Sight::Silent }, "{cell:?}");
        if open && !matches!(cell.target, Target::Icmp { .. }) {
            assert_eq!(one.peer, Some(format!("many/pod-{to}")), "{cell:?}");
        }
    }
}

fn a_late_answer_is_marked_as_sent_twice() {
    let lab = Lab::new(2);
    let address = lab.pods[1].ghost(80);
    let mut prober = prober(&lab);
    let mut asked = batch(vec![(0, tcp(address))]);
    asked.quiet = Duration::from_millis(1800);
    // After the first SYN is lost, the address appears; the second, a second later, is answered.
    let seen = std::thread::scope(|scope| {
        let probing = scope.spawn(|| prober.probe(&asked).observations);
        std::thread::sleep(Duration::from_millis(300));
        lab.haunt(1);
        let listener = lab.pods[1].netns.run(|| TcpListener::bind(address).unwrap()).unwrap();
        let (mut stream, client) = listener.accept().unwrap();
        let mut hello = [0; 24];
        stream.read_exact(&mut hello).unwrap();
        let nonce = std::str::from_utf8(&hello[7..23]).unwrap();
        stream.write_all(format!("cknet1 {nonce} late/pod {client}\n").as_bytes()).unwrap();
        probing.join().unwrap()
    });
    assert_eq!(seen[0].sight, Sight::Answered, "{seen:?}");
    assert!(seen[0].retransmitted && seen[0].rtt_us.unwrap() >= 950_000, "{seen:?}");
}
