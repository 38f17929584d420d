//! The personalities as processes: what they say, where, and how they end.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use cknet_kernel::ns::NetNs;
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::Lab;
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("connect_speaks_like_agnhost", connect_speaks_like_agnhost),
        trial("a_server_ends_in_order_and_frees_its_port", a_server_ends_in_order_and_frees_its_port),
        trial("a_server_without_its_port_fails", a_server_without_its_port_fails),
    ]
}

/// The example binary, which the test build has put beside us.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join("examples/personalities");
    assert!(path.exists(), "`{}` is missing: build it with `--example personalities`", path.display());
    path
}

pub fn in_pod(netns: &NetNs, arguments: &[&str]) -> Output {
    netns.run(|| Command::new(binary()).args(arguments).output().unwrap()).unwrap()
}

fn connect_speaks_like_agnhost() {
    let mut lab = Lab::new(2);
    lab.pods[1].serve("production/backend", &["8080/tcp", "53/udp"]);
    let (client, server) = (&lab.pods[0], &lab.pods[1]);
    let connect = |target: String, protocol: &str| {
        let output = in_pod(&client.netns, &["connect", &target, "--protocol", protocol, "--timeout", "200ms"]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    for (target, protocol) in [(server.at(8080), "tcp"), (server.at(53), "udp"), (server.at6(8080), "http")] {
        let (code, out, err) = connect(target.to_string(), protocol);
        assert_eq!((code, err.as_str()), (0, ""), "{protocol}");
        let own = if target.is_ipv6() { format!("[{}]", client.ip6) } else { client.ip.to_string() };
        assert!(out.starts_with(&format!("allowed: peer production/backend saw {own}:")), "{protocol}: {out}");
        assert!(out.trim_end().ends_with(" ms)"), "{out}");
    }
    let (code, out, _) = connect(server.ip.to_string(), "icmp");
    assert_eq!(code, 0, "{out}");
    assert_eq!(connect(server.ghost(80).to_string(), "tcp"), (1, String::new(), "TIMEOUT\n".into()));
    assert_eq!(connect(server.at(81).to_string(), "tcp"), (1, String::new(), "REFUSED\n".into()));
    let (code, _, err) = connect("203.0.113.1:80".into(), "tcp");
    assert_eq!((code, err.as_str()), (1, "OTHER: ENETUNREACH: no route to the network\n"));
}

fn serve(netns: &NetNs, arguments: &[&str]) -> Child {
    let mut command = Command::new(binary());
    command.args(["serve"]).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    netns.run(move || command.process_group(0).spawn().unwrap()).unwrap()
}

fn a_server_ends_in_order_and_frees_its_port() {
    let lab = Lab::new(1);
    for _ in 0..2 {
        let mut server =
            serve(&lab.pods[0].netns, &["--identity", "a/b", "--listen", "8080/tcp", "--listen", "127.0.0.1:53/udp"]);
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let mut line = || lines.next().unwrap().unwrap();
        assert_eq!([line(), line()], ["listening on [::]:8080/tcp", "listening on 127.0.0.1:53/udp"]);
        kill(Pid::from_raw(server.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert_eq!(server.wait().unwrap().code(), Some(0));
    }
}

fn a_server_without_its_port_fails() {
    let mut lab = Lab::new(1);
    lab.pods[0].serve("a/b", &["8080/tcp"]);
    let failing = |arguments: &[&str]| {
        let mut server = serve(&lab.pods[0].netns, arguments);
        let mut said = String::new();
        server.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(!server.wait().unwrap().success());
        said
    };
    let said = failing(&["--identity", "a/c", "--listen", "8080/tcp"]);
    assert!(said.contains("cannot listen on `8080/tcp`: Address already in use"), "{said}");
    let said = failing(&["--identity", "two words", "--listen", "80/tcp"]);
    assert!(said.contains("`two words` cannot be an identity"), "{said}");
    let sctp = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, Some(socket2::Protocol::SCTP));
    if sctp.is_err() {
        let said = failing(&["--identity", "a/c", "--listen", "9/sctp"]);
        assert!(said.contains("`9/sctp`: SCTP is unsupported by this kernel"), "{said}");
    }
}
