//! The personalities as processes: what they say, where, and how they end.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use cknet_kernel::ns::NetNs;
use cknet_probe::facts::Facts;
use cknet_probe::wire::frame;
use cknet_probe::wire::{
    AgentReply, AgentRequest, Batch, Cell, Expect, Observation, Sight, Target, VERSION,
};
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::lab::Lab;
use crate::trial;

pub fn trials() -> Vec<Trial> {
    let with_ip = trial("facts_agree_with_iproute2", facts_agree_with_iproute2);
    let with_ip = match Command::new("ip").arg("-V").output() {
        Ok(_) => with_ip,
        Err(error) => with_ip
            .with_kind(format!("ignored: no `ip`: {error}"))
            .with_ignored_flag(true),
    };
    vec![
        trial(
            "an_agent_probes_over_its_streams",
            an_agent_probes_over_its_streams,
        ),
        trial(
            "an_agent_with_few_files_probes_in_chunks",
            an_agent_with_few_files_probes_in_chunks,
        ),
        trial(
            "an_agent_ends_with_an_error_on_a_broken_frame",
            an_agent_ends_with_an_error_on_a_broken_frame,
        ),
        trial("connect_speaks_like_agnhost", connect_speaks_like_agnhost),
        trial(
            "a_server_ends_in_order_and_frees_its_port",
            a_server_ends_in_order_and_frees_its_port,
        ),
        trial(
            "a_server_without_its_port_fails",
            a_server_without_its_port_fails,
        ),
        with_ip,
        trial("facts_of_listening_ports", facts_of_listening_ports),
    ]
}

/// The example binary, which the test build has put beside us.
fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples/personalities");
    assert!(
        path.exists(),
        "`{}` is missing: build it with `--example personalities`",
        path.display()
    );
    path
}

fn in_pod(netns: &NetNs, arguments: &[&str]) -> Output {
    netns
        .run(|| Command::new(binary()).args(arguments).output().unwrap())
        .unwrap()
}

/// An agent in the namespace of the test itself.
struct Agent {
    child: Child,
}

impl Agent {
    fn start(mut command: Command) -> Self {
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut agent = Self { child };
        let pid = agent.child.id();
        assert_eq!(
            agent.next(),
            Some(AgentReply::Hello {
                version: VERSION,
                pid
            })
        );
        agent
    }

    fn ask(&mut self, request: &AgentRequest) -> AgentReply {
        frame::write(self.child.stdin.as_mut().unwrap(), request).unwrap();
        self.next().unwrap()
    }

    fn next(&mut self) -> Option<AgentReply> {
        frame::read(self.child.stdout.as_mut().unwrap()).unwrap()
    }

    fn attach_all(&mut self, lab: &Lab) {
        for pod in 0..lab.pods.len() {
            let vantage = format!("pod-{pod}").as_str().into();
            let reply = self.ask(&AgentRequest::Attach {
                vantage,
                netns: lab.path(pod),
            });
            assert!(matches!(reply, AgentReply::Attached { .. }), "{reply:?}");
        }
    }

    fn probe(&mut self, pass: u64, targets: impl IntoIterator<Item = Target>) -> Vec<Observation> {
        let cell = |(id, target)| Cell {
            id,
            from: "pod-0".into(),
            target,
        };
        let cells = (0..).zip(targets).map(cell).collect();
        let batch = Batch {
            pass,
            cells,
            quiet: Duration::from_millis(60),
            cap: Duration::from_secs(3),
        };
        match self.ask(&AgentRequest::Probe(batch)) {
            AgentReply::Observations {
                pass: echoed,
                list,
                launched_us,
                took_us,
            } => {
                assert_eq!(echoed, pass);
                assert!(
                    0 < launched_us && launched_us <= took_us,
                    "{launched_us} of {took_us}"
                );
                list
            }
            other => panic!("{other:?}"),
        }
    }

