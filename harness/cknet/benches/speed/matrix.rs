//! A connectivity matrix under policies that cut every second cell: cknet's way, and beside it the way every other
//! suite does it, one `exec` through the API per probe and three of them at a time.

use std::time::{Duration, Instant};

use cknet::cluster::Cluster;
use cknet::vantage::Question;
use cknet_probe::wire::{Expect, Observation, Sight, Target};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::AttachParams;
use serde_json::json;
use tokio::io::AsyncReadExt;

use crate::figures::{median, spread, text, within};
use crate::stand::{self, Answering};

/// Repetitions of each matrix.
const ROUNDS: usize = 100;

/// Cells asked the other way; the whole matrix would take minutes.
const SAMPLE: usize = 60;

/// The patience of one probe the other way. Suites wait 1 to 3 seconds; the shortest is the fairest to them.
const PATIENCE: &str = "1s";

/// Probes under way at once the other way: what upstream's network policy suite does.
const AT_ONCE: usize = 3;

struct Cell {
    question: Question,
    from: String,
    to: std::net::SocketAddr,
    allowed: bool,
}

pub fn measure() {
    println!("matrix on 3 nodes, cut by policies where the numbers of the pods differ in parity");
    let runtime = stand::runtime();
    for (pods, ports, budget) in [(9, 6, Duration::from_millis(100)), (60, 2, Duration::from_millis(250))] {
        runtime.block_on(one(pods, ports, budget));
    }
}

async fn one(count: usize, ports: u16, budget: Duration) {
    let folder = stand::folder();
    let cluster = stand::cluster(&folder, 2).await;
    let ports: Vec<u16> = (8000..8000 + ports).collect();
    let pods = stand::pods(&cluster, count, &ports).await;
    let cells = cells(&pods, &ports);
    calibrate(&cluster, &cells).await;
    for parity in ["even", "odd"] {
        let selector = json!({"matchLabels": {"parity": parity}});
        let spec = json!({"podSelector": selector, "ingress": [{"from": [{"podSelector": selector}]}]});
        cluster.objects.apply(&stand::policy(parity, spec)).await.unwrap();
    }
    settle(&cluster, &cells).await;
    let allowed = cells.iter().filter(|cell| cell.allowed).count();
    let (times, wrong) = judged(&cluster, &cells).await;
    println!(
        "  {count} pods x {} ports: {} cells, {allowed} allowed, {} dropped, silence after {}",
        ports.len(),
        cells.len(),
        cells.len() - allowed,
        text(cluster.prober.quiet()),
    );
    println!("    cknet: {}; {}", spread(&times), within(median(&times), budget));
    println!("    wrong verdicts: {wrong} of {}", cells.len() * ROUNDS);
    let (others, sample) = the_other_way(&cluster, &cells).await;
    let ours = median(&times).as_secs_f64() / cells.len() as f64;
    let theirs = others.as_secs_f64() / sample as f64;
    println!(
        "    one exec per probe, {AT_ONCE} at a time, patience {PATIENCE}: {} for {sample} cells, {} per cell; cknet {:.0} us per cell: {:.0} times faster",
        text(others),
        text(Duration::from_secs_f64(theirs)),
        ours * 1e6,
        theirs / ours,
    );
    cluster.destroy().await.unwrap();
}

/// Every pod to every other pod on every port.
fn cells(pods: &[Answering], ports: &[u16]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (from_number, from) in pods.iter().enumerate() {
        for (to_number, to) in pods.iter().enumerate().filter(|(number, _)| *number != from_number) {
            for port in ports {
                let address = to.at(*port);
                let target = Target::Tcp { address, expect: Expect::Echo };
                cells.push(Cell {
                    question: Question { from: from.vantage(), target },
                    from: from.name.clone(),
                    to: address,
                    allowed: from_number % 2 == to_number % 2,
                });
            }
        }
    }
    cells
}

fn questions(cells: &[Cell]) -> Vec<Question> {
    cells.iter().map(|cell| cell.question.clone()).collect()
}

