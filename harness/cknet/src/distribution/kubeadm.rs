//! kubeadm on machines: a cluster without any CNI, from the packages of the Kubernetes project.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::kubeadm_undo::{self as undo, KEY, PACKAGES, UNDO};
use super::recipe::{
    Cni, DOWNLOAD, FOLDER, Failure, Install, InstallError, ProbeImage, Site, Stage, Step, Tell, Version,
};
use super::{
    Bootstrapped, Carries, ClusterSpec, Distribution, DistributionError, Encapsulation, Flavour, Member, Tail,
};
use crate::event::Fidelity;
use crate::provider::Nodes;
use crate::scenario::model::Capability;

const NAME: &str = "kubeadm";
const API_PORT: u16 = 6443;
const ADMIN: &str = "/etc/kubernetes/admin.conf";

/// Longest time for `kubeadm init` and `kubeadm join`, which wait for four minutes themselves and pull images before.
const KUBEADM: Duration = Duration::from_secs(10 * 60);

/// Modules that are needed, or what there is where they are built in, or where a container's host has them: nothing can
/// be loaded from in there.
const OVERLAY: &str = "modprobe overlay || grep -qw overlay /proc/filesystems";
const BRIDGES: &str = "modprobe br_netfilter || test -d /proc/sys/net/bridge";

/// A fresh machine may still be busy with its own updates.
const APT_PATIENCE: &str = "DPkg::Lock::Timeout=300";

const EVIDENCE: &[&str] = &[
    "journalctl --no-pager --lines 300 --unit kubelet",
    "journalctl --no-pager --lines 300 --unit containerd",
    "crictl ps --all",
];

/// The version of the format of files for kubeadm that all of these releases read.
const FORMAT: &str = "kubeadm.k8s.io/v1beta4";

/// kubeadm with containerd, on Debian and Ubuntu.
pub struct Kubeadm {
    install: Install,
    version: Version,
    tell: Tell,
}

impl Kubeadm {
    /// # Errors
    /// When the channel is none that this recipe was written for.
    pub fn new(install: Install, tell: Tell) -> Result<Self, InstallError> {
        let version = install.within(NAME, "v1.33", Version::new(1, 31), Version::new(1, 36))?;
        if install.cni == Cni::Calico {
            return Err(InstallError::NoAlternative { distribution: NAME });
        }
        if !install.packages.is_empty() {
            return Err(InstallError::NoPackage { distribution: NAME });
        }
        Ok(Self { install, version, tell })
    }

    fn prepare(&self, member: &Member, spec: &ClusterSpec) -> Vec<Step> {
        let mut steps = vec![super::snap::named(&member.name)];
        let mut variables = Vec::new();
        if let Some(proxy) = &self.install.proxy {
            let path = "/etc/systemd/system/containerd.service.d/http-proxy.conf";
            steps.push(Step::put(Stage::Proxy, path, 0o644, proxy.drop_in(spec)));
            variables = proxy.variables(spec);
        }
        let modules = "overlay\nbr_netfilter\n";
        let forwarding = "net.ipv4.ip_forward = 1\nnet.bridge.bridge-nf-call-iptables = 1\n";
        let repository = format!("https://pkgs.k8s.io/core:/stable:/v{}/deb/", self.version);
        let source = format!("deb [signed-by={KEY}] {repository} /\n");
        let release_key = format!("{repository}Release.key");
        let fetch = ["curl", "--fail", "--silent", "--show-error", "--location", "--output", KEY, &release_key];
        let apt = |words: &[&str]| {
            let quiet = [("DEBIAN_FRONTEND".to_string(), "noninteractive".to_string())];
            let argv = ["apt-get", "-o", APT_PATIENCE].into_iter().chain(words.iter().copied());
            Step::run(Stage::Install, argv).within(DOWNLOAD).environment(variables.clone()).environment(quiet)
        };
        steps.extend([
            undo::settings(),
            Step::run(Stage::Install, ["swapoff", "--all"]),
            Step::put(Stage::Install, "/etc/modules-load.d/cknet.conf", 0o644, modules),
            Step::run(Stage::Install, ["sh", "-c", OVERLAY]),
            Step::run(Stage::Install, ["sh", "-c", BRIDGES]),
            Step::put(Stage::Install, "/etc/sysctl.d/90-cknet.conf", 0o644, forwarding),
            Step::run(Stage::Install, ["sysctl", "--system"]),
            Step::run(Stage::Install, ["mkdir", "-p", "/etc/apt/keyrings"]),
            Step::run(Stage::Install, fetch).within(DOWNLOAD).environment(variables.clone()),
            Step::put(Stage::Install, "/etc/apt/sources.list.d/kubernetes.list", 0o644, source),
            apt(&["update"]),
            undo::packages(),
            apt(&[&["install", "--yes"], &PACKAGES[..]].concat()),
            Step::put(Stage::Install, "/etc/containerd/config.toml", 0o644, CONTAINERD),
            Step::run(Stage::Install, ["systemctl", "daemon-reload"]),
            Step::run(Stage::Install, ["systemctl", "restart", "containerd"]),
        ]);
        for (number, image) in self.install.images.iter().enumerate() {
            let there = format!("{FOLDER}/images-{number}.tar");
            let import = ["ctr", "--namespace", "k8s.io", "images", "import", &there];
            steps.push(Step::copy(Stage::Images, image, &there));
            steps.push(Step::run(Stage::Images, import).within(DOWNLOAD));
        }
        steps
    }

