//! Clusters that are there already, known by a kubeconfig and nothing else: what they are like, nodes that are reached
//! through a privileged pod on each, or by ssh where an inventory leads to them, and the removal of whatever a run has
//! made on them.
//!
//! They are somebody's: nothing that was there before is changed, and a scenario that would have to is not run.

mod pod_node;
mod rights;
mod service_cidr;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod stand_in;
mod survey;
mod sweep;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, try_join_all};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;

use crate::cluster::objects::{ObjectError, Objects};
use crate::cluster::workloads::IMAGE;
use crate::cluster::{ClusterError, connect};
use crate::distribution::recipe::ProbeImage;
use crate::distribution::{Bootstrapped, Carries, ClusterSpec, Distribution, DistributionError, Flavour};
use crate::event::Fidelity;
use crate::provider::hosts::{Hosts, Wanted};
use crate::provider::{Finding, Lease, Node, Nodes, Provider, ProviderError, Release, Topology};
use crate::scenario::Premises;
use crate::scenario::model::Capability;

use self::pod_node::PodNode;
pub use self::survey::SurveyError;

/// Longest time to remove everything from a cluster and to give its hosts back: namespaces end when their pods have, and
/// what was closed on hosts is opened again.
const TAKE_DOWN: Duration = Duration::from_secs(10 * 60);

/// The name of the provider.
pub const NAME: &str = "existing";

/// The label of everything that a run makes on such a cluster; its value is the run's id.
pub const MARK: &str = "cknet.dev/run";

/// Longest time for everything to be ready that was ready before.
const READY: Duration = Duration::from_secs(60);

/// A cluster that is there, as it was found.
pub struct Present {
    /// With the chosen context, and complete in itself.
    kubeconfig: String,
    client: kube::Client,
    found: survey::Found,
    premises: Arc<Premises>,
    probe: ProbeImage,
}

impl Present {
    /// Looks at the cluster of a kubeconfig, or of one of its contexts.
    ///
    /// # Errors
    /// When it cannot be reached, or is nothing that scenarios can be carried out on.
    pub async fn open(path: &Path, context: Option<&str>) -> Result<Self, SurveyError> {
        let shown = || path.display().to_string();
        let unreadable = |error: &dyn std::fmt::Display| SurveyError::Kubeconfig(shown(), error.to_string());
        let mut config = Kubeconfig::read_from(path).map_err(|error| unreadable(&error))?;
        if let Some(context) = context {
            config.current_context = Some(context.to_string());
        }
        // Found out here and with a better message than that of a client which is told nothing.
        let named = config.current_context.clone().unwrap_or_default();
        if !config.contexts.iter().any(|context| context.name == named) {
            let known: Vec<&str> = config.contexts.iter().map(|context| context.name.as_str()).collect();
            return Err(SurveyError::Context { named, known: known.join(", ") });
        }
        let options = KubeConfigOptions::default();
        kube::Config::from_custom_kubeconfig(config.clone(), &options).await.map_err(|error| unreadable(&error))?;
        let kubeconfig = serde_saphyr::to_string(&config).map_err(|error| unreadable(&error))?;
        let client = connect(&kubeconfig).await.map_err(|error| unreadable(&error))?;
        let found = survey::survey(&client).await?;
        let premises = Arc::new(found.premises.clone());
        Ok(Self { kubeconfig, client, found, premises, probe: ProbeImage::There })
    }

    /// The same with nodes that pull the probe image by a name, if one is given.
    #[must_use]
    pub fn pulling(self, name: Option<&str>) -> Self {
        let probe = name.map_or(ProbeImage::There, |name| ProbeImage::Pulled(name.into()));
        Self { probe, ..self }
    }

    /// What scenarios are read for.
    pub fn premises(&self) -> Arc<Premises> {
        self.premises.clone()
    }
}