/// Before a policy cuts anything every cell answers; that is when the deadline for silence is set.
async fn calibrate(cluster: &Cluster, cells: &[Cell]) {
    let questions = questions(cells);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let seen = cluster.prober.ask(&questions).await.unwrap();
        if seen.iter().all(|seen| seen.sight == Sight::Answered) {
            return cluster.prober.calibrate(&questions).await.unwrap();
        }
        assert!(Instant::now() < deadline, "without policies not every cell answers");
    }
}

/// Until the policies are in effect everywhere.
async fn settle(cluster: &Cluster, cells: &[Cell]) {
    let questions = questions(cells);
    let deadline = Instant::now() + Duration::from_secs(20);
    while wrong(cells, &cluster.prober.ask(&questions).await.unwrap()) > 0 {
        assert!(Instant::now() < deadline, "the policies are not in effect");
    }
}

fn one_per_node(questions: &[Question]) -> Vec<Question> {
    let mut nodes = std::collections::BTreeSet::new();
    questions.iter().filter(|question| nodes.insert(&question.from.node)).cloned().collect()
}

fn wrong(cells: &[Cell], seen: &[Observation]) -> usize {
    let expected = |cell: &Cell| if cell.allowed { Sight::Answered } else { Sight::Silent };
    cells.iter().zip(seen).filter(|(cell, seen)| seen.sight != expected(cell)).count()
}

async fn judged(cluster: &Cluster, cells: &[Cell]) -> (Vec<Duration>, usize) {
    let (mut times, mut failures, mut shown) = (Vec::new(), 0, false);
    let questions = questions(cells);
    for _ in 0..ROUNDS {
        // An agent closes the connections of a matrix after it has answered; this waits until it has.
        cluster.prober.ask(&one_per_node(&questions)).await.unwrap();
        let started = Instant::now();
        let seen = cluster.prober.ask(&questions).await.unwrap();
        let wrong = wrong(cells, &seen);
        times.push(started.elapsed());
        failures += wrong;
        if wrong > 0 && !shown {
            shown = true;
            let unlike = |(cell, seen): &(&Cell, &Observation)| cell.allowed != (seen.sight == Sight::Answered);
            println!("    the first wrong verdict: {:?}", cells.iter().zip(&seen).find(unlike).map(|(_, seen)| seen));
        }
    }
    (times, failures)
}

/// A sample of the cells, spread over the whole matrix, through `exec`.
async fn the_other_way(cluster: &Cluster, cells: &[Cell]) -> (Duration, usize) {
    // A stride without a factor in common with the rows takes allowed and dropped cells alike.
    let stride = (cells.len() / SAMPLE) | 1;
    let sample: Vec<&Cell> = cells.iter().step_by(stride).take(SAMPLE).collect();
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), "default");
    let started = Instant::now();
    let asked = futures::stream::iter(&sample).map(|cell| exec(&pods, cell)).buffer_unordered(AT_ONCE);
    asked.for_each(|()| std::future::ready(())).await;
    (started.elapsed(), sample.len())
}

async fn exec(pods: &Api<Pod>, cell: &Cell) {
    let command = ["cknet", "connect", &cell.to.to_string(), "--timeout", PATIENCE].map(String::from);
    let streams = AttachParams::default().stdout(true).stderr(true);
    let mut process = pods.exec(&cell.from, command, &streams).await.unwrap();
    let status = process.take_status().unwrap();
    let (mut stdout, mut stderr) = (process.stdout().unwrap(), process.stderr().unwrap());
    let (mut said, mut complained) = (String::new(), String::new());
    let (_, _, status) = tokio::join!(stdout.read_to_string(&mut said), stderr.read_to_string(&mut complained), status);
    let reached = status.and_then(|status| status.status).as_deref() == Some("Success");
    assert_eq!(reached, cell.allowed, "{} -> {}: {said}{complained}", cell.from, cell.to);
}
