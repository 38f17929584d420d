//! The sandbox of a pod: its files, namespaces and network, made and unmade. What is made is written down first.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cknet_kernel::child::Child;
use cknet_kernel::ns::NetNs;
use cknet_kernel::own_root::OwnRoot;
use cknet_kernel::sandbox::{Sandbox, SandboxPlan, unpin};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use nix::sys::signal::Signal;

use super::Place;
use crate::node::cni::PodSandbox;
use crate::node::cni::portmap::HostPort;
use crate::node::kubelet::config::KubeletConfig;
use crate::node::kubelet::context::{NodeContext, runtime_id};
use crate::node::kubelet::environment::PUBLIC_PROGRAMS;
use crate::node::kubelet::files::{ClusterDns, host_name, hosts, is_host_network, resolver};
use crate::node::kubelet::images::{self, Image};
use crate::node::kubelet::journal::journal;
use crate::node::kubelet::publisher::PodKey;
use crate::node::kubelet::record::{PodRecord, RecordFile};

/// How long the network plugin may take.
const NETWORK_PATIENCE: Duration = Duration::from_secs(30);
/// How long killed processes may take to be gone.
const DEATH_PATIENCE: Duration = Duration::from_secs(2);

/// Makes the sandbox of `pod`; what was made before a failure is unmade.
pub async fn make(node: &Arc<NodeContext>, key: &PodKey, pod: &Pod) -> Result<Place, String> {
    let spec = pod.spec.clone().unwrap_or_default();
    let host_network = is_host_network(&spec);
    let record = PodRecord {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        uid: key.uid.clone(),
        sandbox: runtime_id(&[&key.uid, &Timestamp::now().to_string()]),
        host_network,
        address: None,
        ports: if host_network { Vec::new() } else { host_ports(&spec) },
        containers: Default::default(),
    };
    let folder = node.config.pod_root.join(&key.uid);
    let record = RecordFile::create(folder, record).map_err(|error| format!("cannot write the record: {error}"))?;
    let record = Arc::new(record);
    match fill(node, key, &spec, &record).await {
        Ok(place) => Ok(place),
        Err(problem) => {
            clear(node, &record).await;
            Err(problem)
        }
    }
}

async fn fill(node: &NodeContext, key: &PodKey, spec: &PodSpec, record: &Arc<RecordFile>) -> Result<Place, String> {
    let config = &node.config;
    let files = write_files(config, key, spec, record.folder(), None)
        .map_err(|error| format!("cannot write the files: {error}"))?;
    let known = record.read();
    let isolated_as = (!known.host_network).then(|| host_name(spec, &key.name));
    let root = own_root(config, spec, record.folder()).map_err(|error| format!("cannot make a folder: {error}"))?;
    let plan = SandboxPlan { isolated_as, network: None, root, binds: files };
    let sandbox = Sandbox::create(plan).await.map_err(|error| error.to_string())?;
    let mut address = config.node_ip;
    if !known.host_network {
        let path = netns_path(config, &key.uid);
        sandbox.network().pin(&path).map_err(|error| format!("cannot pin `{}`: {error}", path.display()))?;
        address = attach(node, &known, sandbox.network()).await?;
        let text = hosts(&host_name(spec, &key.name), Some(address), spec.host_aliases.as_deref().unwrap_or_default());
        // In place: the file is bound over the pod's by now.
        fs::write(record.folder().join("etc/hosts"), text)
            .map_err(|error| format!("cannot write the hosts file: {error}"))?;
    }
    record
        .change(|record| record.address = Some(address))
        .map_err(|error| format!("cannot write the record: {error}"))?;
    Ok(Place { sandbox, address: Some(address), record: Arc::clone(record) })
}

async fn attach(node: &NodeContext, record: &PodRecord, netns: &NetNs) -> Result<Ipv4Addr, String> {
    let added = node.config.network.add(plugged(record, netns));
    match tokio::time::timeout(NETWORK_PATIENCE, added).await {
        Ok(Ok(address)) => Ok(address),
        Ok(Err(problem)) => Err(format!("failed to setup network for sandbox \"{}\": {problem}", record.sandbox)),
        Err(_) => Err(format!("failed to setup network for sandbox \"{}\": no answer in 30 s", record.sandbox)),
    }
}

