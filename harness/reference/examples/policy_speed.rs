//! How long a node takes to enforce: compiling, the first full table, one policy, one label.
//!
//! Needs CAP_SYS_ADMIN; works in a network namespace of its own.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use cknet_kernel::nft::Nft;
use cknet_kernel::ns::NetNs;
use cknet_reference::node::policy::{LocalEndpoint, Options, PodName, Programmer, World, compile};
use serde_json::json;

const PODS: usize = 300;
const LOCAL: usize = 60;
const POLICIES: usize = 40;
const ROUNDS: usize = 50;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut world = World::default();
    let mut local = Vec::new();
    world.put_namespace(&serde_json::from_value(json!({"metadata": {"name": "prod", "labels": {}}}))?);
    for number in 0..PODS {
        let ip = format!("10.1.{}.{}", number / 200, number % 200 + 1);
        put_pod(&mut world, number, &ip, "yes")?;
        if number < LOCAL {
            let pod = PodName::new("prod", format!("pod-{number}"));
            local.push(LocalEndpoint { pod, interface: format!("cali{number}"), ip: ip.parse()? });
        }
    }
    for number in 0..POLICIES {
        put_policy(&mut world, number, 80)?;
    }
    let mut programmer = Programmer::new(NetNs::create()?.run(Nft::open)??);
    let mut out = io::stdout().lock();
    let options = Options::default();

    let ruleset = compile(&world, &local, &options);
    let first = programmer.apply(&ruleset)?;
    let table = ruleset.table();
    writeln!(
        out,
        "{PODS} pods, {LOCAL} here, {POLICIES} policies: {} chains, {} rules",
        table.chains.len(),
        table.rule_count()
    )?;
    writeln!(out, "first table        {:>8.2?}  {} bytes", first.elapsed, first.bytes)?;
    for (what, change) in [("one policy's port", 0), ("one pod's label", 1)] {
        let (mut compiling, mut applying, mut bytes) = (Duration::ZERO, Duration::ZERO, 0);
        for round in 0..ROUNDS {
            match change {
                0 => put_policy(&mut world, 7, 80 + round % 2)?,
                _ => put_pod(&mut world, 9, "10.1.0.10", ["no", "yes"][round % 2])?,
            }
            let start = Instant::now();
            let ruleset = compile(&world, &local, &options);
            compiling += start.elapsed();
            let applied = programmer.apply(&ruleset)?;
            applying += applied.elapsed;
            bytes = applied.bytes;
        }
        let mean = |total: Duration| total / ROUNDS as u32;
        writeln!(
            out,
            "{what:<18} {:>8.2?} compiling, {:>8.2?} applying, {bytes} bytes",
            mean(compiling),
            mean(applying)
        )?;
    }
    Ok(())
}

fn put_pod(world: &mut World, number: usize, ip: &str, member: &str) -> serde_json::Result<()> {
    let labels = json!({"app": format!("app-{}", number % POLICIES), "member": member});
    let pod = json!({
        "metadata": {"namespace": "prod", "name": format!("pod-{number}"), "labels": labels},
        "spec": {"containers": []}, "status": {"phase": "Running", "podIP": ip},
    });
    world.put_pod(&serde_json::from_value(pod)?);
    Ok(())
}

fn put_policy(world: &mut World, number: usize, port: usize) -> serde_json::Result<()> {
    let policy = json!({"metadata": {"namespace": "prod", "name": format!("policy-{number}")}, "spec": {
        "podSelector": {"matchLabels": {"app": format!("app-{number}")}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": format!("app-{}", number + 1), "member": "yes"}}}],
                     "ports": [{"port": port}, {"port": 8000, "endPort": 8100}]}],
        "egress": [{"to": [{"podSelector": {"matchLabels": {"member": "yes"}}}]}],
    }});
    world.put_policy(&serde_json::from_value(policy)?);
    Ok(())
}
