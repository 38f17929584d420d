//! What is told of a run before anything is made: what it runs on, and the command that runs it again.

use super::Options;
use crate::cli::workshop::Workshop;
use crate::distribution::Distribution;
use crate::event::{Fidelity, RunStarted};
use crate::plan::fidelity;
use crate::run::planned;
use crate::scenario::Scenario;

/// What is known before the first change to a network.
pub fn started(workshop: &Workshop, seed: u64, scenarios: &[Scenario], options: &Options) -> RunStarted {
    let (provider, distribution) = (workshop.provider(), workshop.distribution());
    let mut again: Vec<String> = vec!["cknet".into(), "run".into()];
    again.extend(options.selection.filter.iter().cloned());
    let shard = options.partition.map(|partition| partition.to_string());
    again.extend(shard.iter().flat_map(|shard| ["--partition".into(), shard.clone()]));
    again.extend(options.product.words());
    again.extend(options.place.words());
    again.extend(["--seed".into(), seed.to_string()]);
    let system = nix::sys::utsname::uname().ok();
    let told = |part: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
        system.as_ref().map(|system| part(system).to_string_lossy().into_owned()).unwrap_or_default()
    };
    RunStarted {
        run: workshop.ledger.run().clone(),
        seed,
        provider: provider.name().into(),
        distribution: distribution.name().into(),
        fidelity: fidelity(provider, distribution),
        host: told(|system| system.nodename()),
        kernel: told(|system| system.release()),
        arch: told(|system| system.machine()),
        cni: Some(cni(distribution)),
        versions: [("cknet".to_string(), env!("CARGO_PKG_VERSION").to_string())].into(),
        variant: [
            ("distribution".to_string(), distribution.name().to_string()),
            ("provider".to_string(), provider.name().to_string()),
        ]
        .into_iter()
        .chain(options.product.variant())
        .collect(),
        shard,
        again,
        planned: scenarios.iter().map(planned).collect(),
    }
}

/// The network of pods, for the record.
fn cni(distribution: &dyn Distribution) -> String {
    match distribution.fidelity() {
        Fidelity::Cluster => distribution.profile().into(),
        Fidelity::Model | Fidelity::Dataplane => "calico (model)".into(),
    }
}
