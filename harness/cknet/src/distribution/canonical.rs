//! Canonical Kubernetes as the `k8s` snap on machines: what each node gets and which commands run there.
//!
//! Everything is said by the bootstrap file and by `--address`: with `--file`, a feature that is not named is off, and
//! an unknown key is an error, so that the file follows the version.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use ipnet::Ipv4Net;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::recipe::{
    Cni, DOWNLOAD, FOLDER, Failure, Install, InstallError, ProbeImage, Site, Stage, Step, Tell, Version, of_a_snap,
    within,
};
use super::snap;
use super::{
    Bootstrapped, Carries, ClusterSpec, Distribution, DistributionError, Encapsulation, Flavour, Member, Tail,
};
use crate::event::Fidelity;
use crate::provider::Nodes;
use crate::scenario::model::Capability;

const NAME: &str = "canonical";
const K8S: &str = "/snap/bin/k8s";
const API_PORT: u16 = 6443;

/// What asks the snap's own containerd.
const CTR: &[&str] = &["/snap/k8s/current/bin/ctr", "--address", "/run/containerd/containerd.sock"];

/// The snap takes longer than its own 90 s where images have to be pulled.
const TIMEOUT: &str = "10m";

/// A little more, so that it is the snap that gives up and says why.
const LONGER_THAN_TIMEOUT: Duration = Duration::from_secs(11 * 60);

/// How often a node is given a fresh token.
const TOKENS: u32 = 3;

/// Between two of them. What a token is looked up in reaches the nodes of the cluster one after the other, and nothing
/// tells when it has; tokens that follow each other at once find it the same.
const NEXT_TOKEN: Duration = Duration::from_secs(10);

/// What `join-cluster` says when the token is not known yet, not known any more, or too old: another one may do.
const WITH_ANOTHER_TOKEN: [&str; 3] = ["CoreTokenRecord not found", "token has expired", "invalid token"];

/// The first version whose kube-proxy can be switched, and has to be.
const KUBE_PROXY_KEY: Version = Version::new(1, 36);

/// Calico's resource definitions, printed by the operator that is pinned there.
const CALICO_DEFINITIONS: &str = include_str!("../../../../fixtures/manifests/calico/definitions.yaml");

/// The operator itself.
const CALICO_OPERATOR: &str = include_str!("../../../../fixtures/manifests/calico/operator.yaml");

/// What takes it off a machine that goes on without it.
const UNDO: &[&str] = &["! snap list k8s >/dev/null 2>&1 || snap remove --purge k8s"];

const EVIDENCE: &[&str] = &[
    "snap changes",
    "journalctl --no-pager --lines 300 --unit snap.k8s.k8sd",
    "journalctl --no-pager --lines 300 --unit snap.k8s.kubelet",
    "journalctl --no-pager --lines 300 --unit snap.k8s.containerd",
    "/snap/bin/k8s status",
    "/snap/bin/k8s kubectl get pods --all-namespaces --output wide",
];

/// The `k8s` snap.
pub struct Canonical {
    install: Install,
    version: Version,
    tell: Tell,
}

/// The version of a channel of the snap that this recipe was written for.
pub fn version(channel: &str) -> Result<Version, InstallError> {
    let example = "1.36-classic/stable";
    let version = within(channel, NAME, example, Version::new(1, 32), Version::new(1, 36))?;
    of_a_snap(channel, NAME, example)?;
    Ok(version)
}

impl Canonical {
    /// # Errors
    /// When the channel is none that this recipe was written for.
    pub fn new(install: Install, tell: Tell) -> Result<Self, InstallError> {
        let version = version(&install.channel)?;
        Ok(Self { install, version, tell })
    }

