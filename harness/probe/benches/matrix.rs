//! How long a full matrix takes: pods behind one router, every second pair cut without a word.
//!
//! Run as root with `cargo bench -p cknet-probe`. Each pod answers on a thread of its own, so servers and prober
//! share the machine's processors as they would on one node. Prints medians.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../tests/lab/mod.rs"]
mod lab;

use std::time::{Duration, Instant};

use cknet_probe::engine::{Prober, raise_open_file_limit};
use cknet_probe::wire::frame;
use cknet_probe::wire::{AgentReply, AgentRequest, Batch, Cell, Expect, Sight, Target, VantageId};
use lab::Lab;

const QUIET: Duration = Duration::from_millis(50);
const ROUNDS: usize = 15;

fn main() {
    // `cargo test --benches` only wants to know that it runs.
    let rounds = if std::env::args().any(|argument| argument == "--test") { 1 } else { ROUNDS };
    if let Err(error) = cknet_kernel::ns::NetNs::create() {
        println!("matrix: not run: cannot make a network namespace: {error}");
        return;
    }
    raise_open_file_limit().unwrap();
    println!("median of {rounds} passes, quiet {} ms, half of the pairs cut", QUIET.as_millis());
    println!(
        "{:>5} {:>6} {:>6} {:>11} {:>9} {:>10} {:>9} {:>9}",
        "pods", "ports", "cells", "launched ms", "pass ms", "rtt p99 ms", "frames ms", "close ms"
    );
    for (pods, ports) in [(9, 6), (60, 2)] {
        run(pods, ports, rounds);
    }
}

fn run(pods: u16, ports: u16, rounds: usize) {
    let mut lab = Lab::new(pods);
    let listen: Vec<String> = (0..ports).map(|port| format!("{}/tcp", 1000 + port)).collect();
    let listen: Vec<&str> = listen.iter().map(String::as_str).collect();
    for pod in &mut lab.pods {
        let identity = format!("bench/{}", pod.ip);
        pod.serve(&identity, &listen);
    }
    let mut prober = Prober::new().unwrap();
    let name = |pod: usize| VantageId::new(format!("bench/pod-{pod}"));
    for pod in 0..lab.pods.len() {
        prober.attach(&name(pod), &lab.path(pod)).unwrap();
    }
    let batch = matrix(&lab, ports, name);
    let mut times: [Vec<Duration>; 5] = Default::default();
    for _ in 0..rounds {
        let started = Instant::now();
        let asked = frame::encode(&AgentRequest::Probe(batch.clone())).unwrap();
        let AgentRequest::Probe(batch) = frame::decode(&asked[4..]).unwrap() else { unreachable!() };
        let mut framing = started.elapsed();
        let mut pass = prober.probe(&batch);
        let (launched, took) = (pass.launched, pass.took);
        check(&batch, &pass.observations);
        let slowest = p99(&pass.observations);
        let list = std::mem::take(&mut pass.observations);
        let started = Instant::now();
        let reply = frame::encode(&AgentReply::Observations { pass: 0, list, launched_us: 0, took_us: 0 }).unwrap();
        frame::decode::<AgentReply>(&reply[4..]).unwrap();
        framing += started.elapsed();
        let started = Instant::now();
        drop(pass);
        for (list, time) in times.iter_mut().zip([launched, took, slowest, framing, started.elapsed()]) {
            list.push(time);
        }
    }
    let [launched, took, slowest, framing, closing] = times.map(median);
    println!(
        "{pods:>5} {ports:>6} {:>6} {launched:>11.1} {took:>9.1} {slowest:>10.1} {framing:>9.1} {closing:>9.1}",
        batch.cells.len()
    );
}

/// Every pod to every other on every port; every second pair meets a ghost.
fn matrix(lab: &Lab, ports: u16, name: impl Fn(usize) -> VantageId) -> Batch {
    let mut cells = Vec::new();
    for from in 0..lab.pods.len() {
        for to in (0..lab.pods.len()).filter(|to| *to != from) {
            for port in 1000..1000 + ports {
                let pod = &lab.pods[to];
                let address = if (from + to) % 2 == 0 { pod.at(port) } else { pod.ghost(port) };
                let target = Target::Tcp { address, expect: Expect::Echo };
                cells.push(Cell { id: cells.len() as u32, from: name(from), target });
            }
        }
    }
    Batch { pass: 0, cells, quiet: QUIET, cap: Duration::from_secs(2) }
}

fn check(batch: &Batch, seen: &[cknet_probe::wire::Observation]) {
    for (cell, one) in batch.cells.iter().zip(seen) {
        let open = cell.target.ip().to_string().starts_with("10.9.");
        assert_eq!(one.sight, if open { Sight::Answered } else { Sight::Silent }, "{cell:?}");
    }
}

/// The round-trip time that 99 of 100 answered cells stay below.
fn p99(seen: &[cknet_probe::wire::Observation]) -> Duration {
    let mut times: Vec<_> = seen.iter().filter_map(|one| one.rtt_us).collect();
    times.sort();
    Duration::from_micros(times[times.len() * 99 / 100])
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}
