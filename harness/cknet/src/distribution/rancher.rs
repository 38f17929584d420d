//! K3s and RKE2 on machines: the same programs in two packings, told by the same file of settings.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::recipe::{Cni, DOWNLOAD, FOLDER, Install, InstallError, ProbeImage, QUICK, Site, Stage, Step, Tell};
use super::{
    Bootstrapped, Carries, ClusterSpec, Distribution, DistributionError, Encapsulation, Flavour, Member, Tail,
};
use crate::event::Fidelity;
use crate::provider::Nodes;
use crate::scenario::model::Capability;

const API_PORT: u16 = 6443;

/// Longest time for a service to say that it has started: it pulls images before it does.
const START: Duration = Duration::from_secs(10 * 60);

/// What tells the two apart.
struct Packing {
    name: &'static str,
    flavour: Flavour,
    /// Where the script that installs it is had.
    script: &'static str,
    /// What that script's variables begin with.
    prefix: &'static str,
    config: &'static str,
    images: &'static str,
    kubeconfig: &'static str,
    /// Where a server takes others in.
    join_port: u16,
    server_unit: &'static str,
    agent_unit: &'static str,
    kubectl: &'static [&'static str],
    /// What asks its own containerd.
    ctr: &'static [&'static str],
    dns: &'static str,
    /// What it would start beside the network and that nobody here needs.
    disable: &'static [&'static str],
    evidence: &'static [&'static str],
    /// What takes it off a machine that goes on without it: the script that its installation leaves.
    undo: &'static [&'static str],
}

/// K3s is one file.
const PROGRAM: &str = "/usr/local/bin/k3s";

/// What takes K3s off a machine onto which we have put it as a file: the script that leaves one for it was never there.
/// Noted before its files are and after that: the last line is done first, when its unit and program are still there,
/// the first one when they are gone.
///
/// Processes of pods outlive the service. The shims that hold them are known by their path; what a shim has started is
/// the first process of a PID namespace, with which the others end.
const BY_FILE: [&[&str]; 2] = [
    &["systemctl daemon-reload", "rmdir /etc/rancher/k3s /etc/rancher 2>/dev/null || true"],
    &[
        "rm -rf --one-file-system /var/lib/rancher/k3s /var/lib/kubelet /run/k3s /run/flannel /etc/rancher/node \
         /etc/rancher/k3s/k3s.yaml /run/netns/cni-*",
        "awk '$2 ~ \"^/(run/k3s|run/netns/cni-|var/lib/rancher/k3s|var/lib/kubelet)\" {print $2}' /proc/self/mounts \
         | sort -r | xargs -r umount --lazy",
        "! command -v iptables-save >/dev/null || iptables-save | grep -v -e KUBE- -e CNI- -e [Ff][Ll][Aa][Nn][Nn][Ee][Ll] \
         | iptables-restore",
        "for link in flannel.1 cni0; do [ ! -e /sys/class/net/$link ] || ip link delete $link; done",
        "for shim in $(pgrep -f 'k3s/data/[^/]*/bin/containerd-shim'); do \
         pkill -KILL -P $shim; kill -KILL $shim 2>/dev/null; done; true",
        "systemctl disable --now k3s 2>/dev/null; systemctl disable --now k3s-agent 2>/dev/null; true",
    ],
];

const K3S: Packing = Packing {
    name: "k3s",
    flavour: Flavour::K3s,
    script: "https://get.k3s.io",
    prefix: "INSTALL_K3S",
    config: "/etc/rancher/k3s/config.yaml",
    images: "/var/lib/rancher/k3s/agent/images",
    kubeconfig: "/etc/rancher/k3s/k3s.yaml",
    join_port: 6443,
    server_unit: "k3s",
    agent_unit: "k3s-agent",
    kubectl: &[PROGRAM, "kubectl"],
    ctr: &[PROGRAM, "ctr"],
    dns: "coredns",
    disable: &["traefik", "servicelb", "metrics-server", "local-storage"],
    evidence: &["journalctl --no-pager --lines 300 --unit k3s", "journalctl --no-pager --lines 300 --unit k3s-agent"],
    undo: &[
        "[ ! -x /usr/local/bin/k3s-uninstall.sh ] || /usr/local/bin/k3s-uninstall.sh",
        "[ ! -x /usr/local/bin/k3s-agent-uninstall.sh ] || /usr/local/bin/k3s-agent-uninstall.sh",
    ],
};