impl Distribution for Present {
    fn name(&self) -> &'static str {
        self.found.distribution
    }

    fn fidelity(&self) -> Fidelity {
        self.found.fidelity
    }

    fn capabilities(&self) -> Vec<Capability> {
        vec![Capability::Overlay, Capability::NetworkPolicy, Capability::Services, Capability::Dns]
            .into_iter()
            // What it was set up with; a scenario with other CIDRs is not run on it.
            .chain([Capability::CustomCidrs])
            .collect()
    }

    fn profile(&self) -> &'static str {
        self.found.profile
    }

    fn channel(&self) -> Option<&str> {
        Some(&self.found.version)
    }

    fn probe_image(&self) -> &ProbeImage {
        &self.probe
    }

    fn carries(&self) -> Carries {
        let encapsulation = crate::plan::encapsulation(self.premises.cluster.encapsulation);
        Carries { flavours: vec![Flavour::Canonical], encapsulations: vec![encapsulation], bird: false }
    }

    fn premises(&self) -> Option<&Premises> {
        Some(&self.premises)
    }

    fn bootstrap<'a>(
        &'a self,
        _: &'a Nodes,
        _: &'a ClusterSpec,
    ) -> BoxFuture<'a, Result<Bootstrapped, DistributionError>> {
        let bootstrapped = Bootstrapped {
            kubeconfig: self.kubeconfig.clone(),
            profile: self.found.profile,
            dns: self.found.dns,
            ready_within: READY,
        };
        futures::future::ready(Ok(bootstrapped)).boxed()
    }
}

/// How its nodes are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Pods,
    Ssh,
}

/// The provider: the nodes of such a cluster, through pods or by ssh.
#[derive(Clone)]
pub struct Existing {
    /// Absent where only what is left has to be removed.
    present: Option<Arc<Present>>,
    /// Those that its nodes are, where they are known.
    hosts: Hosts,
    way: Way,
    run: String,
    folder: PathBuf,
}

impl Existing {
    pub fn new(present: Option<Arc<Present>>, hosts: Hosts, run: &str, folder: &Path) -> Self {
        Self { present, hosts, way: Way::Pods, run: run.into(), folder: folder.into() }
    }

    /// The same with nodes that are hosts of an inventory.
    #[must_use]
    pub fn by_ssh(self) -> Self {
        Self { way: Way::Ssh, ..self }
    }

    /// Where the kubeconfig lies until everything that was made on the cluster is gone from it.
    fn credentials(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.existing.yaml"))
    }

    /// The namespace of our own pods.
    fn namespace(&self, key: &str) -> String {
        format!("cknet-{}-{key}", self.run)
    }

