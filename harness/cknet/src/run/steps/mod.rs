//! Steps: what a scenario does to the cluster and its nodes. A step returns when it has been done; whether its effect
//! can be seen is the business of expectations.

mod bird;
mod cni;
mod command;
mod component;
mod describe;
mod firewall;
mod network;
mod objects;
mod workload;

use self::bird::start_bird;
use self::cni::install_cni;
use self::command::node_run;
use self::component::switch;
pub use self::describe::describe;
use self::firewall::change_firewall;
use self::network::{change_fdb, change_link, change_route};
use self::objects::{apply, delete, patch};
use self::workload::{change_workloads, label};
use super::stage::Stage;
use super::{expect, firewalld, proxy, registry};
use crate::scenario::model::{Action, NodeSet};

type Done = Result<(), String>;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Does one step.
pub async fn carry_out(stage: &mut Stage<'_>, action: &Action) -> Done {
    stage.tainted |= action.marks_nodes();
    match action {
        Action::Apply(manifest) => apply(stage, manifest).await,
        Action::Patch(change) => patch(stage, change).await,
        Action::Delete(manifest) => delete(stage, manifest).await,
        Action::Firewall(firewall) => change_firewall(stage, firewall).await,
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
        Action::Connect(connect) => expect::connection::open(stage, connect).await,
        Action::Label(relabel) => label(stage, relabel).await,
        Action::Workload(change) => change_workloads(stage, change).await,
    }
}

fn nodes_of(stage: &Stage<'_>, nodes: &NodeSet) -> Vec<String> {
    nodes.of(&stage.scenario.topology).into_iter().map(|name| name.as_str().to_string()).collect()
}
