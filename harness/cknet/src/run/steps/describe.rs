//! What steps do, in words.

use super::firewall::firewall_commands;
use crate::run::{firewalld, proxy, registry};
use crate::scenario::model::{Action, LinkState, Manifest};

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
