//! The probing agent as a process, asked over its streams.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cknet_probe::wire::frame;
use cknet_probe::wire::{AgentReply, AgentRequest, Batch, Cell, Expect, Observation, Sight, Target, VERSION};
use libtest_mimic::Trial;

use crate::lab::Lab;
use crate::personalities::binary;
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("an_agent_probes_over_its_streams", an_agent_probes_over_its_streams),
        trial("an_agent_with_few_files_probes_in_chunks", an_agent_with_few_files_probes_in_chunks),
        trial("an_agent_ends_with_an_error_on_a_broken_frame", an_agent_ends_with_an_error_on_a_broken_frame),
    ]
}

/// An agent in the namespace of the test itself.
struct Agent {
    child: Child,
}

impl Agent {
    fn start(mut command: Command) -> Self {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut agent = Self { child };
        let pid = agent.child.id();
        assert_eq!(agent.next(), Some(AgentReply::Hello { version: VERSION, pid }));
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
            let reply = self.ask(&AgentRequest::Attach { vantage, netns: lab.path(pod) });
            assert!(matches!(reply, AgentReply::Attached { .. }), "{reply:?}");
        }
    }

    fn probe(&mut self, pass: u64, targets: impl IntoIterator<Item = Target>) -> Vec<Observation> {
        let cell = |(id, target)| Cell { id, from: "pod-0".into(), target };
        let cells = (0..).zip(targets).map(cell).collect();
        let batch = Batch { pass, cells, quiet: Duration::from_millis(60), cap: Duration::from_secs(3) };
        match self.ask(&AgentRequest::Probe(batch)) {
            AgentReply::Observations { pass: echoed, list, launched_us, took_us } => {
                assert_eq!(echoed, pass);
                assert!(0 < launched_us && launched_us <= took_us, "{launched_us} of {took_us}");
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
    Target::Tcp { address, expect: Expect::Echo }
}

fn an_agent_probes_over_its_streams() {
    let mut lab = Lab::new(2);
    lab.pods[1].serve("a/b", &["80/tcp"]);
    let mut agent = Agent::start(agent_command());
    agent.attach_all(&lab);
    let seen = agent.probe(7, [tcp(lab.pods[1].at(80)), tcp(lab.pods[1].at(81)), tcp(lab.pods[1].ghost(80))]);
    let sights: Vec<_> = seen.iter().map(|one| one.sight.clone()).collect();
    assert_eq!(sights, [Sight::Answered, Sight::Refused, Sight::Silent]);
    assert_eq!(seen[0].peer.as_deref(), Some("a/b"));
    let missing = AgentRequest::Attach { vantage: "x".into(), netns: "/proc/0/ns/net".into() };
    let reply = agent.ask(&missing);
    assert!(matches!(&reply, AgentReply::Failed { reason, .. } if reason.contains("`/proc/0/ns/net`")), "{reply:?}");
    let reply = agent.ask(&AgentRequest::Detach { vantage: "pod-1".into() });
    assert_eq!(reply, AgentReply::Detached { vantage: "pod-1".into() });
    assert!(agent.end().success());
}

fn an_agent_with_few_files_probes_in_chunks() {
    let mut lab = Lab::new(2);
    lab.pods[1].serve("a/b", &["80/tcp"]);
    let mut command = Command::new("sh");
    command.arg("-c").arg(r#"ulimit -n 64; exec "$0" probe agent"#).arg(binary());
    let mut agent = Agent::start(command);
    agent.attach_all(&lab);
    let (open, cut) = (lab.pods[1].at(80), lab.pods[1].ghost(80));
    let seen = agent.probe(1, (0..150).map(|n| tcp(if n % 2 == 0 { open } else { cut })));
    assert_eq!(seen.len(), 150);
    for one in seen {
        let expected = if one.id % 2 == 0 { Sight::Answered } else { Sight::Silent };
        assert_eq!(one.sight, expected, "cell {}", one.id);
    }
    assert!(agent.end().success());
}

fn an_agent_ends_with_an_error_on_a_broken_frame() {
    let mut child = agent_command().stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"\xff\xff\xff\xff").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("4294967295 bytes is longer"), "{said}");
}
