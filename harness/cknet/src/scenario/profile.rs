//! Owns CNI profiles: what a CNI calls its device, port, pods and files, so that a scenario
//! need not say it.
//! Must not know which distribution uses which profile.

use std::path::Path;
use std::sync::Arc;

use super::declared::Declared;
use super::fixtures::{Code, Manifests, read_source};
use super::model::{PortNumber, PortProto};
use super::problem::{Problem, Problems};
use super::read::{Read, Reading, record};
use super::reference::{Fact, Facts};
use super::source::Source;
use super::tree;

/// The profiles that are compiled in, by name.
const EMBEDDED: [(&str, &str); 7] = [
    ("reference", include_str!("../../../../fixtures/profiles/reference.yaml")),
    ("calico", include_str!("../../../../fixtures/profiles/calico.yaml")),
    ("cilium", include_str!("../../../../fixtures/profiles/cilium.yaml")),
    ("kubeadm", include_str!("../../../../fixtures/profiles/kubeadm.yaml")),
    ("microk8s", include_str!("../../../../fixtures/profiles/microk8s.yaml")),
    ("k3s", include_str!("../../../../fixtures/profiles/k3s.yaml")),
    ("rke2", include_str!("../../../../fixtures/profiles/rke2.yaml")),
];

record! {
    "a CNI profile";
    /// The names and numbers of one CNI, referred to as `${cni.KEY}`.
    pub struct Profile {
        /// Name of the profile.
        pub name: String,
        /// Device that carries pod traffic between nodes, `${cni.overlayDevice}`.
        pub overlay_device: String,
        /// UDP port of the overlay, `${cni.overlayPort}`.
        pub overlay_port: PortNumber,
        /// VXLAN network identifier, where the CNI has one fixed value, `${cni.overlayVni}`.
        pub overlay_vni: Option<u32>,
        /// Namespace of the CNI's pods, `${cni.namespace}`.
        pub namespace: String,
        /// DaemonSet of the CNI's node pods, where it has any, `${cni.daemonSet}`.
        pub daemon_set: Option<String>,
        /// Deployments of the CNI without which a cluster is not ready.
        #[schemars(default)]
        pub deployments: Vec<String> = Default::default(),
        /// Label selector of the CNI's node pods, where it has any, `${cni.nodeSelector}`.
        pub node_selector: Option<String>,
        /// What the host's end of each pod's veth starts with, `${cni.workloadDevicePrefix}`.
        pub workload_device_prefix: String,
        /// File in /etc/cni/net.d, `${cni.configFile}`.
        pub config_file: String,
        /// The CNI whose way it is where specifications leave things open: `calico`, or nothing.
        pub ways_of: Option<String>,
        /// Whether pods of a node have a block that the others reach through its address on the overlay's device,
        /// `${node.NAME.podBlock}` and `${node.NAME.tunnelAddress}`.
        #[schemars(default)]
        pub tunnel_addresses: bool = true,
        /// The IP pool that exists from the start, where there is one, `${cni.defaultPool}`.
        pub default_pool: Option<String>,
    }
}

impl Profile {
    /// The profile of that name which is compiled in.
    #[must_use]
    pub fn embedded(name: &str) -> Option<Result<Self, Problems>> {
        let (name, text) = EMBEDDED.iter().find(|(known, _)| *known == name)?;
        let source = Source::new(format!("fixtures/profiles/{name}.yaml"), *text);
        Some(Self::from_source(source))
    }

    /// The one that scenarios are written for: it has all that can be referred to.
    #[must_use]
    pub fn reference() -> Option<Self> {
        Self::embedded("reference")?.ok()
    }

    /// The names of the profiles that are compiled in.
    pub fn embedded_names() -> impl Iterator<Item = &'static str> {
        EMBEDDED.iter().map(|(name, _)| *name)
    }

    /// Reads a profile from a file.
    ///
    /// # Errors
    /// Everything that is wrong with the file.
    pub fn open(path: &Path) -> Result<Self, Problems> {
        Self::from_source(read_source(path)?)
    }

    fn from_source(source: Source) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let root = tree::parse_one(source.text(), &mut problems);
        let profile = root.as_ref().and_then(|root| {
            let mut reading = Reading {
                source: &source,
                root,
                declared: Declared::default(),
                facts: Facts::default(),
                manifests: &Manifests::default(),
                code: &Code::default(),
                premises: None,
                problems: std::mem::take(&mut problems),
                absent: Vec::new(),
            };
            let profile = Self::read(root, &mut reading);
            problems = reading.problems;
            profile
        });
        match profile {
            Some(profile) if problems.is_empty() => Ok(profile),
            _ => {
                if problems.is_empty() {
                    problems.push(Problem::whole("the file is empty"));
                }
                Err(Problems::of(Arc::new(source), problems))
            }
        }
    }

    pub(super) fn teach(&self, facts: &mut Facts) {
        let mut text = |key: &str, value: &str| {
            facts.learn(format!("cni.{key}"), Fact::Text(value.to_owned()));
        };
        text("overlayDevice", &self.overlay_device);
        text("namespace", &self.namespace);
        text("workloadDevicePrefix", &self.workload_device_prefix);
        text("configFile", &self.config_file);
        let missing = |fact: Option<Fact>, why| fact.unwrap_or(Fact::None(why));
        facts.learn("cni.overlayPort", Fact::Number(self.overlay_port.get().into()));
        facts.learn("cni.overlayVni", missing(self.overlay_vni.map(Fact::Number), "this CNI has no fixed VNI"));
        facts.no_tunnels = (!self.tunnel_addresses).then_some("this CNI's nodes have no tunnel addresses");
        let set = |name: &Option<String>| missing(name.clone().map(Fact::Text), "this CNI runs in no pods");
        facts.learn("cni.daemonSet", set(&self.daemon_set));
        facts.learn("cni.nodeSelector", set(&self.node_selector));
        facts.learn(
            "cni.defaultPool",
            missing(self.default_pool.clone().map(Fact::Text), "this CNI has no IP pool from the start"),
        );
    }

    /// The overlay's port as a firewall names it.
    #[must_use]
    pub fn overlay_port_proto(&self) -> PortProto {
        PortProto::udp(self.overlay_port)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn each_embedded_profile_is_sound() {
        for name in Profile::embedded_names() {
            let profile = Profile::embedded(name).unwrap().unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(profile.name, name);
        }
        assert!(Profile::embedded("flannel").is_none());
    }

    #[test]
    fn the_reference_profile_has_calicos_numbers() {
        let profile = Profile::embedded("reference").unwrap().unwrap();
        assert_eq!(profile.overlay_port_proto().to_string(), "4789/udp");
        assert_eq!(profile.overlay_vni, Some(4096));
        assert_eq!(profile.overlay_device, "vxlan.calico");
    }
}