/// Where RKE2 looks for what its chart of Canal is to be told.
const CANAL: &str = "/var/lib/rancher/rke2/server/manifests/rke2-canal-config.yaml";

const RKE2: Packing = Packing {
    name: "rke2",
    flavour: Flavour::Rke2,
    script: "https://get.rke2.io",
    prefix: "INSTALL_RKE2",
    config: "/etc/rancher/rke2/config.yaml",
    images: "/var/lib/rancher/rke2/agent/images",
    kubeconfig: "/etc/rancher/rke2/rke2.yaml",
    join_port: 9345,
    server_unit: "rke2-server",
    agent_unit: "rke2-agent",
    kubectl: &["/var/lib/rancher/rke2/bin/kubectl"],
    ctr: &["/var/lib/rancher/rke2/bin/ctr", "--address", "/run/k3s/containerd/containerd.sock"],
    dns: "rke2-coredns-rke2-coredns",
    disable: &["rke2-ingress-nginx", "rke2-metrics-server", "rke2-snapshot-controller"],
    evidence: &[
        "journalctl --no-pager --lines 300 --unit rke2-server",
        "journalctl --no-pager --lines 300 --unit rke2-agent",
    ],
    undo: &[
        "[ ! -x /usr/local/bin/rke2-uninstall.sh ] || /usr/local/bin/rke2-uninstall.sh",
        "[ ! -x /usr/bin/rke2-uninstall.sh ] || /usr/bin/rke2-uninstall.sh",
    ],
};

/// K3s, or RKE2.
pub struct Rancher {
    packing: &'static Packing,
    install: Install,
    tell: Tell,
    /// What a node shows to be taken in; chosen by us, so that it needs not be fetched.
    token: String,
}

impl Rancher {
    /// # Errors
    /// When something is asked for that it does not have.
    pub fn k3s(install: Install, tell: Tell, token: String) -> Result<Self, InstallError> {
        Self::new(&K3S, install, tell, token)
    }

    /// # Errors
    /// When something is asked for that it does not have.
    pub fn rke2(install: Install, tell: Tell, token: String) -> Result<Self, InstallError> {
        Self::new(&RKE2, install, tell, token)
    }

    fn new(packing: &'static Packing, install: Install, tell: Tell, token: String) -> Result<Self, InstallError> {
        if install.channel.is_empty() {
            return Err(InstallError::NoChannel { distribution: packing.name, example: "v1.33" });
        }
        if install.cni == Cni::Calico {
            return Err(InstallError::NoAlternative { distribution: packing.name });
        }
        match install.packages.len() {
            0 => {}
            // Its package is a folder of several files.
            _ if packing.flavour == Flavour::Rke2 => {
                return Err(InstallError::NoPackage { distribution: packing.name });
            }
            1 => {}
            _ => return Err(InstallError::OnePackage { distribution: packing.name }),
        }
        Ok(Self { packing, install, tell, token })
    }

