//! How fast cknet is: a matrix judged, a cluster made, a policy in effect, a command answered. Medians and ratios.
//!
//! `cargo bench -p cknet --bench speed` measures everything, `... -- matrix policy` parts of it. Clusters are made of
//! namespaces with the executable of the same build; `docs/benchmarks.md` says what the figures mean.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod cluster;
mod commands;
mod figures;
mod matrix;
mod policy;
mod stand;
mod ticks;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().map(String::as_str) == Some(ticks::PERSONALITY) {
        return ticks::main(&arguments[1..]);
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("speed: measures only under `cargo bench`");
        return;
    }
    let chosen: Vec<&str> = arguments.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    println!("{}\n", figures::machine());
    let parts: [(&str, fn()); 4] = [
        ("commands", commands::measure),
        ("cluster", cluster::measure),
        ("policy", policy::measure),
        ("matrix", matrix::measure),
    ];
    for (name, measure) in parts {
        if chosen.is_empty() || chosen.contains(&name) {
            measure();
            println!("load after `{name}`: {}\n", figures::load());
        }
    }
}
