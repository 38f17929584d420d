//! Owns whether each step can be done where it stands.
//! Must not know what is expected afterwards.

use super::super::model::{
    Action, Direction, Firewall, FirewallChange, InstallCni, LabelKey, LinkChange, LinkState, NewLink, NodeName, Place,
    PortNumber, Protocol, ProxySettings, Step, WorkloadName,
};
use super::super::nearest::listed;
use super::{Checking, Part};

/// The workloads that exist after the steps of each phase, in the order of the phases.
pub(super) fn alive(c: &Checking<'_>) -> Vec<Vec<WorkloadName>> {
    let mut alive: Vec<WorkloadName> = c.scenario.workloads.names().cloned().collect();
    let mut after = Vec::new();
    for phase in &c.scenario.phases {
        for step in &phase.steps {
            change(&mut alive, step);
        }
        after.push(alive.clone());
    }
    after
}

fn change(alive: &mut Vec<WorkloadName>, step: &Step) {
    if let Action::Workload(change) = &step.action {
        alive.retain(|name| !change.remove.contains(name));
        alive.extend(change.add.names().cloned());
    }
}

pub(super) fn check(c: &mut Checking<'_>) {
    let scenario = c.scenario;
    let mut alive: Vec<WorkloadName> = scenario.workloads.names().cloned().collect();
    for (phase, steps) in scenario.phases.iter().map(|phase| &phase.steps).enumerate() {
        for (index, step) in steps.iter().enumerate() {
            let path = path!["phases", phase, "steps", index];
            one(c, step, &alive, path);
            change(&mut alive, step);
        }
    }
}

/// Checks one step that stands at `path`.
pub(super) fn one(c: &mut Checking<'_>, step: &Step, alive: &[WorkloadName], path: &[Part<'_>]) {
    let here = [path, &[Part::Key(step.action.kind())]].concat();
    super::late::check(c, &super::late::of_step(step), alive, &here);
    match &step.action {
        Action::Firewall(firewall) => {
            nics(c, firewall, &here);
            narrowed(c, firewall, &here);
        }
        Action::Link(change) => link(c, change, &here),
        Action::Bird(bird) if c.scenario.topology.is_member(&bird.node) => {
            let message = format!(
                "`{}` is a member of the cluster; calico-node runs BIRD there, with the configuration that its objects make",
                bird.node
            );
            c.problem(&[&here[..], path!["node"]].concat(), message);
        }
        Action::Proxy(proxy) => free_port(c, &proxy.node, proxy.port, 3128, alive, &here),
        Action::Registry(registry) => free_port(c, &registry.node, registry.port, 5000, alive, &here),
        Action::ProxySettings(settings) => proxy_settings(c, settings, &here),
        Action::InstallCni(install) => configuration(c, install, &here),
        Action::StopComponent(change) | Action::StartComponent(change) => {
            let strange = change.nodes.of(&c.scenario.topology).into_iter().find(|n| !c.scenario.topology.is_member(n));
            if let Some(node) = strange {
                let message = format!("`{node}` is no member of the cluster; no component of it runs there");
                c.problem(&[&here[..], path!["nodes"]].concat(), message);
            }
        }
        Action::Route(change) => {
            let way = change.via.is_some() || change.dev.is_some();
            if change.present && !way {
                c.problem(&here, "where does it lead? give `via`, `dev` or both, or `present: false`");
            }
            if !change.present && way {
                c.problem_with_key(&[&here[..], path!["present"]].concat(), "a route that goes leads nowhere");
            }
        }
        Action::NodeRun(run) if run.argv.is_empty() => {
            c.problem_with_key(&[&here[..], path!["argv"]].concat(), "no program is given");
        }
        Action::Label(change) => {
            let twice: Vec<&str> =
                change.remove.iter().filter(|key| change.set.get(key).is_some()).map(LabelKey::as_str).collect();
            if !twice.is_empty() {
                let message = format!("{} cannot be both set and removed", listed(twice));
                c.problem(&[&here[..], path!["remove"]].concat(), message);
            }
            if change.set.is_empty() && change.remove.is_empty() {
                c.problem(&here, "a change of labels has `set`, `remove` or both");
            }
            if super::network::workload(c, &change.workload).is_some_and(|w| !c.scenario.topology.is_member(&w.node)) {
                let message =
                    format!("`{}` is a process on a machine outside of the cluster: it has no labels", change.workload);
                c.problem(&[&here[..], path!["workload"]].concat(), message);
            }
            exists(c, &change.workload, alive, &[&here[..], path!["workload"]].concat());
        }
        Action::Workload(change) => {
            for (index, name) in change.remove.iter().enumerate() {
                exists(c, name, alive, &[&here[..], path!["remove", index]].concat());
            }
            for (index, name) in change.terminate.iter().enumerate() {
                let path = [&here[..], path!["terminate", index]].concat();
                exists(c, name, alive, &path);
                if super::network::workload(c, name).is_some_and(|workload| workload.linger.is_none()) {
                    let message = format!("`{name}` ends as soon as it is told to; give it `linger`, or `remove` it");
                    c.problem(&path, message);
                }
            }
            for name in change.add.names() {
                if alive.contains(name) && !change.remove.contains(name) {
                    let path = [&here[..], path!["add", name.as_str()]].concat();
                    c.problem_with_key(&path, format!("the workload `{name}` is there already"));
                }
            }
            for (name, workload) in change.add.iter() {
                super::network::outside_workload(c, workload, &[&here[..], path!["add", name.as_str()]].concat());
            }
        }
        _ => {}
    }
}