    /// Steps before the node is part of anything.
    fn prepare(&self, member: &Member, spec: &ClusterSpec) -> Vec<Step> {
        let mut steps = vec![
            snap::seeded(),
            snap::named(&member.name),
            Step::run(Stage::Preflight, ["test", "!", "-e", "/run/containerd"])
                .means("the snap does not run beside another containerd: /run/containerd is there"),
            Step::run(Stage::Preflight, ["test", "!", "-e", "/snap/microk8s"])
                .means("the snap does not run beside microk8s"),
        ];
        if let Some(proxy) = &self.install.proxy {
            steps.extend(snap::proxy(proxy));
            let path = "/etc/systemd/system/snap.k8s.containerd.service.d/http-proxy.conf";
            steps.push(Step::put(Stage::Proxy, path, 0o644, proxy.drop_in(spec)));
        }
        steps.extend(snap::install("k8s", &self.install, Stage::Install));
        steps.extend(self.install.copy_images("/var/snap/k8s/common/images"));
        steps
    }

    /// The bootstrap file, whole.
    fn bootstrap_file(&self, spec: &ClusterSpec, first: &Member) -> Value {
        let stock = self.install.cni == Cni::Stock;
        let mut network = json!({"enabled": stock});
        if self.version >= KUBE_PROXY_KEY {
            // Cilium does its work; with the network off there is nobody else.
            network["kube-proxy-enabled"] = json!(!stock);
        }
        let off = json!({"enabled": false});
        json!({
            "cluster-config": {
                "network": network,
                "dns": {"enabled": true, "cluster-domain": "cluster.local"},
                "load-balancer": off,
                "gateway": off,
                "ingress": off,
                "local-storage": off,
                "metrics-server": off,
            },
            "pod-cidr": spec.pod_cidr,
            "service-cidr": spec.service_cidr,
            "secure-port": API_PORT,
            // Clients come over a forwarded port of this machine.
            "extra-sans": ["127.0.0.1", first.address],
        })
    }

    async fn bootstrap_first(&self, site: &Site<'_>, first: &Member) -> Result<(), DistributionError> {
        let file = format!("{FOLDER}/bootstrap.yaml");
        let address = site.segment(first)?.to_string();
        let content = super::yaml(&self.bootstrap_file(site.spec, first))?;
        let argv = [K8S, "bootstrap", "--file", &file, "--address", &address, "--timeout", TIMEOUT];
        let steps = [
            Step::put(Stage::Bootstrap, &file, 0o600, content),
            Step::run(Stage::Bootstrap, argv)
                .within(LONGER_THAN_TIMEOUT)
                .means("a failed bootstrap leaves state behind"),
        ];
        site.all(&first.name, &steps).await?;
        let ready = [K8S, "kubectl", "get", "--raw", "/readyz"];
        site.await_success(Stage::Bootstrap, &first.name, &ready, "the API server is ready", DOWNLOAD).await
    }

    /// The operator from pinned manifests, and what it shall install; the operator does the rest. Its resource
    /// definitions come first, because it does not start without them.
    fn calico(site: &Site<'_>) -> Result<Vec<Step>, DistributionError> {
        let file = |name: &str| format!("{FOLDER}/calico-{name}.yaml");
        let put = |name: &str, content: String| Step::put(Stage::Cni, file(name), 0o600, content);
        let kubectl = |arguments: &[&str]| Step::run(Stage::Cni, [&[K8S, "kubectl"], arguments].concat());
        let apply = |path: &str| kubectl(&["apply", "--server-side", "--filename", path]);
        let (printer, definitions) = (file("definitions-printer"), file("definitions"));
        let printed = "--for=jsonpath={.status.phase}=Succeeded";
        let logs = format!("{K8S} kubectl --namespace tigera-operator logs pod/definitions > {definitions}");
        Ok(vec![
            put("definitions-printer", CALICO_DEFINITIONS.into()),
            apply(&printer),
            kubectl(&["--namespace", "tigera-operator", "wait", "pod/definitions", printed, "--timeout", TIMEOUT])
                .within(LONGER_THAN_TIMEOUT)
                .means("the operator's image cannot be had, or does not run: `--images` brings it as a file"),
            Step::run(Stage::Cni, ["sh", "-c", &logs]),
            apply(&definitions),
            kubectl(&["wait", "--for=condition=Established", "--timeout=50s", "--filename", &definitions]),
            put("operator", CALICO_OPERATOR.into()),
            apply(&file("operator")),
            put("installation", super::yaml(&calico_installation(site.spec, &site.segments()?))?),
            apply(&file("installation")),
        ])
    }

