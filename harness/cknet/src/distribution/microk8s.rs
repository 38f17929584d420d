//! MicroK8s on machines: the one product in which what the document says of Calico holds as written.
//!
//! A launch configuration says everything before the snap is installed; the snap applies it by itself.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::recipe::{
    Cni, DOWNLOAD, Failure, Install, InstallError, ProbeImage, QUICK, Site, Stage, Step, Tell, Version, of_a_snap,
};
use super::snap;
use super::{
    Bootstrapped, Carries, ClusterSpec, Distribution, DistributionError, Encapsulation, Flavour, Member, Tail,
};
use crate::event::Fidelity;
use crate::provider::Nodes;
use crate::scenario::model::Capability;

const NAME: &str = "microk8s";
const EXAMPLE: &str = "1.33/stable";
const MICROK8S: &str = "/snap/bin/microk8s";
const API_PORT: u16 = 16443;

/// What asks the snap's own containerd.
const CTR: &[&str] = &[MICROK8S, "ctr"];

/// Where nodes ask to join.
const AGENT_PORT: u16 = 25000;

/// Longest time for a node to join: it restarts all of its services.
const JOIN: Duration = Duration::from_secs(10 * 60);

/// What takes it off a machine that goes on without it.
const UNDO: &[&str] = &["! snap list microk8s >/dev/null 2>&1 || snap remove --purge microk8s"];

const EVIDENCE: &[&str] = &[
    "snap changes",
    "/snap/bin/microk8s status",
    "journalctl --no-pager --lines 300 --unit snap.microk8s.daemon-kubelite",
    "journalctl --no-pager --lines 300 --unit snap.microk8s.daemon-containerd",
];

/// The `microk8s` snap.
pub struct Microk8s {
    install: Install,
    tell: Tell,
}

impl Microk8s {
    /// # Errors
    /// When the channel is none that this recipe was written for.
    pub fn new(install: Install, tell: Tell) -> Result<Self, InstallError> {
        install.within(NAME, EXAMPLE, Version::new(1, 28), Version::new(1, 36))?;
        of_a_snap(&install.channel, NAME, EXAMPLE)?;
        if install.cni == Cni::Calico {
            return Err(InstallError::NoAlternative { distribution: NAME });
        }
        Ok(Self { install, tell })
    }

    fn prepare(&self, member: &Member, spec: &ClusterSpec) -> Result<Vec<Step>, DistributionError> {
        let launch = super::yaml(&self.launch_configuration(member, spec))?;
        let mut steps = vec![snap::seeded(), snap::named(&member.name)];
        steps.extend(self.install.proxy.iter().flat_map(snap::proxy));
        steps.push(Step::put(Stage::Install, "/var/snap/microk8s/common/.microk8s.yaml", 0o600, launch));
        // Imported by the snap itself, before it needs them.
        steps.extend(self.install.copy_images("/var/snap/microk8s/common/sideload"));
        steps.extend(snap::install("microk8s", &self.install, Stage::Install));
        let wait = [MICROK8S, "status", "--wait-ready", "--timeout", "600"];
        steps.push(Step::run(Stage::Install, wait).within(JOIN + QUICK));
        Ok(steps)
    }

    /// Each node has its own: a launch configuration is not passed on when nodes join.
    fn launch_configuration(&self, member: &Member, spec: &ClusterSpec) -> Value {
        let service = u32::from(spec.service_cidr.network());
        let (first_service, dns) = (service + 1, service + 10);
        let address = |number: u32| std::net::Ipv4Addr::from(number).to_string();
        let mut configuration = json!({
            "version": "0.2.0",
            // Where it asks itself, as without arguments, and the address of its service, which the addon knows by
            // itself only for the block of services that the snap comes with.
            "addons": [{"name": "dns", "args": ["/etc/resolv.conf", address(dns)]}],
            "extraCNIEnv": {
                "IPv4_SUPPORT": "true",
                "IPv4_CLUSTER_CIDR": spec.pod_cidr,
                "IPv4_SERVICE_CIDR": spec.service_cidr,
            },
            "extraKubeletArgs": {"--node-ip": member.address, "--cluster-dns": address(dns)},
            "extraSANs": [address(first_service), member.address],
        });
        if let Some(proxy) = &self.install.proxy {
            let variables = proxy.variables(spec).into_iter().map(|(name, value)| (name, Value::from(value)));
            configuration["extraContainerdEnv"] = Value::Object(variables.collect());
        }
        configuration
    }

