//! From a policy's change to its effect on packets, in both directions.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::figures::{median, spread, within};
use crate::stand;
use crate::ticks::{Ticks, now};

const CHANGES: usize = 100;

/// The verdict must stay what it became for so many attempts.
const STEADY: usize = 20;

const BUDGET: Duration = Duration::from_millis(30);

/// Longest wait for a change to show.
const PATIENCE: Duration = Duration::from_secs(5);

pub fn measure() {
    println!("policy change to effect, other pods in the cluster: 8 and 60");
    let runtime = stand::runtime();
    for pods in [10, 62] {
        runtime.block_on(changes(pods));
    }
}

async fn changes(count: usize) {
    let folder = stand::folder();
    let cluster = stand::cluster(&folder, 2).await;
    let pods = stand::pods(&cluster, count, &[8080]).await;
    // Neighbours by number are on different nodes.
    let (client, server) = (&pods[1], &pods[2]);
    let node = cluster.nodes.get(&client.node).unwrap();
    let mut ticks = Ticks::start(&**node, &client.uid, server.at(8080)).await;
    turned(&mut ticks, Duration::ZERO, true).await;
    let deny = stand::policy("deny", json!({"podSelector": {"matchLabels": {"parity": "even"}}}));
    let at = stand::policy_at("deny");
    let (mut closing, mut opening) = (Vec::new(), Vec::new());
    for _ in 0..CHANGES / 2 {
        let before = now();
        cluster.objects.apply(&deny).await.unwrap();
        closing.push(turned(&mut ticks, before, false).await);
        let before = now();
        cluster.objects.delete(&at).await.unwrap();
        opening.push(turned(&mut ticks, before, true).await);
    }
    println!("  {count} pods");
    println!(
        "    applied, until the first packet is dropped:  {}; {}",
        spread(&closing),
        within(median(&closing), BUDGET)
    );
    println!(
        "    deleted, until the first packet passes:      {}; {}",
        spread(&opening),
        within(median(&opening), BUDGET)
    );
    drop(ticks);
    cluster.destroy().await.unwrap();
}

/// Time from `since` to the first attempt with this outcome after it; the outcome then has to last.
async fn turned(ticks: &mut Ticks, since: Duration, answered: bool) -> Duration {
    let deadline = Instant::now() + PATIENCE;
    let mut first = None;
    let mut steady = 0;
    loop {
        let tick = tokio::time::timeout(PATIENCE, ticks.next()).await.expect("attempts are told");
        if tick.left < since {
            continue;
        }
        if tick.answered == answered {
            let first = *first.get_or_insert(tick.left);
            steady += 1;
            if steady == STEADY {
                return first - since;
            }
        } else {
            assert!(first.is_none(), "the verdict turned back after {steady} attempts");
            assert!(Instant::now() < deadline, "the change has no effect");
        }
    }
}