    /// One node after the other: nodes that join at the same time fail. A token may be refused for reasons that pass.
    async fn join(&self, site: &Site<'_>, first: &Member, member: &Member) -> Result<(), DistributionError> {
        let address = site.segment(member)?.to_string();
        let mut ask = vec![K8S, "get-join-token", &member.name];
        ask.extend((!member.control_plane).then_some("--worker"));
        let until = Instant::now() + LONGER_THAN_TIMEOUT;
        let mut attempts = 0;
        let last = loop {
            attempts += 1;
            let token = site.step(&first.name, &Step::run(Stage::Join, ask.iter().copied())).await?;
            let Some(token) = single_word(&token) else {
                let failure = Failure::Answer {
                    command: ask.join(" "),
                    wanted: "a token",
                    found: format!("{} words", token.split_whitespace().count()),
                };
                return Err(site.failed(Stage::Join, &first.name, failure).await);
            };
            let argv = [K8S, "join-cluster", token, "--address", &address, "--timeout", TIMEOUT];
            let join = Step::run(Stage::Join, argv).within(LONGER_THAN_TIMEOUT).hiding(token);
            let said = match site.attempt(&member.name, &join).await? {
                // The next one may join when the cluster knows this one.
                Ok(_) => return site.await_member(Stage::Join, &[K8S, "kubectl"], member, DOWNLOAD).await,
                Err(Failure::Command { said, .. }) if WITH_ANOTHER_TOKEN.iter().any(|words| said.contains(words)) => {
                    said
                }
                Err(failure) => return Err(site.failed(Stage::Join, &member.name, failure).await),
            };
            if attempts == TOKENS || Instant::now() + NEXT_TOKEN > until {
                break said;
            }
            tokio::time::sleep(NEXT_TOKEN).await;
        };
        let failure = Failure::TokensRefused { attempts, last };
        Err(site.failed(Stage::Join, &member.name, failure).await)
    }
}

fn single_word(text: &str) -> Option<&str> {
    let mut words = text.split_whitespace();
    words.next().filter(|_| words.next().is_none())
}

/// What the operator shall install.
fn calico_installation(spec: &ClusterSpec, segments: &BTreeSet<Ipv4Net>) -> Value {
    json!({
        "apiVersion": "operator.tigera.io/v1",
        "kind": "Installation",
        "metadata": {"name": "default"},
        "spec": {
            "variant": "Calico",
            "registry": "ghcr.io/canonical/k8s-snap/",
            "serviceCIDRs": [spec.service_cidr],
            "calicoNetwork": {
                "bgp": if spec.bird { "Enabled" } else { "Disabled" },
                "ipPools": [{
                    "name": "ipv4-ippool",
                    "cidr": spec.pod_cidr,
                    "blockSize": spec.block_size,
                    "encapsulation": match spec.encapsulation {
                        Encapsulation::Vxlan => "VXLAN",
                        Encapsulation::VxlanCrossSubnet => "VXLANCrossSubnet",
                        Encapsulation::None => "None",
                    },
                }],
                "nodeAddressAutodetectionV4": autodetection(&spec.autodetection, segments),
            },
        },
    })
}

/// The operator's words for Calico's `IP_AUTODETECTION_METHOD`, of which it accepts one.
///
/// What is found first is meant among the NICs of the topology. On machines there is one before them that leads to
/// packages and images, with the same address on each machine of some providers: nodes would take it, and not reach
/// each other. The address of a node is that of its first NIC in the topology, so that its segment says the same.
fn autodetection(method: &str, segments: &BTreeSet<Ipv4Net>) -> Value {
    match method.split_once('=') {
        Some(("interface", pattern)) => json!({"interface": pattern}),
        Some(("skip-interface", pattern)) => json!({"skipInterface": pattern}),
        Some(("can-reach", address)) => json!({"canReach": address}),
        Some(("cidr", block)) => json!({"cidrs": [block]}),
        _ if method == "kubernetes-internal-ip" => json!({"kubernetes": "NodeInternalIP"}),
        _ => json!({"cidrs": segments}),
    }
}