fn link(c: &mut Checking<'_>, change: &LinkChange, here: &[Part<'_>]) {
    let given = c.scenario.topology.nodes.get(&change.node);
    let named_nic = super::place(&c.file.tree, &[here, path!["nic"]].concat()) != super::place(&c.file.tree, here);
    match &change.change {
        LinkState::Rename(name) if name.is_empty() || name.len() > 15 || name.contains(['/', ' ']) => {
            let message = format!("`{name}` is no name of a device: 1 to 15 characters, no `/`, no space");
            c.problem(&[here, path!["rename"]].concat(), message);
        }
        LinkState::Add(new) => {
            if named_nic {
                let message = "an interface of the topology is there already; name the new `device`";
                c.problem_with_key(&[here, path!["nic"]].concat(), message);
            }
            new_device(c, new, &[here, path!["add"]].concat());
        }
        _ if named_nic && given.is_some_and(|node| node.nic(&change.device).is_none()) => {
            no_nic(c, &change.node, &change.device, &[here, path!["nic"]].concat());
        }
        _ => {}
    }
}

fn new_device(c: &mut Checking<'_>, new: &NewLink, here: &[Part<'_>]) {
    // The VNI of a VXLAN header has 24 bits (RFC 7348).
    const VNIS: u32 = 1 << 24;
    match new.vni {
        None if !new.external => c.problem(here, "a VXLAN device has a `vni`, or is `external`"),
        Some(_) if new.external => {
            c.problem_with_key(&[here, path!["vni"]].concat(), "in metadata mode each packet says its VNI");
        }
        Some(vni) if vni >= VNIS => {
            let message = format!("`{vni}` is no VNI; those are 0 to {}", VNIS - 1);
            c.problem(&[here, path!["vni"]].concat(), message);
        }
        _ => {}
    }
    if let Some(address) = new.address.as_ref().filter(|address| address.parse::<ipnet::Ipv4Net>().is_err()) {
        let message = format!("`{address}` is not an IPv4 address with its prefix length, like `10.250.0.1/24`");
        c.problem(&[here, path!["address"]].concat(), message);
    }
}

