//! Steps: what a scenario does to the cluster and its nodes. A step returns when it has been done; whether its effect
//! can be seen is the business of expectations.

use std::time::Duration;

use kube::api::Patch;
use serde_json::{Value, json};

use super::stage::Stage;
use super::{firewalld, proxy, registry};
use crate::cluster::objects::Coordinates;
use crate::cluster::workloads;
use crate::provider::link::NewVxlan;
use crate::provider::{Exit, Invocation};
use crate::scenario::model::{
    Action, Bird, Component, Direction, FdbChange, Firewall, FirewallChange, InstallCni, LinkChange, LinkState,
    Manifest, NewLink, NodeRun, NodeSet, PatchType, Place, Relabel, RouteChange, WorkloadChange,
};

/// Longest time for a command on a node.
const COMMAND: Duration = Duration::from_secs(30);

/// The label by which a stopped component's DaemonSet is kept off a node.
const STOPPED: &str = "cknet.dev/stopped";

/// What Tigera's operator looks for on everything that it makes before it changes that: with it, the thing is left as
/// it is (`utils.IgnoreObject` there). It says that it is for trying things out, and this is that.
const LEFT_ALONE: &str = "unsupported.operator.tigera.io/ignore";

type Done = Result<(), String>;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// What a step does, in words.
pub fn describe(action: &Action) -> String {
    let objects = |manifest: &Manifest| match &manifest.file {
        Some(file) => file.clone(),
        None => manifest
            .objects
            .iter()
            .map(|object| format!("{} {}", object.kind(), object.name()))
            .collect::<Vec<_>>()
            .join(", "),
    };
    match action {
        Action::Firewalld(firewalld) => firewalld::describe(firewalld),
        Action::Apply(manifest) => format!("apply {}", objects(manifest)),
        Action::Patch(patch) => format!("patch {} {}", patch.kind, patch.name),
        Action::Delete(manifest) => format!("delete {}", objects(manifest)),
        Action::Firewall(firewall) => {
            firewall_commands(firewall, &[]).iter().map(|argv| argv[1..].join(" ")).collect::<Vec<_>>().join(", ")
        }
        Action::NodeRun(run) => {
            format!("run on {}: {}", run.node, run.argv.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        }
        Action::StopComponent(component) => format!("stop {}", component.component),
        Action::StartComponent(component) => format!("start {}", component.component),
        Action::Route(change) => {
            let verb = if change.present { "set" } else { "remove" };
            let mut text = format!("{verb} the route of {} to {}", change.node, change.destination);
            text.extend(change.via.as_ref().map(|via| format!(" via {via}")));
            text.extend(change.dev.as_ref().map(|dev| format!(" dev {dev}")));
            text
        }
        Action::Fdb(change) => {
            let entries = format!("entries of {} of {} that lead to {}", change.device, change.node, change.leading_to);
            match &change.to {
                Some(to) => format!("forwarding {entries} lead to {to}"),
                None => format!("remove forwarding {entries}"),
            }
        }
        Action::Link(link) => match &link.change {
            LinkState::Add(new) => {
                let vni = new.vni.map_or("in metadata mode".to_string(), |vni| format!("with VNI {vni}"));
                format!("make {} device {} on {} {vni}, UDP {}", new.kind.word(), link.device, link.node, new.port)
            }
            change => format!("set {} of {} {change:?}", link.device, link.node),
        },
        Action::Bird(bird) => format!("start BIRD on {}", bird.node),
        Action::Proxy(change) => proxy::describe(change),
        Action::ProxySettings(settings) => proxy::describe_settings(settings),
        Action::Registry(registry) => registry::describe(registry),
        Action::InstallCni(install) => {
            let verb = if install.remove { "remove" } else { "install" };
            format!("{verb} CNI configuration {}", install.file)
        }
        Action::Label(relabel) => format!("label {}", relabel.workload),
        Action::Connect(connect) => {
            format!("connect {}: {} -> {} {}", connect.name, connect.from, connect.to, connect.port)
        }
        Action::Workload(_) => "change workloads".into(),
    }
}

/// Does one step.
pub async fn carry_out(stage: &mut Stage<'_>, action: &Action) -> Done {
    stage.tainted |= action.marks_nodes();
    match action {
        Action::Apply(manifest) => apply(stage, manifest).await,
        Action::Patch(patch) => {
            let value = patch.patch.resolve(&|fact| stage.facts.lookup(fact)).map_err(text)?;
            let patch_body = match patch.patch_type {
                PatchType::Merge => Patch::Merge(value),
                PatchType::Strategic => Patch::Strategic(value),
                PatchType::Json => Patch::Json(serde_json::from_value(value).map_err(text)?),
            };
            let at = Coordinates {
                api_version: patch.api_version.clone(),
                kind: patch.kind.clone(),
                namespace: patch.namespace.as_ref().map(|namespace| namespace.as_str().to_string()),
                name: patch.name.clone(),
            };
            // What the scenario made goes away with it; of anything else nobody knows what it was like.
            stage.tainted |= !stage.made.iter().any(|made| made.kind == at.kind && made.name == at.name);
            take_over(stage, &at).await?;
            stage.cluster.objects.patch(&at, &patch_body).await.map_err(text)
        }
        Action::Delete(manifest) => delete(stage, manifest).await,
        Action::Firewall(firewall) => {
            for name in nodes_of(stage, &firewall.nodes) {
                let node = stage.cluster.nodes.get(&name).ok_or_else(|| format!("no node is called `{name}`"))?;
                let nics: Vec<&str> = node.addresses().keys().map(String::as_str).collect();
                for argv in firewall_commands(firewall, &nics) {
                    command(stage, &name, argv, 0).await?;
                }
            }
            Ok(())
        }
        Action::Firewalld(firewalld) => {
            let nodes = nodes_of(stage, &firewalld.nodes);
            firewalld::carry_out(stage, &nodes, firewalld).await
        }
        Action::NodeRun(run) => node_run(stage, run).await,
        Action::StopComponent(component) => switch(stage, component, false).await,
        Action::StartComponent(component) => switch(stage, component, true).await,
        Action::Route(change) => change_route(stage, change).await,
        Action::Fdb(change) => change_fdb(stage, change).await,
        Action::Link(link) => change_link(stage, link).await,
        Action::Bird(bird) => start_bird(stage, bird).await,
        Action::Proxy(change) => proxy::start(stage, change).await,
        Action::Registry(registry) => registry::start(stage, registry).await,
        Action::ProxySettings(settings) => {
            let nodes = nodes_of(stage, &settings.nodes);
            proxy::tell(stage, &nodes, settings).await
        }
        Action::InstallCni(install) => install_cni(stage, install).await,
        Action::Connect(connect) => super::expect::connection::open(stage, connect).await,
        Action::Label(relabel) => label(stage, relabel).await,
        Action::Workload(change) => change_workloads(stage, change).await,
    }
}

async fn apply(stage: &mut Stage<'_>, manifest: &Manifest) -> Done {
    for object in &manifest.objects {
        let value = object.resolve(&|fact| stage.facts.lookup(fact)).map_err(text)?;
        // What a container writes into a folder of its node stays there when its pod goes.
        stage.tainted |= mentions(&value, "hostPath");
        let at = stage.cluster.objects.apply(&value).await.map_err(text)?;
        // Objects of the cluster's own were there before and cannot simply be deleted.
        if at.namespace.as_deref() == Some("kube-system") || at.namespace.is_none() && at.kind != "Namespace" {
            stage.tainted = true;
        } else if !stage.made.contains(&at) {
            stage.made.push(at);
        }
    }
    Ok(())
}

/// Whether an object has a field of this name at any depth.
fn mentions(value: &Value, field: &str) -> bool {
    match value {
        Value::Object(fields) => fields.contains_key(field) || fields.values().any(|value| mentions(value, field)),
        Value::Array(items) => items.iter().any(|value| mentions(value, field)),
        _ => false,
    }
}

async fn delete(stage: &mut Stage<'_>, manifest: &Manifest) -> Done {
    for object in manifest.objects.iter().rev() {
        let value = object.resolve(&|fact| stage.facts.lookup(fact)).map_err(text)?;
        let mut at = crate::cluster::objects::coordinates(&value).map_err(text)?;
        stage.tainted |= !stage.made.iter().any(|made| made.kind == at.kind && made.name == at.name);
        if at.namespace.is_none() {
            at.namespace = object.namespace().map(str::to_string);
        }
        stage.cluster.objects.delete(&at).await.map_err(text)?;
    }
    Ok(())
}

fn nodes_of(stage: &Stage<'_>, nodes: &NodeSet) -> Vec<String> {
    nodes.of(&stage.scenario.topology).into_iter().map(|name| name.as_str().to_string()).collect()
}

/// The command lines that carry a firewall step out on a node with these interfaces.
fn firewall_commands(firewall: &Firewall, nics: &[&str]) -> Vec<Vec<String>> {
    let verb = match firewall.change {
        FirewallChange::Only => {
            let ports = firewall.ports.iter().map(ToString::to_string);
            let at = nics.iter().flat_map(|nic| ["--at".to_string(), (*nic).to_string()]);
            return vec![
                ["cknet", "node-firewall", "only"].map(String::from).into_iter().chain(ports).chain(at).collect(),
            ];
        }
        FirewallChange::Open => "open",
        FirewallChange::Drop => "close",
        FirewallChange::Reject => "reject",
    };
    let direction = match firewall.direction {
        Direction::In => "in",
        Direction::Out => "out",
        Direction::Both => "both",
    };
    let ports = firewall.ports.iter().map(|ports| {
        let mut argv: Vec<String> = ["cknet", "node-firewall", verb].map(String::from).to_vec();
        argv.push(ports.to_string());
        argv.extend(["--direction".into(), direction.into()]);
        if let Some(from) = &firewall.from {
            argv.extend(["--from".into(), from.to_string()]);
        }
        if let Some(nic) = &firewall.nic {
            argv.extend(["--nic".into(), nic.to_string()]);
        }
        if firewall.place != Place::Filter {
            argv.extend(["--place".into(), firewall.place.word().into()]);
        }
        argv
    });
    ports.collect()
}

async fn node_run(stage: &Stage<'_>, run: &NodeRun) -> Done {
    let argv: Result<Vec<String>, _> =
        run.argv.iter().map(|word| word.resolve(&|fact| stage.facts.lookup(fact))).collect();
    command(stage, run.node.as_str(), argv.map_err(text)?, i32::from(run.expect_exit)).await
}

/// Runs a command on a node; another exit code than the one wanted is an error with what it printed.
async fn command(stage: &Stage<'_>, node: &str, argv: Vec<String>, wanted: i32) -> Done {
    command_with(stage, node, argv, &[wanted]).await
}

async fn command_with(stage: &Stage<'_>, node: &str, argv: Vec<String>, wanted: &[i32]) -> Done {
    let machine = stage.cluster.nodes.get(node).ok_or_else(|| format!("no node is called `{node}`"))?;
    let shown = argv.join(" ");
    let output = machine.run(Invocation::new(argv), COMMAND).await.map_err(text)?;
    if wanted.iter().any(|code| output.exit == Exit::Code(*code)) {
        return Ok(());
    }
    let wanted = wanted.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
    let said = match output.complaint() {
        said if said.is_empty() => String::from_utf8_lossy(&output.stdout).trim().to_string(),
        said => said,
    };
    Err(format!("`{shown}` on {node} ended with {} instead of exit code {wanted}: {said}", output.exit))
}

/// Takes a DaemonSet away from an operator that would put it back to what it was at once. It stays so: whatever comes
/// later in the scenario builds on what was changed, and the cluster is made anew after it.
async fn take_over(stage: &Stage<'_>, at: &Coordinates) -> Done {
    if at.kind != "DaemonSet" {
        return Ok(());
    }
    let found = stage.cluster.objects.get(at).await.map_err(text)?;
    if found.is_some_and(|found| is_tigeras(&found)) {
        let patch = json!({"metadata": {"annotations": {LEFT_ALONE: "true"}}});
        stage.cluster.objects.patch(at, &Patch::Merge(patch)).await.map_err(text)?;
    }
    Ok(())
}

/// Whether Tigera's operator has made the object and looks after it.
fn is_tigeras(object: &Value) -> bool {
    let owners = object["metadata"]["ownerReferences"].as_array();
    owners.is_some_and(|all| {
        all.iter().any(|owner| owner["apiVersion"].as_str().is_some_and(|of| of.starts_with("operator.tigera.io/")))
    })
}

/// A DaemonSet's pod is kept off a node by a node affinity that the DaemonSet otherwise has not, and comes back
/// without it: what an administrator can do on any cluster.
async fn switch(stage: &Stage<'_>, component: &Component, on: bool) -> Done {
    for name in nodes_of(stage, &component.nodes) {
        let at = Coordinates { api_version: "v1".into(), kind: "Node".into(), namespace: None, name };
        let value = if on { Value::Null } else { json!(component.component) };
        let patch = json!({"metadata": {"labels": {STOPPED: value}}});
        stage.cluster.objects.patch(&at, &Patch::Merge(patch)).await.map_err(text)?;
    }
    let profile = &stage.cluster.profile;
    let at = Coordinates {
        api_version: "apps/v1".into(),
        kind: "DaemonSet".into(),
        namespace: Some(profile.namespace.clone()),
        name: component.component.clone(),
    };
    take_over(stage, &at).await?;
    let term = json!({"matchExpressions": [{"key": STOPPED, "operator": "DoesNotExist"}]});
    let affinity =
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}});
    let patch = json!({"spec": {"template": {"spec": {"affinity": affinity}}, "updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}});
    stage.cluster.objects.patch(&at, &Patch::Merge(patch)).await.map_err(text)?;
    await_component(stage, component, on).await
}

/// Waits until the component's pods are gone from the nodes, or run there again.
async fn await_component(stage: &Stage<'_>, component: &Component, on: bool) -> Done {
    let nodes = nodes_of(stage, &component.nodes);
    let profile = &stage.cluster.profile;
    let started = std::time::Instant::now();
    loop {
        let pods = stage
            .cluster
            .objects
            .list("v1", "Pod", Some(&profile.namespace), profile.node_selector.as_deref())
            .await
            .map_err(text)?;
        let ready = |pod: &&Value| {
            let conditions = pod["status"]["conditions"].as_array();
            conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
        };
        let on_node =
            |name: &String| pods.iter().filter(|pod| pod["spec"]["nodeName"] == name.as_str()).collect::<Vec<_>>();
        let reached = nodes.iter().all(|name| match on {
            true => on_node(name).iter().any(ready),
            false => on_node(name).is_empty(),
        });
        if reached {
            return Ok(());
        }
        if started.elapsed() >= COMMAND {
            let state = if on { "run" } else { "end" };
            return Err(format!("the pods of `{}` did not {state} within {COMMAND:?}", component.component));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn change_link(stage: &Stage<'_>, link: &LinkChange) -> Done {
    let change = match &link.change {
        LinkState::Up => "up".to_string(),
        LinkState::Down => "down".to_string(),
        LinkState::Delete => "delete".to_string(),
        LinkState::Mtu(bytes) => format!("mtu={bytes}"),
        LinkState::Rename(name) => format!("name={name}"),
        LinkState::Add(new) => return add_link(stage, link, new).await,
    };
    let argv = ["cknet", "node-link", &link.device, &change].map(String::from).to_vec();
    command(stage, link.node.as_str(), argv, 0).await
}

/// What the kernel answers where a device stands in another one's way: the same VNI and port, or the port in another
/// mode (drivers/net/vxlan of Linux).
const IN_THE_WAY: [i32; 2] = [nix::libc::EEXIST, nix::libc::EADDRINUSE];

async fn add_link(stage: &Stage<'_>, link: &LinkChange, new: &NewLink) -> Done {
    let remote = new.remote.as_ref().map(|remote| remote.resolve(&|fact| stage.facts.lookup(fact)));
    let remote = match remote.transpose().map_err(text)?.map(|address| address.0) {
        Some(std::net::IpAddr::V4(address)) => Some(address),
        Some(other) => return Err(format!("`{other}` is not an IPv4 address")),
        None => None,
    };
    let device = NewVxlan {
        vni: new.vni,
        port: new.port.get(),
        parent: new.parent.clone(),
        remote,
        address: new.address.as_ref().map(|address| address.parse().map_err(text)).transpose()?,
        mtu: new.mtu,
    };
    let change = format!("add={}", json!(device));
    let argv = ["cknet", "node-link", &link.device, &change].map(String::from).to_vec();
    let refusals: &[i32] = if new.may_be_refused { &IN_THE_WAY } else { &[] };
    let wanted: Vec<i32> = std::iter::once(0).chain(refusals.iter().copied()).collect();
    command_with(stage, link.node.as_str(), argv, &wanted).await
}

/// BIRD on a machine outside of the cluster; one that runs there already is ended.
async fn start_bird(stage: &Stage<'_>, bird: &Bird) -> Done {
    const CONFIG: &str = "/run/bird/bird.conf";
    const SERVICE: &str = "bird";
    let name = bird.node.as_str();
    let node = stage.cluster.nodes.get(name).ok_or_else(|| format!("no machine is called `{name}`"))?;
    let config = bird.config.resolve(&|fact| stage.facts.lookup(fact)).map_err(text)?;
    node.put(CONFIG, 0o644, config.into_bytes()).await.map_err(text)?;
    command(stage, name, ["bird", "-p", "-c", CONFIG].map(String::from).to_vec(), 0).await?;
    node.stop(SERVICE).await.map_err(text)?;
    let invocation = Invocation::new(["bird", "-f", "-c", CONFIG, "-s", "/run/bird/bird.ctl"]);
    node.start(SERVICE, invocation).await.map_err(text)
}

async fn install_cni(stage: &Stage<'_>, install: &InstallCni) -> Done {
    let path = format!("/etc/cni/net.d/{}", install.file);
    let lookup = |fact: &_| stage.facts.lookup(fact);
    let content = match (&install.config, &install.text) {
        (Some(config), _) => Some(format!("{:#}\n", config.resolve(&lookup).map_err(text)?)),
        (None, Some(broken)) => Some(broken.resolve(&lookup).map_err(text)?),
        (None, None) => None,
    };
    for name in nodes_of(stage, &install.nodes) {
        match &content {
            Some(content) => {
                let node = stage.cluster.nodes.get(&name).ok_or_else(|| format!("no node is called `{name}`"))?;
                node.put(&path, 0o644, content.clone().into_bytes()).await.map_err(text)?;
            }
            None => {
                let argv = ["cknet", "node-file", "remove", &path].map(String::from).to_vec();
                command(stage, &name, argv, 0).await?;
            }
        }
    }
    Ok(())
}

async fn change_route(stage: &Stage<'_>, change: &RouteChange) -> Done {
    let lookup = |fact: &_| stage.facts.lookup(fact);
    let destination = change.destination.resolve(&lookup).map_err(text)?.to_string();
    let verb = if change.present { "set" } else { "remove" };
    let mut argv = ["cknet", "node-route", verb, &destination].map(String::from).to_vec();
    if let Some(via) = &change.via {
        argv.push(format!("via={}", via.resolve(&lookup).map_err(text)?));
    }
    if let Some(dev) = &change.dev {
        argv.push(format!("dev={}", dev.resolve(&lookup).map_err(text)?));
    }
    command(stage, change.node.as_str(), argv, 0).await
}

async fn change_fdb(stage: &Stage<'_>, change: &FdbChange) -> Done {
    let lookup = |fact: &_| stage.facts.lookup(fact);
    let from = change.leading_to.resolve(&lookup).map_err(text)?.to_string();
    let mut argv = ["cknet", "node-fdb", &change.device, &from].map(String::from).to_vec();
    if let Some(to) = &change.to {
        argv.push(to.resolve(&lookup).map_err(text)?.to_string());
    }
    command(stage, change.node.as_str(), argv, 0).await
}

async fn label(stage: &mut Stage<'_>, relabel: &Relabel) -> Done {
    let pod = stage.placed.pods.get(&relabel.workload);
    let namespace =
        pod.map(|pod| pod.namespace.clone()).ok_or_else(|| format!("no workload `{}`", relabel.workload))?;
    let mut labels = serde_json::Map::new();
    for (key, value) in relabel.set.iter() {
        labels.insert(key.as_str().to_string(), json!(value));
    }
    for key in &relabel.remove {
        labels.insert(key.as_str().to_string(), Value::Null);
    }
    let at = workloads::pod_coordinates(&relabel.workload, &namespace);
    let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
    stage.cluster.objects.patch(&at, &patch).await.map_err(text)
}

async fn change_workloads(stage: &mut Stage<'_>, change: &WorkloadChange) -> Done {
    for name in &change.terminate {
        let pod = stage.placed.pods.get(name).ok_or_else(|| format!("no workload `{name}`"))?;
        workloads::terminate(stage.cluster, name, pod).await.map_err(text)?;
    }
    for name in &change.remove {
        if let Some(pod) = stage.placed.pods.remove(name) {
            workloads::remove(stage.cluster, name, &pod).await.map_err(text)?;
        }
    }
    for (name, workload) in change.add.iter() {
        let topology = &stage.scenario.topology;
        let (pod, at) = workloads::add(stage.cluster, topology, name, workload).await.map_err(text)?;
        stage.placed.pods.insert(name.clone(), pod);
        stage.made.extend(at);
    }
    stage.facts =
        crate::cluster::facts::RunFacts::gather(stage.cluster, stage.scenario, &stage.placed).await.map_err(text)?;
    Ok(())
}
