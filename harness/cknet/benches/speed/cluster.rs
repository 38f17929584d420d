//! Clusters from nothing to Ready, and back to nothing.

use std::time::{Duration, Instant};

use cknet::cluster::Timings;

use crate::figures::{median, spread, text, within};
use crate::stand;

/// One cluster's life.
struct Life {
    timings: Timings,
    /// From the first pod object to the last pod running.
    pods: Duration,
    destroy: Duration,
}

pub fn measure() {
    println!("cluster from nothing to Ready");
    let runtime = stand::runtime();
    // The first one reads the executable from the disk.
    runtime.block_on(live(2, 0));
    let mut per_node = Vec::new();
    for (nodes, pods, rounds, budget) in
        [(3, 0, 15, Some(Duration::from_millis(700))), (10, 0, 5, None), (20, 200, 3, Some(Duration::from_secs(8)))]
    {
        let lives: Vec<Life> = (0..rounds).map(|_| runtime.block_on(live(nodes - 1, pods))).collect();
        let of = |stage: fn(&Life) -> Duration| lives.iter().map(stage).collect::<Vec<_>>();
        let all = of(|life| life.timings.total() + life.pods);
        println!("  {nodes} nodes, {pods} pods: {}", spread(&all));
        let stage = |name: &str, times: Vec<Duration>| println!("    {name:<10} {}", text(median(&times)));
        stage("provision", of(|life| life.timings.provision));
        stage("bootstrap", of(|life| life.timings.bootstrap));
        stage("ready", of(|life| life.timings.ready));
        if pods > 0 {
            stage("pods", of(|life| life.pods));
        }
        stage("destroy", of(|life| life.destroy));
        if let Some(budget) = budget {
            println!("    {}", within(median(&all), budget));
        }
        let made = median(&of(|life| life.timings.total()));
        per_node.push(format!("{nodes} nodes {}", text(made / u32::from(nodes))));
    }
    println!("  time per node without pods: {}", per_node.join(", "));
}

async fn live(workers: u8, pods: usize) -> Life {
    let folder = stand::folder();
    let cluster = stand::cluster(&folder, workers).await;
    let started = Instant::now();
    if pods > 0 {
        stand::pods(&cluster, pods, &[8080]).await;
    }
    let pods = started.elapsed();
    let timings = cluster.timings;
    let started = Instant::now();
    cluster.destroy().await.unwrap();
    Life { timings, pods, destroy: started.elapsed() }
}
