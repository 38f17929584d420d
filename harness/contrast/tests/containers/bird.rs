//! BIRD in containers: nodes with the configuration that the reference distribution gives its own BIRD, and a router
//! outside. The routes of the kernel decide, not what BIRD says.

use std::net::Ipv4Addr;

use cknet_reference::node::calico::bgp::View;
use cknet_reference::node::calico::resources::{BGPConfigurationSpec, BGPPeerSpec, IPPoolSpec};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use testcontainers::ImageExt;

use crate::engine::{self, Container, Need, SOON, address, done, put, until};

const IMAGE: &str = "cknet/bird:fixture";
const CONFIG: &str = "/run/bird.conf";
const CONTROL: &str = "/run/bird.ctl";
/// What the router has to offer.
const BEHIND: &str = "10.99.0.0/24";

pub fn trials() -> Vec<Trial> {
    let need = Need::Own(IMAGE);
    vec![
        engine::trial("bird::nodes_form_a_mesh", need, mesh),
        engine::trial("bird::a_router_learns_blocks_if_both_sides_agree_on_its_as", need, router),
    ]
}

struct Speaker {
    container: Container,
    address: Ipv4Addr,
}

impl Speaker {
    async fn start() -> Self {
        // BIRD writes routes into the kernel.
        let container = engine::idle(IMAGE, |request| request.with_cap_add("NET_ADMIN")).await;
        let address = address(&container).await.to_string().parse().expect("an IPv4 address");
        Self { container, address }
    }

    /// Gives BIRD its configuration, and starts it if it does not run.
    async fn serve(&self, config: &str) {
        put(&self.container, CONFIG, config).await;
        let line =
            format!("if [ -S {CONTROL} ]; then birdc -s {CONTROL} configure; else bird -c {CONFIG} -s {CONTROL}; fi");
        done(&self.container, &line).await;
    }

    /// The gateways of the kernel's routes to a network that BIRD has put there.
    async fn learnt(&self, network: &str) -> Vec<String> {
        let text = done(&self.container, &format!("ip -json route show {network} proto bird")).await;
        let routes: Value = serde_json::from_str(&text).expect("routes");
        let gateways = routes.as_array().into_iter().flatten().filter_map(|route| route["gateway"].as_str());
        gateways.map(str::to_string).collect()
    }

    async fn learns(&self, network: &str, from: &Speaker) {
        until(&format!("a route to {network} by {}", from.address), SOON, async || {
            let gateways = self.learnt(network).await;
            match gateways == [from.address.to_string()] {
                true => Ok(()),
                false => Err(format!("gateways {gateways:?}; {}", self.sessions().await)),
            }
        })
        .await;
    }

    async fn sessions(&self) -> String {
        done(&self.container, &format!("birdc -s {CONTROL} show protocols all")).await
    }
}

/// `bird.cfg` of a node with one block of a pool without encapsulation.
fn node(own: &Speaker, block: &str, others: &[&Speaker], configuration: Value, peers: Value) -> String {
    let configuration: BGPConfigurationSpec = serde_json::from_value(configuration).expect("a configuration");
    let peers: Vec<BGPPeerSpec> = serde_json::from_value(peers).expect("peers");
    let pool = json!({"cidr": "10.1.0.0/16", "vxlanMode": "Never", "ipipMode": "Never", "blockSize": 26});
    let pool: IPPoolSpec = serde_json::from_value(pool).expect("a pool");
    View {
        name: "node",
        address: own.address,
        as_number: None,
        others: &others.iter().map(|other| (other.address, None)).collect::<Vec<_>>(),
        configuration: &configuration,
        peers: &peers,
        pools: &[pool],
        blocks: &[block.parse().expect("a block")],
    }
    .config()
}

async fn mesh() {
    let (one, two) = (Speaker::start().await, Speaker::start().await);
    let (first, second) = ("10.1.0.0/26", "10.1.0.64/26");
    one.serve(&node(&one, first, &[&two], json!({}), json!([]))).await;
    two.serve(&node(&two, second, &[&one], json!({}), json!([]))).await;
    one.learns(second, &two).await;
    two.learns(first, &one).await;
    // Without its configuration of a mesh, a node has no peer, and what it learnt goes.
    one.serve(&node(&one, first, &[&two], json!({"nodeToNodeMeshEnabled": false}), json!([]))).await;
    until("the route of the former mesh is gone", SOON, async || match one.learnt(second).await {
        gateways if gateways.is_empty() => Ok(()),
        gateways => Err(format!("gateways {gateways:?}")),
    })
    .await;
}

async fn router() {
    let (worker, router) = (Speaker::start().await, Speaker::start().await);
    let block = "10.1.0.64/26";
    let outside = format!(
        "router id {};\nprotocol device {{}}\nprotocol static {{ ipv4; route {BEHIND} blackhole; }}\n\
         protocol kernel {{ ipv4 {{ import none; export where source = RTS_BGP; }}; }}\n\
         protocol bgp worker {{\n  local as 64999;\n  neighbor {} as 64512;\n  connect delay time 0; connect retry time 1; error wait time 1, 2;\n\
         ipv4 {{ import all; export where source = RTS_STATIC; }};\n}}",
        router.address, worker.address
    );
    router.serve(&outside).await;
    let peer = |number: u32| json!([{"peerIP": router.address.to_string(), "asNumber": number}]);
    let off = || json!({"nodeToNodeMeshEnabled": false});
    worker.serve(&node(&worker, block, &[], off(), peer(64998))).await;
    until("one of them refuses the other's AS", SOON, async || {
        let told = worker.sessions().await + &router.sessions().await;
        if told.contains("Bad peer AS") { Ok(()) } else { Err(told) }
    })
    .await;
    assert!(router.learnt(block).await.is_empty() && worker.learnt(BEHIND).await.is_empty());

    worker.serve(&node(&worker, block, &[], off(), peer(64999))).await;
    router.learns(block, &worker).await;
    worker.learns(BEHIND, &router).await;
}
