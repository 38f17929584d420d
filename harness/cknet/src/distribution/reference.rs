//! The reference distribution on any nodes: files and two services per node, started in the order they need.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine};
use cknet_reference::addons::{self, AddonSpec, Cni};
use cknet_reference::api::pki::Authority;
use cknet_reference::control_plane;
use cknet_reference::node;
use futures::FutureExt;
use futures::future::{BoxFuture, try_join_all};
use ipnet::Ipv4Net;
use serde_json::json;

use super::{Bootstrapped, Carries, ClusterSpec, Distribution, DistributionError, Encapsulation, Flavour, Member};
use crate::event::Fidelity;
use crate::provider::{Invocation, Node, Nodes};
use crate::scenario::model::Capability;

/// Where the API server listens.
const API_PORT: u16 = 6443;

/// Longest time from the start of the API server to its first answer.
const API_ANSWERS: Duration = Duration::from_secs(15);

/// Longest time from there until the cluster is ready.
const READY: Duration = Duration::from_secs(60);

/// What takes a node off a machine that goes on without it.
const CLEAN: &str = "cknet node-clean";

/// How often the API server is asked whether it answers.
const ASK_AGAIN: Duration = Duration::from_millis(4);

/// Our own distribution: a model of the documented behaviour on the kernel's real data plane.
pub struct Reference;

impl Distribution for Reference {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn fidelity(&self) -> Fidelity {
        Fidelity::Model
    }

    fn capabilities(&self) -> Vec<Capability> {
        vec![
            Capability::Overlay,
            Capability::NetworkPolicy,
            Capability::Services,
            Capability::Dns,
            Capability::ComponentControl,
            Capability::CustomCidrs,
        ]
    }

    fn profile(&self) -> &'static str {
        "reference"
    }

    fn carries(&self) -> Carries {
        Carries {
            flavours: vec![Flavour::Canonical, Flavour::Kubeadm, Flavour::K3s, Flavour::Rke2],
            encapsulations: vec![Encapsulation::Vxlan, Encapsulation::VxlanCrossSubnet, Encapsulation::None],
            bird: true,
        }
    }

    fn bootstrap<'a>(
        &'a self,
        nodes: &'a Nodes,
        spec: &'a ClusterSpec,
    ) -> BoxFuture<'a, Result<Bootstrapped, DistributionError>> {
        async move {
            let credentials = Credentials::create(spec)?;
            let control_plane = find(nodes, &spec.control_plane)?;
            let address = member(spec, &spec.control_plane)?.address;
            credentials.start_control_plane(control_plane, spec, address).await?;
            let reach = control_plane.forward(API_PORT).await?;
            await_api(control_plane, reach).await?;
            let server = format!("https://{address}:{API_PORT}");
            let starts = spec.members.iter().map(|member| credentials.start_node(nodes, spec, member, &server));
            try_join_all(starts).await?;
            let kubeconfig = credentials.kubeconfig(&format!("https://{reach}"), &credentials.admin_token);
            let profile = profile_of(spec.flavour);
            Ok(Bootstrapped { kubeconfig, profile, dns: "coredns", ready_within: READY })
        }
        .boxed()
    }
}

/// The names of a flavour's CNI, in fixtures/profiles.
fn profile_of(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::Canonical => "reference",
        Flavour::Kubeadm => "kubeadm",
        Flavour::K3s => "k3s",
        Flavour::Rke2 => "rke2",
    }
}

