//! The host firewall on the real kernel: what is closed is dropped and counted, what is opened passes again.
//!
//! Each trial works in a network namespace of its own. A trial whose needs are missing is reported as
//! ignored, unless `CKNET_REQUIRE` names `netns`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use cknet_kernel::nft::{Base, Batch, Chain, Family, Hook, Nft, Protocol, Rule, Table, priority};
use cknet_kernel::ns::NetNs;
use cknet_probe::firewall::{self, Firewall, Way};
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
        trial("an_accepting_table_does_not_save_a_packet", an_accepting_table_does_not_save_a_packet),
        trial("a_translated_port_is_closed_by_the_port_that_was_asked_for", translated_port),
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

fn the_command_line_works_the_kernel() {
    let run = |line: &str| format!("{:?}", firewall::main(line.split(' ').map(Into::into)));
    let [success, refused, misread] = [0, 1, 2].map(|code| format!("{:?}", std::process::ExitCode::from(code)));
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
    assert_eq!(run("open 4789/udp"), refused);
    assert_eq!(run("shut 4789/udp"), misread);
    assert_eq!(run("clear"), success);
    assert!(closed().is_empty());
    assert_eq!(run("list"), success);
}