fn plugged<'a>(record: &'a PodRecord, netns: &'a NetNs) -> PodSandbox<'a> {
    PodSandbox {
        namespace: &record.namespace,
        name: &record.name,
        uid: &record.uid,
        container_id: &record.sandbox,
        netns,
        ports: &record.ports,
    }
}

/// The ports of the node that a pod asks for; those of init containers do not count, as with a kubelet.
fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let number = |port: i32| u16::try_from(port).ok().filter(|port| *port > 0);
    let ports = spec.containers.iter().flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let host_ip = port.host_ip.as_deref().and_then(|text| text.parse().ok());
            Some(HostPort {
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
                host_port: number(port.host_port?)?,
                container_port: number(port.container_port)?,
                host_ip: host_ip.filter(|address: &Ipv4Addr| !address.is_unspecified()),
            })
        })
        .collect()
}

/// Writes what the pod sees at other places; the answer is what is bound where.
fn write_files(
    config: &KubeletConfig,
    key: &PodKey,
    spec: &PodSpec,
    folder: &Path,
    address: Option<Ipv4Addr>,
) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let etc = folder.join("etc");
    fs::create_dir_all(&etc)?;
    let mut binds = Vec::new();
    let mut file = |name: &str, text: String| {
        let path = etc.join(name);
        fs::write(&path, text)?;
        binds.push((path, Path::new("/etc").join(name)));
        io::Result::Ok(())
    };
    let dns = ClusterDns { server: config.cluster_dns, domain: &config.cluster_domain };
    if let Some(text) = resolver(spec, &key.namespace, dns) {
        file("resolv.conf", text)?;
    }
    if !is_host_network(spec) {
        let name = host_name(spec, &key.name);
        file("hosts", hosts(&name, address, spec.host_aliases.as_deref().unwrap_or_default()))?;
        file("hostname", format!("{name}\n"))?;
    }
    Ok(binds)
}

/// The root folder of a pod with public images: there our programs are found under the names of theirs.
fn own_root(config: &KubeletConfig, spec: &PodSpec, folder: &Path) -> io::Result<Option<(OwnRoot, PathBuf)>> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let mut images = containers.filter_map(|container| images::find(container.image.as_deref()?).ok());
    if !images.any(Image::is_public) {
        return Ok(None);
    }
    let staging = folder.join("root");
    fs::create_dir_all(&staging)?;
    let mut links: Vec<PathBuf> =
        cknet_images::PROGRAMS.iter().map(|name| Path::new(PUBLIC_PROGRAMS).join(name)).collect();
    links.push(Path::new("/").join(cknet_images::AGNHOST));
    let at = Path::new(PUBLIC_PROGRAMS).join("cknet");
    Ok(Some((OwnRoot { program: config.executable.clone(), at, links }, staging)))
}

fn netns_path(config: &KubeletConfig, uid: &str) -> PathBuf {
    config.netns_root.join(format!("cni-{uid}"))
}

/// Finds the sandbox that `record` is about: by a process that still lives in it, else made again around its network,
/// which is pinned.
pub async fn reopen(node: &NodeContext, record: &Arc<RecordFile>, spec: &PodSpec) -> Result<Place, String> {
    let known = record.read();
    let address = known.address.ok_or("its sandbox was never finished")?;
    let alive =
        known.containers.values().find(|process| matches!(Child::adopt(process.pid, process.ticks), Ok(Some(_))));
    let sandbox = match alive {
        Some(process) => Sandbox::of_process(process.pid, !known.host_network),
        None => {
            let network = pinned_network(node, &known)?;
            let key = PodKey { namespace: known.namespace.clone(), name: known.name.clone(), uid: known.uid.clone() };
            let isolated_as = (!known.host_network).then(|| host_name(spec, &known.name));
            let binds = write_files(&node.config, &key, spec, record.folder(), Some(address));
            let binds = binds.map_err(|error| format!("cannot write the files: {error}"))?;
            let root = own_root(&node.config, spec, record.folder());
            let root = root.map_err(|error| format!("cannot make a folder: {error}"))?;
            Sandbox::create(SandboxPlan { isolated_as, network, root, binds }).await
        }
    };
    let sandbox = sandbox.map_err(|error| error.to_string())?;
    Ok(Place { sandbox, address: Some(address), record: Arc::clone(record) })
}