    fn unit(&self, member: &Member) -> &'static str {
        if member.control_plane { self.packing.server_unit } else { self.packing.agent_unit }
    }

    /// Puts everything onto the node and starts nothing.
    fn prepare(&self, site: &Site<'_>, member: &Member) -> Result<Vec<Step>, DistributionError> {
        let (packing, spec) = (self.packing, site.spec);
        let mut steps = Vec::new();
        if let Some(proxy) = &self.install.proxy {
            let path = format!("/etc/default/{}", self.unit(member));
            steps.push(Step::put(Stage::Proxy, path, 0o600, proxy.environment_file(spec)));
        }
        let mut settings = self.settings(member, spec);
        match packing.flavour {
            Flavour::K3s => {
                if let Some(nic) = site.nic(member)? {
                    settings["flannel-iface"] = json!(nic);
                }
            }
            _ if member.control_plane => {
                steps.push(Step::put(Stage::Install, CANAL, 0o600, super::yaml(&canal(site)?)?));
            }
            _ => {}
        }
        let config = Step::put(Stage::Install, packing.config, 0o600, super::yaml(&settings)?);
        steps.push(config.undoing(self.install.packages.first().map_or(&[], |_| BY_FILE[0])));
        steps.extend(self.install.copy_images(packing.images));
        match self.install.packages.first() {
            Some(file) => steps.extend(self.by_file(file, member)),
            None => steps.extend(self.by_script(member, spec)),
        }
        Ok(steps)
    }

    /// The script of the project fetches what it installs.
    fn by_script(&self, member: &Member, spec: &ClusterSpec) -> [Step; 3] {
        let script = format!("{FOLDER}/install.sh");
        let mut variables = self.installer(member);
        variables.extend(self.install.proxy.iter().flat_map(|proxy| proxy.variables(spec)));
        let mut fetch = vec!["curl", "--fail", "--silent", "--show-error", "--location"];
        fetch.extend(["--output", &script, self.packing.script]);
        [
            Step::run(Stage::Install, ["mkdir", "-p", FOLDER]),
            Step::run(Stage::Install, fetch).within(DOWNLOAD).environment(variables.clone()),
            Step::run(Stage::Install, ["sh", &script]).within(DOWNLOAD).environment(variables),
        ]
    }

    /// The program and a unit of our own: the script would have to be fetched.
    fn by_file(&self, file: &Path, member: &Member) -> [Step; 4] {
        let (unit, role) = (self.unit(member), if member.control_plane { "server" } else { "agent" });
        let text = format!(
            "[Unit]\nAfter=network-online.target\nWants=network-online.target\n\n[Service]\nType=notify\n\
             EnvironmentFile=-/etc/default/{unit}\nExecStart={PROGRAM} {role}\nKillMode=process\nDelegate=yes\n\
             LimitNOFILE=1048576\nLimitNPROC=infinity\nLimitCORE=infinity\nTasksMax=infinity\nTimeoutStartSec=0\n\
             Restart=always\nRestartSec=5s\n\n[Install]\nWantedBy=multi-user.target\n"
        );
        [
            Step::copy(Stage::Install, file, PROGRAM),
            Step::run(Stage::Install, ["chmod", "755", PROGRAM]),
            Step::put(Stage::Install, format!("/etc/systemd/system/{unit}.service"), 0o644, text),
            Step::run(Stage::Install, ["systemctl", "daemon-reload"]).undoing(BY_FILE[1]),
        ]
    }

    /// What the script is told.
    fn installer(&self, member: &Member) -> Vec<(String, String)> {
        let variable = |name: &str, value: &str| (format!("{}_{name}", self.packing.prefix), value.to_string());
        let role = if member.control_plane { "server" } else { "agent" };
        let mut variables = match self.packing.flavour {
            Flavour::K3s => vec![variable("EXEC", role), variable("SKIP_START", "true")],
            _ => vec![variable("TYPE", role)],
        };
        variables.push(variable("CHANNEL", &self.install.channel));
        variables
    }

    fn settings(&self, member: &Member, spec: &ClusterSpec) -> Value {
        let mut settings = json!({
            "node-name": member.name,
            "node-ip": member.address,
            "token": self.token,
        });
        let first = spec.members.iter().find(|one| one.name == spec.control_plane).map(|one| one.address);
        if let Some(first) = first.filter(|_| member.name != spec.control_plane) {
            settings["server"] = json!(format!("https://{first}:{}", self.packing.join_port));
        }
        if member.control_plane {
            let service = u32::from(spec.service_cidr.network());
            settings["cluster-cidr"] = json!(spec.pod_cidr);
            settings["service-cidr"] = json!(spec.service_cidr);
            settings["cluster-dns"] = json!(std::net::Ipv4Addr::from(service + 10));
            settings["tls-san"] = json!(["127.0.0.1", member.address]);
            settings["disable"] = json!(self.packing.disable);
            if self.packing.flavour == Flavour::K3s && spec.members.iter().filter(|one| one.control_plane).count() > 1 {
                settings["cluster-init"] = json!(member.name == spec.control_plane);
            }
        }
        settings
    }

    async fn start(&self, site: &Site<'_>, stage: Stage, member: &Member) -> Result<(), DistributionError> {
        let start = ["systemctl", "enable", "--now", self.unit(member)];
        site.step(&member.name, &Step::run(stage, start).within(START)).await?;
        let kubectl = [self.packing.kubectl, &["--kubeconfig", self.packing.kubeconfig]].concat();
        site.await_member(stage, &kubectl, member, START).await
    }
}

