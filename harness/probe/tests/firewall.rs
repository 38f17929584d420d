//! The host firewall on the real kernel: what is closed is dropped and counted, what is opened passes again.
//!
//! Each trial works in a network namespace of its own. A trial whose needs are missing is reported as
//! ignored, unless `CKNET_REQUIRE` names `netns`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Command, ExitCode};
use std::time::Duration;

use cknet_kernel::nft::{Base, Batch, Chain, Family, Hook, Nft, Protocol, Rule, Table, priority};
use cknet_kernel::ns::NetNs;
use cknet_probe::firewall::{self, Action, Firewall, Guard, Manner, Nic, Way};
use libtest_mimic::{Arguments, Trial};

/// On loopback an answer takes microseconds.
const SILENCE: Duration = Duration::from_millis(150);

fn main() {
    let required = std::env::var("CKNET_REQUIRE").is_ok_and(|list| list.split(',').any(|need| need == "netns"));
    let able = required || NetNs::create().is_ok();
    let trial = |name: &str, test: fn()| {
        Trial::test(format!("{name} [needs CAP_SYS_ADMIN]"), move || {
            NetNs::create()?.run(|| {
                assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
                test();
            })?;
            Ok(())
        })
        .with_ignored_flag(!able)
    };
    let trials = vec![
        trial("closed_inbound_is_dropped_and_counted", closed_inbound_is_dropped_and_counted),
        trial("closed_outbound_is_refused_to_the_sender", closed_outbound_is_refused_to_the_sender),
        trial("the_far_end_narrows_a_closure", the_far_end_narrows_a_closure),
        trial("a_device_narrows_a_closure", a_device_narrows_a_closure),
        trial("what_is_rejected_is_refused_and_counted", what_is_rejected_is_refused_and_counted),
        trial("a_part_of_a_closed_range_is_opened", a_part_of_a_closed_range_is_opened),
        trial("an_accepting_table_does_not_save_a_packet", an_accepting_table_does_not_save_a_packet),
        trial("a_translated_port_is_closed_by_the_port_that_was_asked_for", translated_port),
        trial("what_is_closed_early_is_lost_before_it_is_tracked", closed_early),
        trial("what_is_closed_for_forwarding_reaches_the_node", closed_for_forwarding),
        trial("a_wall_lets_in_what_is_opened_and_answers", a_wall_lets_in_what_is_opened_and_answers),
        trial("drops_of_any_table_are_told", drops_of_any_table_are_told),
        trial("the_command_line_works_the_kernel", the_command_line_works_the_kernel),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn close(closures: &[&str]) {
    firewall::apply(&Firewall::new(closures.iter().map(|text| text.parse().unwrap()))).unwrap();
}

/// Sends one datagram to a port on loopback; whether it arrived.
fn udp_passes(port: u16) -> io::Result<bool> {
    let server = UdpSocket::bind(("127.0.0.1", port))?;
    server.set_read_timeout(Some(SILENCE))?;
    UdpSocket::bind("127.0.0.1:0")?.send_to(b"ping", ("127.0.0.1", port))?;
    Ok(server.recv(&mut [0; 8]).is_ok())
}

fn packets(way: Way) -> u64 {
    firewall::read().unwrap().iter().filter(|count| count.way == way).map(|count| count.packets).sum()
}

fn closed_inbound_is_dropped_and_counted() {
    assert!(firewall::read().unwrap().is_empty());
    close(&["closed 4789/udp in"]);
    assert!(!udp_passes(4789).unwrap());
    assert!(udp_passes(4790).unwrap());
    assert_eq!(packets(Way::In), 1);
    // Another closure leaves the counter alone.
    close(&["closed 4789/udp in", "closed 30000-32767/tcp in"]);
    assert_eq!(packets(Way::In), 1);
    close(&[]);
    assert!(udp_passes(4789).unwrap());
    assert!(Nft::open().unwrap().tables(Family::Inet).unwrap().is_empty());
}

fn closed_outbound_is_refused_to_the_sender() {
    close(&["closed 4789/udp out"]);
    assert_eq!(udp_passes(4789).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    assert_eq!(packets(Way::Out), 1);
}

fn the_far_end_narrows_a_closure() {
    close(&["closed 4789/udp in from 10.0.0.0/8", "closed 4789/udp out to 10.0.0.0/8"]);
    assert!(udp_passes(4789).unwrap());
    close(&["closed 4789/udp in from 127.0.0.0/8"]);
    assert!(!udp_passes(4789).unwrap());
}

/// Everything of one host travels over `lo`, so a closure of another device catches nothing.
fn a_device_narrows_a_closure() {
    close(&["closed 4789/udp in through eth0", "closed 4789/udp out through eth0"]);
    assert!(udp_passes(4789).unwrap());
    close(&["closed 4789/udp in through lo"]);
    assert!(!udp_passes(4789).unwrap());
    close(&["closed 4789/udp out through lo"]);
    assert_eq!(udp_passes(4789).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    let counted: Vec<_> = firewall::read().unwrap().into_iter().map(|count| (count.nic, count.packets)).collect();
    assert_eq!(counted, [(Some(Nic::new("lo").unwrap()), 1)]);
}

fn closed_early() {
    close(&["closed 4789/udp in early"]);
    assert!(!udp_passes(4789).unwrap());
    assert!(udp_passes(4790).unwrap());
    let counted: Vec<_> = firewall::read().unwrap().into_iter().map(|count| (count.chain, count.packets)).collect();
    assert_eq!(counted, [("early".to_string(), 1)]);
}

fn closed_for_forwarding() {
    close(&["closed 4789/udp in forwarded"]);
    assert!(udp_passes(4789).unwrap());
    assert_eq!(packets(Way::In), 0);
}

/// Everything of one host travels over `lo`, so the wall stands there.
fn a_wall_lets_in_what_is_opened_and_answers() {
    let wall = |opened: &[&str]| Guard {
        manner: Manner::Wall { at: vec![Nic::new("lo").unwrap()] },
        opened: opened.iter().map(|text| text.parse().unwrap()).collect(),
    };
    let _server = TcpListener::bind("127.0.0.1:8080").unwrap();
    let connect = || TcpStream::connect_timeout(&([127, 0, 0, 1], 8080).into(), SILENCE);
    firewall::apply_guard(Some(&wall(&["4789/udp"]))).unwrap();
    assert!(udp_passes(4789).unwrap());
    assert!(!udp_passes(4790).unwrap());
    assert_eq!(connect().unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(firewall::read_guard().unwrap(), Some(wall(&["4789/udp"])));
    let dropped: u64 = firewall::drops::read().unwrap().iter().map(|drop| drop.packets).sum();
    assert!(dropped >= 2, "{dropped} packets counted");
    firewall::apply_guard(Some(&wall(&["8080/tcp"]))).unwrap();
    connect().unwrap();
    firewall::apply_guard(None).unwrap();
    assert!(udp_passes(4790).unwrap());
    assert_eq!(firewall::read_guard().unwrap(), None);
}

fn what_is_rejected_is_refused_and_counted() {
    let _server = TcpListener::bind("127.0.0.1:8080").unwrap();
    let connect = || TcpStream::connect_timeout(&([127, 0, 0, 1], 8080).into(), SILENCE);
    close(&["rejected 8080/tcp in", "rejected 4789/udp in"]);
    assert_eq!(connect().unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    // ICMP 3/13 reaches a connected socket as "no route to host".
    let _server = UdpSocket::bind("127.0.0.1:4789").unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect("127.0.0.1:4789").unwrap();
    client.set_read_timeout(Some(SILENCE)).unwrap();
    client.send(b"ping").unwrap();
    assert_eq!(client.recv(&mut [0; 8]).unwrap_err().raw_os_error(), Some(113), "EHOSTUNREACH");
    let counted = firewall::read().unwrap();
    assert!(counted.iter().all(|count| count.action == Action::Reject));
    let packets = |ports| counted.iter().filter(|count| count.ports == ports).map(|count| count.packets).sum::<u64>();
    assert_eq!((packets("8080/tcp"), packets("4789/udp")), (1, 1));
    close(&["rejected 8080/tcp out"]);
    assert_eq!(connect().unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    close(&[]);
    assert!(connect().is_ok());
}

fn a_part_of_a_closed_range_is_opened() {
    let run = |line: &str| assert!(firewall::main(line.split(' ').map(Into::into)) == ExitCode::SUCCESS, "{line}");
    run("close 4000-5000/udp --direction in");
    assert!(!udp_passes(4789).unwrap());
    run("open 4789/udp");
    assert!(udp_passes(4789).unwrap());
    assert!(!udp_passes(4788).unwrap());
    assert!(!udp_passes(4790).unwrap());
}

fn an_accepting_table_does_not_save_a_packet() {
    let accept = Rule::new().protocol(Protocol::UDP).dport(4789).accept();
    let chain = Chain::base("input", Base::input(priority::FILTER)).with_rule(accept);
    let mut batch = Batch::new();
    batch.replace(&Table::new(Family::Ip, "cni").with_chain(chain));
    Nft::open().unwrap().send(batch).unwrap();
    close(&["closed 4789/udp in"]);
    assert!(!udp_passes(4789).unwrap());
}

fn translated_port() {
    let redirect = Rule::new().protocol(Protocol::TCP).dport(30080).redirect(8080);
    let chain = Chain::base("output", Base::nat(Hook::Output, priority::DNAT)).with_rule(redirect);
    let mut batch = Batch::new();
    batch.replace(&Table::new(Family::Ip, "proxy").with_chain(chain));
    Nft::open().unwrap().send(batch).unwrap();
    let _server = TcpListener::bind("127.0.0.1:8080").unwrap();
    let connect = |port| TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), SILENCE);
    assert!(connect(30080).is_ok());
    close(&["closed 30000-32767/tcp in"]);
    assert_eq!(connect(30080).unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert!(packets(Way::In) >= 1);
    assert!(connect(8080).is_ok(), "asked for by its own number");
}

fn drops_of_any_table_are_told() {
    let to = |port| Rule::new().protocol(Protocol::UDP).dport(port);
    let chain = Chain::base("input", Base::input(priority::FILTER))
        .with_rule(to(5000).counter().drop().comment("prod/web ingress: denied"))
        .with_rule(to(4789).counter().accept())
        .with_rule(to(5001).drop().comment("not counted"))
        .with_rule(Rule::new().counter().protocol(Protocol::UDP).dport(5002).drop().comment("counts others too"));
    let mut batch = Batch::new();
    batch.replace(&Table::new(Family::Ip, "cni").with_chain(chain));
    Nft::open().unwrap().send(batch).unwrap();
    close(&["closed 4789/udp in"]);
    for port in [5000, 4789, 5001, 5002] {
        assert!(!udp_passes(port).unwrap());
    }
    let told = firewall::drops::read().unwrap();
    let lost: Vec<_> = told.iter().filter(|drop| drop.packets > 0).collect();
    let [closed, denied] = lost.as_slice() else { panic!("{told:?}") };
    assert_eq!((closed.place.as_str(), closed.matching.as_str()), ("inet cknet_firewall input", "udp dport 4789"));
    assert_eq!((denied.place.as_str(), denied.matching.as_str()), ("ip cni input", "prod/web ingress: denied"));
    assert_eq!((closed.packets, denied.packets), (1, 1));
}

fn the_command_line_works_the_kernel() {
    let run = |line: &str| format!("{:?}", firewall::main(line.split(' ').map(Into::into)));
    let [success, refused, misread] = [0, 1, 2].map(|code| format!("{:?}", ExitCode::from(code)));
    let closed =
        || firewall::read().unwrap().into_iter().map(|count| (count.ports, count.way, count.chain)).collect::<Vec<_>>();
    assert_eq!(run("close 4789/udp --direction in --from 127.0.0.0/8"), success);
    assert!(!udp_passes(4789).unwrap());
    assert_eq!(run("close 179/tcp --direction out"), success);
    let row = |ports: &str, way, chain: &str| (ports.to_string(), way, chain.to_string());
    let mut rows = closed();
    rows.sort();
    let bgp = row("179/tcp", Way::Out, "output");
    let overlay = [row("4789/udp", Way::In, "forward"), row("4789/udp", Way::In, "input")];
    assert_eq!(rows, [std::slice::from_ref(&bgp), &overlay[..]].concat());
    assert_eq!(run("open 4789/udp"), success);
    assert_eq!(closed(), [bgp]);
    assert_eq!(run("open 4789/udp"), success, "what is open stays open");
    assert_eq!(run("open 179/tcp --nic eth0"), refused, "closed on every device");
    assert_eq!(run("reject 179/tcp --direction out --nic lo"), success);
    assert_eq!(run("open 179/tcp"), success);
    assert!(closed().is_empty());
    assert_eq!(run("shut 4789/udp"), misread);
    assert_eq!(run("clear"), success);
    assert!(closed().is_empty());
    assert_eq!(run("list"), success);
}