/// The network namespace that was pinned; `None` for a pod on the node's network.
fn pinned_network(node: &NodeContext, record: &PodRecord) -> Result<Option<NetNs>, String> {
    if record.host_network {
        return Ok(None);
    }
    let path = netns_path(&node.config, &record.uid);
    let open = NetNs::open(&path).map_err(|error| format!("cannot open `{}`: {error}", path.display()))?;
    // What a machine that was started again left at the path is a plain file.
    if is_apart(&open) {
        Ok(Some(open))
    } else {
        Err(format!("`{}` is no network namespace of its own", path.display()))
    }
}

/// Kills everything in the sandbox, detaches it from the network and lets its namespaces go. The logs stay. All of
/// it is tried, the first problem is told.
pub async fn tear_down(node: &NodeContext, place: &Place) -> Result<(), String> {
    let known = place.record.read();
    let sandbox = place.sandbox.clone();
    // Walks over /proc and waits for deaths: not for a thread of the runtime.
    let killed = tokio::task::spawn_blocking(move || sandbox.kill_all(DEATH_PATIENCE)).await;
    let killed = killed.map_err(io::Error::other).and_then(|killed| killed).map_err(|error| error.to_string());
    let mut detached = Ok(());
    if !known.host_network {
        detached = detach(node, &known, place.sandbox.network()).await;
    }
    let unpinned = let_go(node, &place.record);
    let forgotten = place.record.change(|record| {
        record.containers.clear();
        record.address = None;
    });
    killed.map(drop).and(detached).and(unpinned).and(forgotten.map_err(|error| error.to_string()))
}

async fn detach(node: &NodeContext, record: &PodRecord, netns: &NetNs) -> Result<(), String> {
    match tokio::time::timeout(NETWORK_PATIENCE, node.config.network.delete(plugged(record, netns))).await {
        Ok(outcome) => outcome,
        Err(_) => Err("the network plugin did not answer in 30 s".into()),
    }
}

fn let_go(node: &NodeContext, record: &RecordFile) -> Result<(), String> {
    let pin = netns_path(&node.config, &record.read().uid);
    unpin(&pin).map_err(|error| format!("cannot unpin `{}`: {error}", pin.display()))
}

/// Clears away whatever there is of the sandbox that `record` is about, finished or not, with its files.
pub async fn clear(node: &NodeContext, record: &Arc<RecordFile>) {
    let known = record.read();
    // The files of the pod do not matter any more, so an empty spec does.
    let place = if known.host_network && known.containers.is_empty() {
        None
    } else {
        reopen(node, record, &PodSpec::default()).await.ok()
    };
    let outcome = match place {
        Some(place) => tear_down(node, &place).await,
        None => clear_remains(node, record, &known).await,
    };
    if let Err(problem) = outcome {
        journal(format_args!("cannot clear pod `{}/{}` away: {problem}", known.namespace, known.name));
    }
    if let Err(error) = fs::remove_dir_all(record.folder()) {
        journal(format_args!("cannot remove `{}`: {error}", record.folder().display()));
    }
}

/// What can be done about a sandbox whose mounts cannot be entered any more.
async fn clear_remains(node: &NodeContext, record: &RecordFile, known: &PodRecord) -> Result<(), String> {
    for container in known.containers.values() {
        if let Ok(Some(child)) = Child::adopt(container.pid, container.ticks) {
            child.signal(Signal::SIGKILL).map_err(|error| error.to_string())?;
        }
    }
    let mut detached = Ok(());
    if !known.host_network {
        let netns = pinned_network(node, known).ok().flatten();
        // A plugin may want to look inside; an empty namespace is as good as one that is gone.
        let netns = netns.map_or_else(NetNs::create, Ok).map_err(|error| error.to_string())?;
        detached = detach(node, known, &netns).await;
    }
    detached.and(let_go(node, record))
}

/// Whether it is a network namespace, and not the one of the node.
fn is_apart(netns: &NetNs) -> bool {
    netns.run(|| ()).is_ok()
        && matches!((netns.identity(), NetNs::current().and_then(|own| own.identity())), (Ok(a), Ok(b)) if a != b)
}

/// Clears away what [`make`] had begun when it was given up.
pub async fn clear_unfinished(node: &NodeContext, key: &PodKey) {
    let folder = node.config.pod_root.join(&key.uid);
    let Ok(records) = crate::node::kubelet::record::load_one(&folder) else {
        return;
    };
    clear(node, &Arc::new(records)).await;
}