    async fn make(&self, key: &str, topology: &Topology) -> Result<Nodes, String> {
        let present = self.present.as_ref().ok_or("no kubeconfig is given")?;
        let path = self.credentials(key);
        crate::private_file::write(&path, &present.kubeconfig)
            .map_err(|error| format!("cannot write `{}`: {error}", path.display()))?;
        let objects = Objects::new(present.client.clone(), self.mark());
        let namespace = self.namespace(key);
        let text = |error: ObjectError| error.to_string();
        // Pod Security Admission: what these pods are is nothing for ordinary namespaces.
        let labels = json!({"pod-security.kubernetes.io/enforce": "privileged"});
        let own = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}});
        objects.apply(&own).await.map_err(text)?;
        let members = seats(&present.premises, topology)?;
        if self.way == Way::Ssh {
            let wanted = |spec: &crate::provider::NodeSpec| {
                let registered =
                    members.get(&spec.name).cloned().ok_or_else(|| format!("no node is `{}`", spec.name))?;
                let boot = present.found.boots.get(&registered).cloned().unwrap_or_default();
                Ok(Wanted { spec: spec.clone(), registered, boot })
            };
            let wanted = topology.nodes.iter().map(wanted).collect::<Result<Vec<_>, String>>()?;
            return self.hosts.as_they_are(key, &wanted).await;
        }
        let objects = &objects;
        let image = present.probe.pulled().unwrap_or(IMAGE);
        let nodes = topology.nodes.iter().map(|spec| {
            let (client, namespace) = (present.client.clone(), namespace.clone());
            let member = members.get(&spec.name).cloned().ok_or_else(|| format!("no node is `{}`", spec.name));
            async move {
                let node = PodNode::start(objects, client, &namespace, image, spec, &member?).await?;
                Ok::<_, String>((spec.name.clone(), Arc::new(node) as Arc<dyn Node>))
            }
        });
        Ok(Nodes { by_name: try_join_all(nodes).await?.into_iter().collect() })
    }

    async fn remove(&self, key: &str) -> Result<(), ProviderError> {
        let failed = |doing: &str, cause: String| ProviderError::Failed { provider: NAME, doing: doing.into(), cause };
        let path = self.credentials(key);
        let kubeconfig = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            // Nothing is made before it is written.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed("read its kubeconfig", error.to_string())),
        };
        // First, because what is closed on a node may be the way to the cluster.
        let given_back = self.hosts.give_back(key).await;
        // A host that does not answer is no reason to leave things on the cluster.
        let swept = async {
            let reached: Result<_, ClusterError> = connect(&kubeconfig).await;
            let client = reached.map_err(|error| failed("reach the cluster", error.to_string()))?;
            sweep::sweep(&client, &self.run).await.map_err(|cause| failed("remove what was made on it", cause))
        };
        let swept = swept.await;
        given_back.and(swept)?;
        std::fs::remove_file(&path).map_err(|error| failed("remove its kubeconfig", error.to_string()))
    }
}

/// Which node of the cluster each node of a topology is.
fn seats(premises: &Premises, topology: &Topology) -> Result<BTreeMap<String, String>, String> {
    // Topologies are planned with the addresses that the cluster's nodes have.
    let named = topology.nodes.iter().map(|node| {
        let address = node.nics.first().map(|nic| std::net::IpAddr::V4(nic.address.addr()));
        let known = premises.nodes.iter().find(|known| Some(known.address) == address);
        let known = known.ok_or_else(|| format!("no node of the cluster can be `{}`", node.name))?;
        Ok((node.name.clone(), known.name.clone()))
    });
    named.collect()
}

impl Provider for Existing {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Vec<Capability> {
        match self.way {
            Way::Pods => Vec::new(),
            // Interfaces and routes carry the cluster, and ssh: nobody could undo what goes wrong with them.
            Way::Ssh => vec![Capability::NodeFirewall, Capability::NodeCommands],
        }
    }

    fn take_down(&self) -> Duration {
        TAKE_DOWN
    }

    fn gives_machines(&self) -> bool {
        false
    }

    fn preflight(&self) -> Vec<Finding> {
        Vec::new()
    }

    fn mark(&self) -> Option<(String, String)> {
        Some((MARK.into(), self.run.clone()))
    }

    fn acquire<'a>(&'a self, key: &'a str, topology: &'a Topology) -> BoxFuture<'a, Result<Lease, ProviderError>> {
        async move {
            let made = self.make(key, topology).await;
            let nodes =
                made.map_err(|cause| ProviderError::Failed { provider: NAME, doing: "reach its nodes".into(), cause })?;
            Ok(Lease { nodes, release: Box::new(Made { provider: self.clone(), key: key.into() }) })
        }
        .boxed()
    }

    fn enter(&self, key: &str, node: &str, argv: &[String]) -> Option<std::process::Command> {
        self.hosts.enter(key, node, argv)
    }

    fn reclaim<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), ProviderError>> {
        self.remove(key).boxed()
    }
}

/// Pods that are there.
struct Made {
    provider: Existing,
    key: String,
}

impl Release for Made {
    fn release(self: Box<Self>) -> BoxFuture<'static, Result<(), ProviderError>> {
        async move { self.provider.remove(&self.key).await }.boxed()
    }

    fn holder(&self) -> Option<u32> {
        None
    }
}
