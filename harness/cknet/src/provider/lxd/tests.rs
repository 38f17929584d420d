//! Every call and every answer of LXD and Incus that is written down in `fixtures/recorded`.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::{Lxd, Product};
use crate::provider::machine::made::Maker;
use crate::provider::machine::replayed::Recorded;
use crate::provider::machine::{Image, Machine};
use crate::provider::{Nic, NodeSpec, Provider, ProviderError, Segment, Topology};

const KEY: &str = "c0-0";

/// One machine on two segments: what is done with several is done at once, in no order.
fn topology() -> Topology {
    let segment = |name: &str, cidr: &str| Segment { name: name.into(), cidr: cidr.parse().unwrap(), mtu: 1500 };
    let nic = |name: &str, segment: &str, address: &str| Nic {
        name: name.into(),
        segment: segment.into(),
        address: address.parse().unwrap(),
    };
    let nics = vec![nic("eth0", "lan", "192.168.60.11/24"), nic("eth1", "overlay", "192.168.70.11/24")];
    Topology {
        segments: vec![segment("lan", "192.168.60.0/24"), segment("overlay", "192.168.70.0/24")],
        nodes: vec![NodeSpec { name: "cp1".into(), nics, forwards: true, routes: Vec::new() }],
    }
}

fn made(done: Result<Vec<Machine>, ProviderError>) -> String {
    match done {
        Ok(machines) => machines.iter().map(|machine| machine.called.as_str()).collect::<Vec<_>>().join("\n"),
        Err(error) => error.to_string(),
    }
}

fn done(done: Result<(), ProviderError>) -> String {
    done.map_or_else(|error| error.to_string(), |()| "done".into())
}

async fn judge(recorded: &Recorded, product: Product) {
    let (doing, way_out) = match recorded.doing.strip_suffix(" with a way out") {
        Some(doing) => (doing, true),
        None => (recorded.doing.as_str(), false),
    };
    let image = Image { virtual_machine: doing == "make virtual machines", ..Image::default() };
    let folder = tempfile::tempdir().unwrap();
    let mut provider = Lxd::new(product, "r1", folder.path(), "/bin/true".into(), &image, way_out);
    provider.tool = recorded.tool(product.program());
    let outcome = match doing {
        "preflight" => match provider.preflight().as_slice() {
            [] => "ready".into(),
            [finding, ..] => format!("{}; {}", finding.what, finding.fix),
        },
        "make" | "make virtual machines" => made(provider.make(KEY, &topology()).await),
        "keep" => done(provider.keep(KEY, &topology()).await),
        "put back" => done(provider.put_back(KEY, &topology()).await),
        "remove" => done(provider.remove(KEY).await),
        other => panic!("nobody knows how to do `{other}`"),
    };
    recorded.judge(&outcome);
}

/// Time stands still where nobody waits for a program.
#[tokio::test(start_paused = true)]
async fn every_answer_is_understood() {
    for product in [Product::Lxd, Product::Incus] {
        for recorded in Recorded::all(product.name()) {
            judge(&recorded, product).await;
        }
    }
}