/// No workload has the port that a step's program is to have.
fn free_port(
    c: &mut Checking<'_>,
    node: &NodeName,
    port: Option<PortNumber>,
    usual: u16,
    alive: &[WorkloadName],
    here: &[Part<'_>],
) {
    let port = port.map_or(usual, |port| port.get());
    let taken = alive.iter().find(|name| {
        super::network::workload(c, name).is_some_and(|workload| {
            let on_the_machine = workload.host_network || !c.scenario.topology.is_member(&workload.node);
            let listens = workload.listen.iter().any(|at| at.protocol == Protocol::Tcp && at.port.get() == port);
            workload.node == *node && on_the_machine && listens
        })
    });
    if let Some(name) = taken {
        c.problem(here, format!("workload `{name}` listens on TCP port {port} of `{node}`"));
    }
}

fn proxy_settings(c: &mut Checking<'_>, settings: &ProxySettings, here: &[Part<'_>]) {
    let authority = settings.proxy.strip_prefix("http://").unwrap_or_default();
    let place = authority.rsplit_once(':').filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if place.is_none() || authority.contains(['/', '@', ' ', '"', ',']) {
        let message = format!("`{}` is not a proxy; write `http://HOST:PORT`", settings.proxy);
        c.problem(&[here, path!["proxy"]].concat(), message);
    }
    for (index, entry) in settings.no_proxy.iter().enumerate() {
        if entry.is_empty() || entry.contains([',', '"']) || entry.contains(char::is_whitespace) {
            let message = format!("`{entry}` is not one entry of `NO_PROXY`; the list has an item for each");
            c.problem(&[here, path!["noProxy", index]].concat(), message);
        }
    }
}

fn configuration(c: &mut Checking<'_>, install: &InstallCni, here: &[Part<'_>]) {
    let known = [".conflist", ".conf", ".json"].iter().any(|end| install.file.ends_with(end));
    if install.file.contains('/') || install.file.starts_with('.') || !known {
        let message = format!(
            "`{}` is not read by a container runtime; name a file without a folder that ends in `.conflist`, `.conf` or `.json`",
            install.file
        );
        c.problem(&[here, path!["file"]].concat(), message);
    }
    let given = [install.config.is_some(), install.text.is_some(), install.remove];
    if given.iter().filter(|given| **given).count() != 1 {
        c.problem(here, "a CNI configuration has one of `config`, `text`, `remove: true`");
    }
}

fn exists(c: &mut Checking<'_>, name: &WorkloadName, alive: &[WorkloadName], path: &[Part<'_>]) {
    if !alive.contains(name) {
        c.problem(path, format!("there is no workload `{name}` at this point"));
    }
}

/// Each of the firewall's nodes has the interface it names.
fn nics(c: &mut Checking<'_>, firewall: &Firewall, here: &[Part<'_>]) {
    let Some(nic) = &firewall.nic else { return };
    let scenario = c.scenario;
    for node in firewall.nodes.of(&scenario.topology) {
        let known = scenario.topology.nodes.get(node);
        if known.is_some_and(|node| node.nic(nic.as_str()).is_none()) {
            return no_nic(c, node, nic.as_str(), &[here, path!["nic"]].concat());
        }
    }
}

/// A list of all that is open is for everybody; a place is one on the way in, for what is closed there.
fn narrowed(c: &mut Checking<'_>, firewall: &Firewall, here: &[Part<'_>]) {
    let key = |key| [here, &[Part::Key(key)]].concat();
    let only = firewall.change == FirewallChange::Only;
    let narrow = [
        (firewall.from.is_some(), "from"),
        (firewall.nic.is_some(), "nic"),
        (firewall.direction != Direction::In, "direction"),
    ];
    if let Some((_, name)) = narrow.into_iter().find(|(given, _)| only && *given) {
        c.problem_with_key(&key(name), "`only` is about whatever comes in, from everywhere and by each interface");
    }
    let closes = matches!(firewall.change, FirewallChange::Drop | FirewallChange::Reject);
    if firewall.place != Place::Filter && !(closes && firewall.direction == Direction::In) {
        c.problem_with_key(&key("place"), "a place is for what is closed on the way in");
    }
}

fn no_nic(c: &mut Checking<'_>, node: &NodeName, nic: &str, path: &[Part<'_>]) {
    let scenario = c.scenario;
    let nics = scenario.topology.nodes.get(node).map(|node| &node.nics);
    let names = nics.into_iter().flat_map(|nics| nics.names().map(AsRef::as_ref));
    let names = listed(names);
    c.problem(path, format!("node `{node}` has no interface `{nic}`; it has {names}"));
}