/// Flannel takes the NIC of the default route, whatever `node-ip` says, which on machines leads to packages and images.
/// K3s is told of the right one on each node; Canal's chart has one setting for all of them.
fn canal(site: &Site<'_>) -> Result<Value, DistributionError> {
    let members = &site.spec.members;
    let nics = members.iter().map(|member| site.nic(member)).collect::<Result<BTreeSet<_>, _>>()?;
    let flannel = match nics.into_iter().collect::<Vec<_>>().as_slice() {
        [Some(one)] => json!({"iface": one}),
        // Names and addresses of interfaces are looked through for it.
        _ => {
            let addresses: Vec<String> = members.iter().map(|member| member.address.to_string()).collect();
            json!({"regexIface": format!("^({})$", addresses.join("|").replace('.', "[.]"))})
        }
    };
    Ok(json!({
        "apiVersion": "helm.cattle.io/v1",
        "kind": "HelmChartConfig",
        "metadata": {"name": "rke2-canal", "namespace": "kube-system"},
        "spec": {"valuesContent": super::yaml(&json!({"flannel": flannel}))?},
    }))
}

impl Distribution for Rancher {
    fn name(&self) -> &'static str {
        self.packing.name
    }

    fn fidelity(&self) -> Fidelity {
        Fidelity::Cluster
    }

    fn capabilities(&self) -> Vec<Capability> {
        super::capabilities_of_a_cluster()
    }

    fn profile(&self) -> &'static str {
        self.packing.name
    }

    fn channel(&self) -> Option<&str> {
        Some(&self.install.channel)
    }

    fn probe_image(&self) -> &ProbeImage {
        &self.install.probe
    }

    fn carries(&self) -> Carries {
        Carries { flavours: vec![self.packing.flavour], encapsulations: vec![Encapsulation::Vxlan], bird: false }
    }

    fn bootstrap<'a>(
        &'a self,
        nodes: &'a Nodes,
        spec: &'a ClusterSpec,
    ) -> BoxFuture<'a, Result<Bootstrapped, DistributionError>> {
        async move {
            let packing = self.packing;
            let site = Site {
                distribution: packing.name,
                nodes,
                spec,
                tell: &self.tell,
                evidence: packing.evidence,
                undo: packing.undo,
            };
            let first = site.first()?;
            site.everywhere(|member| self.prepare(&site, member)).await?;
            self.start(&site, Stage::Bootstrap, first).await?;
            for member in site.others() {
                self.start(&site, Stage::Join, member).await?;
            }
            site.everywhere(|_| Ok(self.install.probe.import(packing.ctr))).await?;
            let config = |_: &str| Step::run(Stage::Kubeconfig, ["cat", packing.kubeconfig]).within(QUICK);
            let kubeconfig = super::kubeconfig(&site, API_PORT, config).await?;
            Ok(Bootstrapped { kubeconfig, profile: self.profile(), dns: packing.dns, ready_within: DOWNLOAD })
        }
        .boxed()
    }

    fn evidence<'a>(&'a self, nodes: &'a Nodes, spec: &'a ClusterSpec, tail: Tail) -> BoxFuture<'a, String> {
        super::evidence(self.packing.name, nodes, spec, self.packing.evidence, tail)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// They are carried out when nobody looks any more.
    #[test]
    fn what_takes_it_off_is_a_line_of_sh_each() {
        for line in K3S.undo.iter().chain(RKE2.undo).chain(BY_FILE.concat().iter()) {
            let read = std::process::Command::new("sh").args(["-n", "-c", line]).status().unwrap();
            assert!(read.success() && !line.contains(['\n', '\\']), "{line}");
        }
    }
}