/// K3s runs flannel inside of its own process; here it is a service of the node, and no pod either.
fn embedded_flannel(spec: &ClusterSpec, member: &Member) -> Invocation {
    let network = json!({"Network": spec.pod_cidr, "Backend": {"Type": "vxlan"}});
    let list = json!({
        "name": "cbr0",
        "cniVersion": "1.0.0",
        "plugins": [
            {"type": "flannel", "delegate": {"hairpinMode": true, "forceAddress": true, "isDefaultGateway": true}},
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    });
    let variables = [
        ("NODE_NAME", member.name.clone()),
        ("KUBECONFIG", node::KUBECONFIG.to_string()),
        ("FLANNEL_NET_CONF", network.to_string()),
        ("FLANNEL_CNI_CONF", list.to_string()),
        ("FLANNEL_PATIENT", "true".to_string()),
    ];
    let mut invocation = Invocation::new(["cknet", "flanneld"]);
    invocation.environment = variables.map(|(name, value)| (name.to_string(), value)).to_vec();
    invocation
}

fn find<'a>(nodes: &'a Nodes, name: &str) -> Result<&'a dyn Node, DistributionError> {
    nodes.get(name).map(AsRef::as_ref).ok_or_else(|| DistributionError::NoNode(name.to_string()))
}

fn member<'a>(spec: &'a ClusterSpec, name: &str) -> Result<&'a Member, DistributionError> {
    let found = spec.members.iter().find(|member| member.name == name);
    found.ok_or_else(|| DistributionError::NoNode(name.to_string()))
}

/// The nth address of the service network: 1 is `kubernetes`, 10 is the cluster's DNS.
fn service_address(network: Ipv4Net, number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(network.network()) + number)
}

/// Who may talk to whom: one authority and three tokens for each cluster.
struct Credentials {
    authority: Authority,
    admin_token: String,
    node_token: String,
    kubelet_token: String,
}

impl Credentials {
    fn create(spec: &ClusterSpec) -> Result<Self, DistributionError> {
        let name = format!("cknet {}", spec.control_plane);
        Ok(Self {
            authority: Authority::create(&name).map_err(certificates)?,
            admin_token: random_token()?,
            node_token: random_token()?,
            kubelet_token: random_token()?,
        })
    }

    async fn start_control_plane(
        &self,
        node: &dyn Node,
        spec: &ClusterSpec,
        address: Ipv4Addr,
    ) -> Result<(), DistributionError> {
        let names = [
            address.to_string(),
            service_address(spec.service_cidr, 1).to_string(),
            "127.0.0.1".into(),
            "localhost".into(),
            "kubernetes".into(),
            "kubernetes.default".into(),
            "kubernetes.default.svc".into(),
            "kubernetes.default.svc.cluster.local".into(),
            node.name().to_string(),
        ];
        let issued = self.authority.issue("kube-apiserver", &names).map_err(certificates)?;
        let config = control_plane::Config {
            advertise: address,
            port: API_PORT,
            ca_pem: self.authority.ca_pem().to_string(),
            cert_pem: issued.cert_pem,
            key_pem: issued.key_pem,
            admin_token: self.admin_token.clone(),
            node_token: self.node_token.clone(),
            kubelet_token: self.kubelet_token.clone(),
            allocate_node_cidrs: spec.flavour != Flavour::Canonical,
            addons: AddonSpec {
                cni: match spec.flavour {
                    Flavour::Canonical => Cni::Calico,
                    Flavour::Rke2 => Cni::Canal,
                    Flavour::Kubeadm | Flavour::K3s => Cni::Absent,
                },
                pod_cidr: spec.pod_cidr,
                service_cidr: spec.service_cidr,
                block_size: spec.block_size,
                encapsulation: match spec.encapsulation {
                    Encapsulation::Vxlan => addons::Encapsulation::Always,
                    Encapsulation::VxlanCrossSubnet => addons::Encapsulation::CrossSubnet,
                    Encapsulation::None => addons::Encapsulation::Never,
                },
                bird: spec.bird,
                autodetection: Some(spec.autodetection.clone()),
                cluster_domain: "cluster.local".into(),
            },
        };
        node.undo(CLEAN).await?;
        node.put(control_plane::CONFIG, 0o600, json!(config).to_string().into_bytes()).await?;
        node.start("control-plane", Invocation::new(["cknet", "control-plane", control_plane::CONFIG])).await?;
        Ok(())
    }

