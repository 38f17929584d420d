//! Steps that change the host firewall of nodes.

use super::command::command;
use super::{Done, nodes_of};
use crate::run::stage::Stage;
use crate::scenario::model::{Direction, Firewall, FirewallChange, Place};

pub async fn change_firewall(stage: &Stage<'_>, firewall: &Firewall) -> Done {
    for name in nodes_of(stage, &firewall.nodes) {
        let node = stage.cluster.nodes.get(&name).ok_or_else(|| format!("no node is called `{name}`"))?;
        let nics: Vec<&str> = node.addresses().keys().map(String::as_str).collect();
        for argv in firewall_commands(firewall, &nics) {
            command(stage, &name, argv, 0).await?;
        }
    }
    Ok(())
}

/// The command lines that carry a firewall step out on a node with these interfaces.
pub fn firewall_commands(firewall: &Firewall, nics: &[&str]) -> Vec<Vec<String>> {
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