impl Distribution for Canonical {
    fn name(&self) -> &'static str {
        NAME
    }

    fn fidelity(&self) -> Fidelity {
        Fidelity::Cluster
    }

    fn capabilities(&self) -> Vec<Capability> {
        let mut all = super::capabilities_of_a_cluster();
        // Calico's agent is a DaemonSet of its own, which its operator lets go of when told to (`run::steps`); Cilium is
        // also what services go through.
        all.extend((self.install.cni == Cni::Calico).then_some(Capability::ComponentControl));
        all
    }

    fn profile(&self) -> &'static str {
        match self.install.cni {
            Cni::Stock => "cilium",
            Cni::Calico => "calico",
        }
    }

    fn channel(&self) -> Option<&str> {
        Some(&self.install.channel)
    }

    fn probe_image(&self) -> &ProbeImage {
        &self.install.probe
    }

    fn carries(&self) -> Carries {
        let (encapsulations, bird) = match self.install.cni {
            Cni::Stock => (vec![Encapsulation::Vxlan], false),
            Cni::Calico => (vec![Encapsulation::Vxlan, Encapsulation::VxlanCrossSubnet, Encapsulation::None], true),
        };
        Carries { flavours: vec![Flavour::Canonical], encapsulations, bird }
    }

    fn bootstrap<'a>(
        &'a self,
        nodes: &'a Nodes,
        spec: &'a ClusterSpec,
    ) -> BoxFuture<'a, Result<Bootstrapped, DistributionError>> {
        async move {
            let site = Site { distribution: NAME, nodes, spec, tell: &self.tell, evidence: EVIDENCE, undo: UNDO };
            let first = site.first()?;
            site.everywhere(|member| Ok(self.prepare(member, spec))).await?;
            self.bootstrap_first(&site, first).await?;
            if self.install.cni == Cni::Calico {
                site.all(&first.name, &Self::calico(&site)?).await?;
            }
            for member in site.others() {
                self.join(&site, first, member).await?;
            }
            site.everywhere(|_| Ok(self.install.probe.import(CTR))).await?;
            let config = |server: &str| Step::run(Stage::Kubeconfig, [K8S, "config", "--server", server]);
            let kubeconfig = super::kubeconfig(&site, API_PORT, config).await?;
            Ok(Bootstrapped { kubeconfig, profile: self.profile(), dns: "coredns", ready_within: DOWNLOAD })
        }
        .boxed()
    }

    fn evidence<'a>(&'a self, nodes: &'a Nodes, spec: &'a ClusterSpec, tail: Tail) -> BoxFuture<'a, String> {
        super::evidence(NAME, nodes, spec, EVIDENCE, tail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields of `NodeAddressAutodetection` in operator.tigera.io/v1 that v1.34 knows, one at a time.
    #[test]
    fn each_way_to_find_an_address_has_a_word_of_the_operators() {
        let segments = BTreeSet::from([Ipv4Net::new_assert([192, 168, 70, 0].into(), 24)]);
        for (method, wanted) in [
            ("first-found", json!({"cidrs": ["192.168.70.0/24"]})),
            ("kubernetes-internal-ip", json!({"kubernetes": "NodeInternalIP"})),
            ("interface=eth1|eth2", json!({"interface": "eth1|eth2"})),
            ("skip-interface=eth0", json!({"skipInterface": "eth0"})),
            ("can-reach=192.168.70.1", json!({"canReach": "192.168.70.1"})),
            ("cidr=192.168.70.0/24", json!({"cidrs": ["192.168.70.0/24"]})),
        ] {
            assert_eq!(autodetection(method, &segments), wanted, "{method}");
        }
    }
}