    /// Calico as the snap brings it looks for a node's address itself. What it finds first is meant among the NICs of
    /// the topology, and not on the one that leads to packages and images.
    ///
    /// For when all have joined: the first join changes `first-found` in the snap's manifest and applies that anew.
    fn calico(site: &Site<'_>) -> Result<[Step; 2], DistributionError> {
        let method = match site.spec.autodetection.as_str() {
            "first-found" => {
                let blocks: Vec<String> = site.segments()?.iter().map(ToString::to_string).collect();
                format!("cidr={}", blocks.join(","))
            }
            method => method.into(),
        };
        let variable = format!("IP_AUTODETECTION_METHOD={method}");
        let kubectl = [MICROK8S, "kubectl", "--namespace", "kube-system"];
        let set = ["set", "env", "daemonset/calico-node", "--containers", "calico-node", &variable];
        // Until it has begun, the old pods would pass for ready ones.
        let rolled_out = ["rollout", "status", "daemonset/calico-node", "--timeout", "600s"];
        Ok([
            Step::run(Stage::Cni, [&kubectl[..], &set].concat()),
            Step::run(Stage::Cni, [&kubectl[..], &rolled_out].concat()).within(JOIN + QUICK),
        ])
    }

    /// One after the other: the token of one is spent before the next one's is asked for.
    async fn join(&self, site: &Site<'_>, first: &Member, member: &Member) -> Result<(), DistributionError> {
        let ask = Step::run(Stage::Join, [MICROK8S, "add-node", "--token-ttl", "3600", "--format", "json"]);
        let answer = site.step(&first.name, &ask).await?;
        let token =
            serde_json::from_str::<Value>(&answer).ok().and_then(|answer| Some(answer["token"].as_str()?.to_string()));
        let Some(token) = token else {
            let command = ask.action.to_string();
            let failure = Failure::Answer { command, wanted: "a token", found: format!("{} bytes", answer.len()) };
            return Err(site.failed(Stage::Join, &first.name, failure).await);
        };
        let at = format!("{}:{AGENT_PORT}/{token}", first.address);
        let mut join = vec![MICROK8S, "join", &at];
        join.extend((!member.control_plane).then_some("--worker"));
        site.step(&member.name, &Step::run(Stage::Join, join).within(JOIN).hiding(token.as_str())).await?;
        site.await_member(Stage::Join, &[MICROK8S, "kubectl"], member, JOIN).await
    }
}

impl Distribution for Microk8s {
    fn name(&self) -> &'static str {
        NAME
    }

    fn fidelity(&self) -> Fidelity {
        Fidelity::Cluster
    }

    fn capabilities(&self) -> Vec<Capability> {
        let mut all = super::capabilities_of_a_cluster();
        all.push(Capability::ComponentControl);
        all
    }

    fn profile(&self) -> &'static str {
        "microk8s"
    }

    fn channel(&self) -> Option<&str> {
        Some(&self.install.channel)
    }

    fn probe_image(&self) -> &ProbeImage {
        &self.install.probe
    }

    fn carries(&self) -> Carries {
        Carries { flavours: vec![Flavour::Canonical], encapsulations: vec![Encapsulation::Vxlan], bird: false }
    }

    fn bootstrap<'a>(
        &'a self,
        nodes: &'a Nodes,
        spec: &'a ClusterSpec,
    ) -> BoxFuture<'a, Result<Bootstrapped, DistributionError>> {
        async move {
            let site = Site { distribution: NAME, nodes, spec, tell: &self.tell, evidence: EVIDENCE, undo: UNDO };
            let first = site.first()?;
            site.everywhere(|member| self.prepare(member, spec)).await?;
            for member in site.others() {
                self.join(&site, first, member).await?;
            }
            site.all(&first.name, &Self::calico(&site)?).await?;
            site.everywhere(|_| Ok(self.install.probe.import(CTR))).await?;
            let config = |_: &str| Step::run(Stage::Kubeconfig, [MICROK8S, "config"]);
            let kubeconfig = super::kubeconfig(&site, API_PORT, config).await?;
            Ok(Bootstrapped { kubeconfig, profile: self.profile(), dns: "coredns", ready_within: DOWNLOAD })
        }
        .boxed()
    }

    fn evidence<'a>(&'a self, nodes: &'a Nodes, spec: &'a ClusterSpec, tail: Tail) -> BoxFuture<'a, String> {
        super::evidence(NAME, nodes, spec, EVIDENCE, tail)
    }
}
