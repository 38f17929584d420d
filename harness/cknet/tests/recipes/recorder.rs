//! Nodes that take down what is asked of them and answer plausibly.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cknet::distribution::recipe::{Cni, Install, ProbeImage, Tell};
use cknet::distribution::{ClusterSpec, Encapsulation, Flavour, Member};
use cknet::provider::{Conversation, Exit, Invocation, Node, NodeError, Nodes, Output};
use futures::FutureExt;
use futures::future::BoxFuture;
use ipnet::Ipv4Net;

/// What a node says to a command, or nothing where it does as any node does.
pub type Answer = Box<dyn Fn(&str, &str, usize) -> Option<Result<Output, NodeError>> + Send + Sync>;

/// Everything that was asked of all nodes.
#[derive(Clone)]
pub struct Recorder {
    inner: Arc<Inner>,
}

struct Inner {
    lines: Mutex<Vec<(String, String)>>,
    /// The stage that was last told of each node.
    stages: Mutex<BTreeMap<String, String>>,
    /// What each node was told to undo.
    undone: Mutex<BTreeSet<(String, String)>>,
    /// How often each command was asked for on each node.
    asked: Mutex<BTreeMap<(String, String), usize>>,
    /// How many nodes join right now, and the most at any time.
    joining: Mutex<(usize, usize)>,
    answer: Answer,
}

impl Recorder {
    pub fn new(answer: Answer) -> Self {
        let inner = Inner {
            lines: Mutex::default(),
            stages: Mutex::default(),
            undone: Mutex::default(),
            asked: Mutex::default(),
            joining: Mutex::default(),
            answer,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Nodes that do as they should.
    pub fn willing() -> Self {
        Self::new(Box::new(|_, _, _| None))
    }

    pub fn tell(&self) -> Tell {
        let recorder = self.clone();
        Arc::new(move |told| {
            recorder.inner.stages.lock().unwrap().insert(told.node.clone(), told.stage.to_string());
        })
    }

    pub fn nodes(&self, spec: &ClusterSpec) -> Nodes {
        let node = |member: &Member| {
            // The first NIC has the same address on every machine, as those of VirtualBox have.
            self.node(&member.name, [("eth0", "10.0.2.15/24"), ("eth1", &format!("{}/24", member.address))])
        };
        Nodes { by_name: spec.members.iter().map(|member| (member.name.clone(), node(member))).collect() }
    }

    /// A node with these NICs.
    pub fn node<const N: usize>(&self, name: &str, nics: [(&str, &str); N]) -> Arc<dyn Node> {
        let addresses = nics.map(|(nic, address)| (nic.to_string(), address.parse().unwrap()));
        Arc::new(Recording { name: name.into(), addresses: BTreeMap::from(addresses), recorder: self.clone() })
    }

    /// Everything in the order in which it was asked for.
    pub fn transcript(&self) -> String {
        let lines = self.inner.lines.lock().unwrap();
        lines.iter().map(|(node, line)| format!("{node} {line}\n")).collect()
    }

    /// Node by node: what is done on several at the same time has no order.
    pub fn by_node(&self) -> String {
        let lines = self.inner.lines.lock().unwrap();
        let mut text = BTreeMap::<&str, String>::new();
        for (node, line) in lines.iter() {
            text.entry(node).or_default().push_str(&format!("{line}\n"));
        }
        text.iter().map(|(node, lines)| format!("== {node}\n{lines}")).collect()
    }

    pub fn most_joining(&self) -> usize {
        self.inner.joining.lock().unwrap().1
    }

    fn note(&self, node: &str, text: &str) {
        let stage = self.inner.stages.lock().unwrap().get(node).cloned().unwrap_or_default();
        self.inner.lines.lock().unwrap().push((node.to_string(), format!("{stage:10} {text}")));
    }
}

struct Recording {
    name: String,
    addresses: BTreeMap<String, Ipv4Net>,
    recorder: Recorder,
}

impl Node for Recording {
    fn name(&self) -> &str {
        &self.name
    }

    fn addresses(&self) -> &BTreeMap<String, Ipv4Net> {
        &self.addresses
    }

    fn run(&self, invocation: Invocation, deadline: Duration) -> BoxFuture<'_, Result<Output, NodeError>> {
        async move {
            let command = invocation.argv.join(" ");
            let environment = invocation.environment.iter().map(|(name, value)| format!("{name}={value} "));
            let environment = environment.collect::<String>();
            self.recorder.note(&self.name, &format!("$ {environment}{command}  [{} s]", deadline.as_secs()));
            let inner = &self.recorder.inner;
            let times = {
                let mut asked = inner.asked.lock().unwrap();
                let times = asked.entry((self.name.clone(), command.clone())).or_default();
                *times += 1;
                *times
            };
            let joins = ["join-cluster", "microk8s join", "kubeadm join"].iter().any(|words| command.contains(words));
            if joins {
                let mut joining = inner.joining.lock().unwrap();
                joining.0 += 1;
                joining.1 = joining.1.max(joining.0);
            }
            // Time passes on no clock but that of the test.
            tokio::time::sleep(Duration::from_secs(1)).await;
            if joins {
                inner.joining.lock().unwrap().0 -= 1;
            }
            (inner.answer)(&self.name, &command, times).unwrap_or_else(|| Ok(ordinary(&command, times)))
        }
        .boxed()
    }

    fn start(&self, service: &str, _: Invocation) -> BoxFuture<'_, Result<(), NodeError>> {
        panic!("no recipe starts `{service}` by itself")
    }