    /// Ends its input and waits for its end.
    fn end(mut self) -> std::process::ExitStatus {
        drop(self.child.stdin.take());
        self.child.wait().unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn agent_command() -> Command {
    let mut command = Command::new(binary());
    command.args(["probe", "agent"]);
    command
}

fn tcp(address: std::net::SocketAddr) -> Target {
    Target::Tcp {
        address,
        expect: Expect::Echo,
    }
}

fn an_agent_probes_over_its_streams() {
    let mut lab = Lab::new(2);
    lab.pods[1].serve("a/b", &["80/tcp"]);
    let mut agent = Agent::start(agent_command());
    agent.attach_all(&lab);
    let seen = agent.probe(
        7,
        [
            tcp(lab.pods[1].at(80)),
            tcp(lab.pods[1].at(81)),
            tcp(lab.pods[1].ghost(80)),
        ],
    );
    let sights: Vec<_> = seen.iter().map(|one| one.sight.clone()).collect();
    assert_eq!(sights, [Sight::Answered, Sight::Refused, Sight::Silent]);
    assert_eq!(seen[0].peer.as_deref(), Some("a/b"));
    let missing = AgentRequest::Attach {
        vantage: "x".into(),
        netns: "/proc/0/ns/net".into(),
    };
    let reply = agent.ask(&missing);
    assert!(
        matches!(&reply, AgentReply::Failed { reason, .. } if reason.contains("`/proc/0/ns/net`")),
        "{reply:?}"
    );
    let reply = agent.ask(&AgentRequest::Detach {
        vantage: "pod-1".into(),
    });
    assert_eq!(
        reply,
        AgentReply::Detached {
            vantage: "pod-1".into()
        }
    );
    assert!(agent.end().success());
}

fn an_agent_with_few_files_probes_in_chunks() {
    let mut lab = Lab::new(2);
    lab.pods[1].serve("a/b", &["80/tcp"]);
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(r#"ulimit -n 64; exec "$0" probe agent"#)
        .arg(binary());
    let mut agent = Agent::start(command);
    agent.attach_all(&lab);
    let (open, cut) = (lab.pods[1].at(80), lab.pods[1].ghost(80));
    let seen = agent.probe(
        1,
        (0..150).map(|n| tcp(if n % 2 == 0 { open } else { cut })),
    );
    assert_eq!(seen.len(), 150);
    for one in seen {
        let expected = if one.id % 2 == 0 {
            Sight::Answered
        } else {
            Sight::Silent
        };
        assert_eq!(one.sight, expected, "cell {}", one.id);
    }
    assert!(agent.end().success());
}

fn an_agent_ends_with_an_error_on_a_broken_frame() {
    let mut child = agent_command()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"\xff\xff\xff\xff")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("4294967295 bytes is longer"), "{said}");
}

fn connect_speaks_like_agnhost() {
    let mut lab = Lab::new(2);
    lab.pods[1].serve("production/backend", &["8080/tcp", "53/udp"]);
    let (client, server) = (&lab.pods[0], &lab.pods[1]);
    let connect = |target: String, protocol: &str| {
        let output = in_pod(
            &client.netns,
            &[
                "connect",
                &target,
                "--protocol",
                protocol,
                "--timeout",
                "200ms",
            ],
        );
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code().unwrap(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    for (target, protocol) in [
        (server.at(8080), "tcp"),
        (server.at(53), "udp"),
        (server.at6(8080), "http"),
    ] {
        let (code, out, err) = connect(target.to_string(), protocol);
        assert_eq!((code, err.as_str()), (0, ""), "{protocol}");
        let own = if target.is_ipv6() {
            format!("[{}]", client.ip6)
        } else {
            client.ip.to_string()
        };
        assert!(
            out.starts_with(&format!("allowed: peer production/backend saw {own}:")),
            "{protocol}: {out}"
        );
        assert!(out.trim_end().ends_with(" ms)"), "{out}");
    }
    let (code, out, _) = connect(server.ip.to_string(), "icmp");
    assert_eq!(code, 0, "{out}");
    assert_eq!(
        connect(server.ghost(80).to_string(), "tcp"),
        (1, String::new(), "TIMEOUT\n".into())
    );
    assert_eq!(
        connect(server.at(81).to_string(), "tcp"),
        (1, String::new(), "REFUSED\n".into())
    );
    let (code, _, err) = connect("203.0.113.1:80".into(), "tcp");
    assert_eq!(
        (code, err.as_str()),
        (1, "OTHER: ENETUNREACH: no route to the network\n")
    );
}

fn serve(netns: &NetNs, arguments: &[&str]) -> Child {
    let mut command = Command::new(binary());
    command
        .args(["serve"])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    netns
        .run(move || command.process_group(0).spawn().unwrap())
        .unwrap()
}

fn a_server_ends_in_order_and_frees_its_port() {
    let lab = Lab::new(1);
    for _ in 0..2 {
        let mut server = serve(
            &lab.pods[0].netns,
            &[
                "--identity",
                "a/b",
                "--listen",
                "8080/tcp",
                "--listen",
                "127.0.0.1:53/udp",
            ],
        );
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let mut line = || lines.next().unwrap().unwrap();
        assert_eq!(
            [line(), line()],
            [
                "listening on [::]:8080/tcp",
                "listening on 127.0.0.1:53/udp"
            ]
        );
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
        server
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        assert!(!server.wait().unwrap().success());
        said
    };
    let said = failing(&["--identity", "a/c", "--listen", "8080/tcp"]);
    assert!(
        said.contains("cannot listen on `8080/tcp`: Address already in use"),
        "{said}"
    );
    let said = failing(&["--identity", "two words", "--listen", "80/tcp"]);
    assert!(said.contains("`two words` cannot be an identity"), "{said}");
    let sctp = socket2::Socket::new(
        socket2::Domain::IPV4,
        socket2::Type::STREAM,
        Some(socket2::Protocol::SCTP),
    );
    if sctp.is_err() {
        let said = failing(&["--identity", "a/c", "--listen", "9/sctp"]);
        assert!(
            said.contains("`9/sctp`: SCTP is unsupported by this kernel"),
            "{said}"
        );
    }
}

fn facts(netns: &NetNs, arguments: &[&str]) -> Facts {
    let output = in_pod(netns, &[&["facts"], arguments].concat());
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What `ip -j` says in a namespace.
fn ip(netns: &NetNs, arguments: &[&str]) -> Vec<Value> {
    let output = netns
        .run(|| {
            Command::new("ip")
                .arg("-j")
                .args(arguments)
                .output()
                .unwrap()
        })
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn facts_agree_with_iproute2() {
    let lab = Lab::new(2);
    let netns = &lab.pods[0].netns;
    let run = |arguments: &str| {
        let words: Vec<_> = arguments.split(' ').collect();
        netns
            .run(|| {
                assert!(
                    Command::new("ip").args(&words).status().unwrap().success(),
                    "{arguments}"
                )
            })
            .unwrap();
    };
    run("link add vxlan.test type vxlan id 4096 dstport 4789 local 10.9.0.1 dev eth0 nolearning");
    run("link add vxlan.ext type vxlan external dstport 4790");
    run("link set vxlan.test up");
    run("route add blackhole 10.1.77.0/26 proto 80");
    run("route add 10.1.88.0/26 via 10.1.88.0 dev vxlan.test onlink src 10.9.0.1");
    run("neigh add 10.1.88.0 lladdr 66:00:00:00:00:01 dev vxlan.test nud permanent");
    let bridge = [
        "fdb",
        "add",
        "66:00:00:00:00:01",
        "dev",
        "vxlan.test",
        "dst",
        "10.9.0.2",
    ];
    let has_bridge = netns
        .run(|| {
            Command::new("bridge")
                .args(bridge)
                .status()
                .is_ok_and(|s| s.success())
        })
        .unwrap();

    // From outside, through the path: the same as from inside.
    let path = lab.path(0);
    let told = facts(&NetNs::current().unwrap(), &["--all", "--netns", &path]);
    let inside = facts(netns, &[]);
    let stable = |facts: &Facts| {
        (
            facts.addresses.clone(),
            facts.routes.clone(),
            facts.listening.clone(),
        )
    };
    assert_eq!(stable(&told), stable(&inside));

    let links = ip(netns, &["-d", "link"]);
    assert_eq!(told.links.len(), links.len());
    for (ours, theirs) in told.links.iter().zip(&links) {
        assert_eq!(Value::from(ours.name.as_str()), theirs["ifname"]);
        assert_eq!(Value::from(ours.index), theirs["ifindex"]);
        assert_eq!(Value::from(ours.mtu), theirs["mtu"]);
        assert_eq!(
            ours.mac.as_deref().unwrap_or_default(),
            theirs["address"].as_str().unwrap_or_default()
        );
        let flags: Vec<_> = theirs["flags"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        assert_eq!(
            (ours.up, ours.lower_up),
            (flags.contains(&"UP"), flags.contains(&"LOWER_UP")),
            "{}",
            ours.name
        );
        if let Some(kind) = theirs["linkinfo"]["info_kind"].as_str() {
            assert_eq!(ours.kind, kind);
        }
    }
    let vxlan = |name: &str| {
        told.links
            .iter()
            .find(|link| link.name == name)
            .unwrap()
            .vxlan
            .clone()
            .unwrap()
    };
    let test = vxlan("vxlan.test");
    assert_eq!(
        (test.vni, test.port, test.learning, test.external),
        (4096, 4789, false, false)
    );
    assert_eq!(
        (test.local, test.parent.as_deref()),
        (Some(lab.pods[0].ip.into()), Some("eth0"))
    );
    assert!(vxlan("vxlan.ext").external);

    let count = |family: &str| ip(netns, &[family, "route", "show", "table", "all"]);
    let theirs: Vec<_> = count("-4")
        .into_iter()
        .chain(count("-6"))
        .filter(|r| r["table"] != "local")
        .collect();
    assert_eq!(
        told.routes.len(),
        theirs.len(),
        "{:#?}\n{theirs:#?}",
        told.routes
    );
    let route = |to: &str| {
        told.routes
            .iter()
            .find(|route| route.destination.to_string() == to)
            .unwrap()
    };
    assert_eq!(
        (
            route("10.1.77.0/26").kind.as_str(),
            route("10.1.77.0/26").next_hops.len()
        ),
        ("blackhole", 0)
    );
    let tunnel = route("10.1.88.0/26");
    assert_eq!(tunnel.source, Some(lab.pods[0].ip.into()));
    let hop = &tunnel.next_hops[0];
    assert_eq!(
        (
            hop.via.unwrap().to_string().as_str(),
            hop.device.as_deref(),
            hop.onlink
        ),
        ("10.1.88.0", Some("vxlan.test"), true)
    );

    let addresses: usize = ip(netns, &["address"])
        .iter()
        .map(|l| l["addr_info"].as_array().map_or(0, Vec::len))
        .sum();
    assert_eq!(told.addresses.len(), addresses);
    let near = |ip: &str| {
        told.neighbours
            .iter()
            .find(|entry| entry.address.to_string() == ip)
            .unwrap()
    };
    assert_eq!(
        (
            near("10.1.88.0").mac.as_deref(),
            near("10.1.88.0").state.as_str()
        ),
        (Some("66:00:00:00:00:01"), "permanent")
    );
    if has_bridge {
        let entry = told
            .fdb
            .iter()
            .find(|entry| entry.mac == "66:00:00:00:00:01")
            .unwrap();
        assert_eq!(
            (entry.device.as_str(), entry.destination),
            ("vxlan.test", Some(lab.pods[1].ip.into()))
        );
    }
}

fn facts_of_listening_ports() {
    let mut lab = Lab::new(1);
    lab.pods[0].serve("a/b", &["8080/tcp", "127.0.0.1:53/udp"]);
    let told = facts(&lab.pods[0].netns, &["listening"]);
    let ports: Vec<_> = told
        .listening
        .iter()
        .map(|l| format!("{} {} {}", l.protocol, l.address, l.port))
        .collect();
    assert_eq!(ports, ["tcp :: 8080", "udp 127.0.0.1 53"]);
    assert!(told.links.is_empty() && told.routes.is_empty());
}