    async fn init(&self, site: &Site<'_>, first: &Member) -> Result<(), DistributionError> {
        let file = format!("{FOLDER}/init.yaml");
        let documents = [
            json!({
                "apiVersion": FORMAT,
                "kind": "InitConfiguration",
                "localAPIEndpoint": {"advertiseAddress": first.address, "bindPort": API_PORT},
                "nodeRegistration": registration(first),
            }),
            json!({
                "apiVersion": FORMAT,
                "kind": "ClusterConfiguration",
                "kubernetesVersion": format!("stable-{}", self.version),
                "networking": {"podSubnet": site.spec.pod_cidr, "serviceSubnet": site.spec.service_cidr},
                "apiServer": {"certSANs": ["127.0.0.1", first.address]},
            }),
        ];
        let texts: Result<Vec<String>, _> = documents.iter().map(super::yaml).collect();
        let init = ["kubeadm", "init", "--config", &file, "--skip-token-print"];
        let steps = [
            Step::put(Stage::Bootstrap, &file, 0o600, texts?.join("---\n")),
            Step::run(Stage::Bootstrap, init).within(KUBEADM).environment(self.variables(site.spec)),
        ];
        site.all(&first.name, &steps).await
    }

    fn variables(&self, spec: &ClusterSpec) -> Vec<(String, String)> {
        self.install.proxy.iter().flat_map(|proxy| proxy.variables(spec)).collect()
    }

    async fn join(&self, site: &Site<'_>, first: &Member, member: &Member) -> Result<(), DistributionError> {
        let ask = Step::run(Stage::Join, ["kubeadm", "token", "create", "--ttl", "1h", "--print-join-command"]);
        let answer = site.step(&first.name, &ask).await?;
        let Some((token, hash)) = credentials(&answer) else {
            let command = ask.action.to_string();
            let failure =
                Failure::Answer { command, wanted: "a command for joining", found: format!("{} bytes", answer.len()) };
            return Err(site.failed(Stage::Join, &first.name, failure).await);
        };
        let file = format!("{FOLDER}/join.yaml");
        let document = json!({
            "apiVersion": FORMAT,
            "kind": "JoinConfiguration",
            "discovery": {"bootstrapToken": {
                "apiServerEndpoint": format!("{}:{API_PORT}", first.address),
                "token": token,
                "caCertHashes": [hash],
            }},
            "nodeRegistration": registration(member),
        });
        let steps = [
            Step::put(Stage::Join, &file, 0o600, super::yaml(&document)?),
            Step::run(Stage::Join, ["kubeadm", "join", "--config", &file]).within(KUBEADM),
        ];
        site.all(&member.name, &steps).await?;
        site.await_member(Stage::Join, &["kubectl", "--kubeconfig", ADMIN], member, KUBEADM).await
    }
}

/// The kubelet leaves cgroups to systemd; containerd does so only when told to.
const CONTAINERD: &str = "\
version = 2
[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]
  runtime_type = \"io.containerd.runc.v2\"
  [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]
    SystemdCgroup = true
";

fn registration(member: &Member) -> Value {
    json!({
        "name": member.name,
        "criSocket": "unix:///run/containerd/containerd.sock",
        "kubeletExtraArgs": [{"name": "node-ip", "value": member.address}],
    })
}

/// The token and the hash of the authority's certificate in a printed command.
fn credentials(command: &str) -> Option<(&str, &str)> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let after = |flag: &str| words.iter().position(|word| *word == flag).and_then(|at| words.get(at + 1).copied());
    Some((after("--token")?, after("--discovery-token-ca-cert-hash")?))
}

impl Distribution for Kubeadm {
    fn name(&self) -> &'static str {
        NAME
    }

    fn fidelity(&self) -> Fidelity {
        Fidelity::Cluster
    }

    fn capabilities(&self) -> Vec<Capability> {
        super::capabilities_of_a_cluster()
    }

    fn profile(&self) -> &'static str {
        NAME
    }

    fn channel(&self) -> Option<&str> {
        Some(&self.install.channel)
    }

    /// It brings no CNI, so that no encapsulation is promised; what a scenario names is not used.
    fn probe_image(&self) -> &ProbeImage {
        &self.install.probe
    }

    fn carries(&self) -> Carries {
        Carries { flavours: vec![Flavour::Kubeadm], encapsulations: vec![Encapsulation::Vxlan], bird: false }
    }

    fn bootstrap<'a>(
        &'a self,
        nodes: &'a Nodes,
        spec: &'a ClusterSpec,
    ) -> BoxFuture<'a, Result<Bootstrapped, DistributionError>> {
        async move {
            let site = Site { distribution: NAME, nodes, spec, tell: &self.tell, evidence: EVIDENCE, undo: UNDO };
            let first = site.first()?;
            if let Some(other) = site.others().find(|member| member.control_plane) {
                let why = format!("`{}` would be a second control plane; this recipe makes one", other.name);
                return Err(DistributionError::Impossible { distribution: NAME, why });
            }
            site.everywhere(|member| Ok(self.prepare(member, spec))).await?;
            self.init(&site, first).await?;
            for member in site.others() {
                self.join(&site, first, member).await?;
            }
            site.everywhere(|_| Ok(self.install.probe.import(&["ctr"]))).await?;
            let config = |_: &str| Step::run(Stage::Kubeconfig, ["cat", ADMIN]);
            let kubeconfig = super::kubeconfig(&site, API_PORT, config).await?;
            Ok(Bootstrapped { kubeconfig, profile: self.profile(), dns: "coredns", ready_within: DOWNLOAD })
        }
        .boxed()
    }

    fn evidence<'a>(&'a self, nodes: &'a Nodes, spec: &'a ClusterSpec, tail: Tail) -> BoxFuture<'a, String> {
        super::evidence(NAME, nodes, spec, EVIDENCE, tail)
    }
}