    fn stop(&self, service: &str) -> BoxFuture<'_, Result<(), NodeError>> {
        panic!("no recipe stops `{service}` by itself")
    }

    fn ended(&self, _: &str) -> BoxFuture<'_, Option<Exit>> {
        async { None }.boxed()
    }

    fn converse(&self, invocation: Invocation) -> BoxFuture<'_, Result<Conversation, NodeError>> {
        panic!("no recipe talks with `{invocation}`")
    }

    fn put(&self, path: &str, _: u32, _: Vec<u8>) -> BoxFuture<'_, Result<(), NodeError>> {
        panic!("`{path}` has no deadline")
    }

    fn put_within(
        &self,
        path: &str,
        mode: u32,
        content: Vec<u8>,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<(), NodeError>> {
        let content = String::from_utf8_lossy(&content);
        let lines = content.lines().map(|line| format!("\n    | {line}")).collect::<String>();
        self.recorder.note(&self.name, &format!("> {path} {mode:o}  [{} s]{lines}", deadline.as_secs()));
        async { Ok(()) }.boxed()
    }

    fn take(&self, path: &str) -> BoxFuture<'_, Result<Vec<u8>, NodeError>> {
        panic!("no recipe takes `{path}`")
    }

    /// Noted once, as on a machine.
    fn undo<'a>(&'a self, line: &'a str) -> BoxFuture<'a, Result<(), NodeError>> {
        let node = self.name.clone();
        if self.recorder.inner.undone.lock().unwrap().insert((node, line.to_string())) {
            self.recorder.note(&self.name, &format!("< {line}"));
        }
        async { Ok(()) }.boxed()
    }

    fn forward(&self, port: u16) -> BoxFuture<'_, Result<SocketAddr, NodeError>> {
        self.recorder.note(&self.name, &format!("forward {port}"));
        async { Ok("127.0.0.1:40123".parse().unwrap()) }.boxed()
    }
}

pub fn said(text: &str) -> Output {
    Output { exit: Exit::Code(0), stdout: text.into(), stderr: Vec::new() }
}

pub fn refused(code: i32, complaint: &str) -> Output {
    Output { exit: Exit::Code(code), stdout: Vec::new(), stderr: complaint.into() }
}

/// What a node that does as it should says.
fn ordinary(command: &str, times: usize) -> Output {
    let kubeconfig = "apiVersion: v1\nclusters:\n- cluster:\n    server: https://10.0.0.1:6443\n  name: k\n";
    if command.contains("get-join-token") {
        return said(&format!("token-{times}\n"));
    }
    if command.contains("add-node") {
        return said(&format!(r#"{{"token": "token-{times}", "urls": []}}"#));
    }
    if command.contains("token create") {
        let words =
            "kubeadm join 10.0.0.1:6443 --token abcdef.0123456789abcdef --discovery-token-ca-cert-hash sha256:00";
        return said(&format!("{words}\n"));
    }
    if command.contains(" config --server") || command.ends_with("microk8s config") || command.starts_with("cat ") {
        return said(kubeconfig);
    }
    said("")
}

pub fn member(name: &str, host: u8, control_plane: bool) -> Member {
    Member { name: name.into(), address: [192, 168, 70, host].into(), control_plane }
}

/// A control plane and a worker whose second NICs share a segment.
pub fn pair(flavour: Flavour) -> ClusterSpec {
    let mut spec = spec(flavour);
    spec.members.truncate(2);
    spec
}

/// The same with two workers.
pub fn spec(flavour: Flavour) -> ClusterSpec {
    ClusterSpec {
        flavour,
        pod_cidr: "10.1.0.0/16".parse().unwrap(),
        service_cidr: "10.152.183.0/24".parse().unwrap(),
        encapsulation: Encapsulation::Vxlan,
        bird: false,
        block_size: 26,
        autodetection: "first-found".into(),
        control_plane: "cp1".into(),
        members: vec![member("cp1", 11, true), member("w1", 12, false), member("w2", 13, false)],
    }
}

pub fn install(channel: &str) -> Install {
    Install {
        channel: channel.into(),
        packages: Vec::new(),
        images: Vec::new(),
        probe: ProbeImage::Archive(b"the probe image".as_slice().into()),
        cni: Cni::Stock,
        proxy: None,
    }
}