    async fn start_node(
        &self,
        nodes: &Nodes,
        spec: &ClusterSpec,
        member: &Member,
        server: &str,
    ) -> Result<(), DistributionError> {
        let node = find(nodes, &member.name)?;
        let names = [member.address.to_string(), member.name.clone(), "127.0.0.1".into()];
        let issued = self.authority.issue(&format!("system:node:{}", member.name), &names).map_err(certificates)?;
        let config = node::Config {
            name: member.name.clone(),
            address: member.address,
            control_plane: member.control_plane,
            kubelet_token: self.kubelet_token.clone(),
            cert_pem: issued.cert_pem,
            key_pem: issued.key_pem,
            cluster_dns: service_address(spec.service_cidr, 10),
            pod_cidr: spec.pod_cidr,
        };
        node.undo(CLEAN).await?;
        node.put(node::KUBECONFIG, 0o600, self.kubeconfig(server, &self.node_token).into_bytes()).await?;
        node.put(node::CONFIG, 0o600, json!(config).to_string().into_bytes()).await?;
        node.start("node", Invocation::new(["cknet", "node", node::CONFIG])).await?;
        if spec.flavour == Flavour::K3s {
            node.start("flannel", embedded_flannel(spec, member)).await?;
        }
        Ok(())
    }

    /// A kubeconfig is YAML, and JSON is YAML: every client reads it.
    fn kubeconfig(&self, server: &str, token: &str) -> String {
        let authority = BASE64_STANDARD.encode(self.authority.ca_pem());
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "cknet", "cluster": {"server": server, "certificate-authority-data": authority}}],
            "users": [{"name": "cknet", "user": {"token": token}}],
            "contexts": [{"name": "cknet", "context": {"cluster": "cknet", "user": "cknet"}}],
            "current-context": "cknet",
        });
        format!("{config:#}\n")
    }
}

fn certificates(error: impl std::fmt::Display) -> DistributionError {
    DistributionError::Certificates(error.to_string())
}

/// 128 random bits in hexadecimal.
pub fn random_token() -> Result<String, DistributionError> {
    let mut bytes = [0; 16];
    let read =
        std::fs::File::open("/dev/urandom").and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes));
    read.map_err(certificates)?;
    Ok(bytes.map(|byte| format!("{byte:02x}")).concat())
}

/// Waits until something accepts connections on the API server's port.
async fn await_api(node: &dyn Node, reach: std::net::SocketAddr) -> Result<(), DistributionError> {
    let started = Instant::now();
    let mut last = String::from("it was not asked");
    while started.elapsed() < API_ANSWERS {
        match answers(reach).await {
            Ok(()) => return Ok(()),
            Err(error) => last = error.to_string(),
        }
        if let Some(exit) = node.ended("control-plane").await {
            last = format!("it ended with {exit}");
            break;
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
    let log = node.take("/run/cknet/log/control-plane.log").await.unwrap_or_default();
    let log = match String::from_utf8_lossy(&log).trim() {
        "" => String::new(),
        log => format!("; its log ends: {}", log.lines().rev().take(5).collect::<Vec<_>>().join(" | ")),
    };
    Err(DistributionError::ApiServer { deadline: API_ANSWERS, last, log })
}

/// A forwarded connection is closed at once when nothing listens behind it; a TLS server waits for the client.
async fn answers(reach: std::net::SocketAddr) -> std::io::Result<()> {
    use tokio::io::AsyncReadExt;
    let mut stream = tokio::net::TcpStream::connect(reach).await?;
    match tokio::time::timeout(ASK_AGAIN, stream.read(&mut [0])).await {
        Err(_still_open) => Ok(()),
        Ok(Ok(_)) => Err(std::io::ErrorKind::ConnectionRefused.into()),
        Ok(Err(error)) => Err(error),
    }
}
