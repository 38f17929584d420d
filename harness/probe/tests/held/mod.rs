//! Connections that stay open between requests: what becomes of them when the way or an end of it goes.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use cknet_probe::engine::Prober;
use cknet_probe::wire::{Line, VantageId};
use libtest_mimic::Trial;
use rtnetlink::packet_route::route::RouteType;

use super::lab::{Lab, PROHIBITED};
use super::trial;

const QUIET: Duration = Duration::from_millis(250);

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_held_connection_echoes_every_word_until_it_is_released", a_held_connection_echoes),
        trial("a_connection_whose_way_is_cut_is_silent_and_comes_back_with_it", a_cut_way),
        trial("the_end_of_the_server_is_told_from_silence", the_end_of_the_server),
        trial("what_is_not_held_or_has_no_vantage_is_unknown", what_is_not_held),
        trial("what_is_not_there_is_not_held", what_is_not_there),
    ]
}

fn prober(lab: &Lab) -> Prober {
    let mut prober = Prober::new().unwrap();
    prober.attach(&"a".into(), &lab.path(0)).unwrap();
    prober
}

fn exchange(prober: &mut Prober, name: &str) -> Line {
    prober.exchange(&[name.to_owned()], QUIET).remove(name).unwrap()
}

fn is_echo(line: &Line, peer: &str) -> bool {
    matches!(line, Line::Echoed { peer: found, .. } if found == peer)
}

fn a_held_connection_echoes() {
    let mut lab = Lab::new(2);
    lab.pods[1].serve("n/b", &["8080/tcp"]);
    let mut prober = prober(&lab);
    let opened = prober.hold("talk", &"a".into(), lab.pods[1].at(8080), QUIET);
    let Line::Echoed { seen_source: first, .. } = opened else { panic!("{opened:?}") };
    assert_eq!(first.ip(), lab.pods[0].ip);
    for _ in 0..20 {
        let line = exchange(&mut prober, "talk");
        // The same port: it is the same connection.
        assert!(matches!(line, Line::Echoed { seen_source, .. } if seen_source == first), "{line:?}");
    }
    assert_eq!(prober.release(), 1);
    assert_eq!(prober.release(), 0);
    assert!(matches!(exchange(&mut prober, "talk"), Line::Unknown { .. }));
}

fn a_cut_way() {
    let mut lab = Lab::new(2);
    lab.pods[1].serve("n/b", &["8080/tcp"]);
    let mut prober = prober(&lab);
    assert!(is_echo(&prober.hold("talk", &"a".into(), lab.pods[1].at(8080), QUIET), "n/b"));
    // The server's answers end in its own kernel.
    let back = lab.pods[0].ip;
    lab.end_in_pod(1, back, RouteType::BlackHole);
    assert_eq!(exchange(&mut prober, "talk"), Line::Silent);
    assert_eq!(exchange(&mut prober, "talk"), Line::Silent);
    lab.open_in_pod(1, back);
    // The echoes of the unanswered words come first and are passed over; the kernel repeats after a second at most.
    let line = (0..20).map(|_| exchange(&mut prober, "talk")).find(|line| *line != Line::Silent);
    assert!(line.as_ref().is_some_and(|line| is_echo(line, "n/b")), "{line:?}");
}

fn the_end_of_the_server() {
    let lab = Lab::new(2);
    let address: SocketAddr = lab.pods[1].at(8080);
    let listener = lab.pods[1].netns.run(|| TcpListener::bind(address)).unwrap().unwrap();
    // One that ends after its first answer, in order or not.
    for (linger, expected) in [(None, Line::Ended), (Some(Duration::ZERO), Line::Reset)] {
        let mut prober = prober(&lab);
        let line = std::thread::scope(|scope| {
            let server = scope.spawn(|| {
                let (mut stream, source) = listener.accept().unwrap();
                let mut hello = [0; cknet_probe::echo::HELLO_LEN];
                std::io::Read::read_exact(&mut stream, &mut hello).unwrap();
                let cknet_probe::echo::Opening::Hello(nonce) = cknet_probe::echo::opening(&hello) else {
                    panic!("another greeting")
                };
                let mut answer = Vec::new();
                cknet_probe::echo::write_answer(&mut answer, nonce, "n/b", source);
                stream.write_all(&answer).unwrap();
                let socket = socket2::Socket::from(stream);
                // What is there before the end is read, so that the end is orderly where it is meant to be.
                std::thread::sleep(Duration::from_millis(50));
                socket.set_linger(linger).unwrap();
            });
            assert!(is_echo(&prober.hold("talk", &"a".into(), address, QUIET), "n/b"));
            server.join().unwrap();
            exchange(&mut prober, "talk")
        });
        assert_eq!(line, expected);
        // It stays what it was.
        assert_eq!(exchange(&mut prober, "talk"), expected);
    }
}

fn what_is_not_held() {
    let mut lab = Lab::new(2);
    lab.pods[1].serve("n/b", &["8080/tcp"]);
    let mut prober = prober(&lab);
    assert!(matches!(exchange(&mut prober, "nothing"), Line::Unknown { .. }));
    let nowhere: VantageId = "nowhere".into();
    assert!(matches!(prober.hold("talk", &nowhere, lab.pods[1].at(8080), QUIET), Line::Unknown { .. }));
    assert!(is_echo(&prober.hold("talk", &"a".into(), lab.pods[1].at(8080), QUIET), "n/b"));
    // The agent still has the socket, but nobody can say any more whose end it is.
    prober.detach(&"a".into());
    assert!(matches!(exchange(&mut prober, "talk"), Line::Unknown { .. }));
}

fn what_is_not_there() {
    let lab = Lab::new(2);
    let mut prober = prober(&lab);
    let mut hold = |address| prober.hold("talk", &"a".into(), address, QUIET);
    assert_eq!(hold(lab.pods[1].at(8080)), Line::Reset);
    assert_eq!(hold(lab.pods[1].ghost(8080)), Line::Silent);
    assert!(matches!(hold((PROHIBITED, 8080).into()), Line::Unreachable { .. }));
    assert!(matches!(exchange(&mut prober, "talk"), Line::Unknown { .. }));
}
