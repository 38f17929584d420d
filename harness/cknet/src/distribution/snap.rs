//! What snaps of Kubernetes have in common: the daemon that installs them, its proxy, and files instead of the store.

use super::recipe::{DOWNLOAD, FOLDER, Install, Proxy, Stage, Step};

/// The snap daemon of a fresh machine first installs what its image brings.
pub fn seeded() -> Step {
    Step::run(Stage::Preflight, ["snap", "wait", "system", "seed.loaded"]).within(DOWNLOAD)
}

/// The cluster knows a node by the name of its machine.
pub fn named(name: &str) -> Step {
    let test = format!("test \"$(uname -n)\" = {name}");
    Step::run(Stage::Preflight, ["sh", "-c", &test]).means("the machine has another name than the node in the scenario")
}

/// The store is asked through the proxy.
pub fn proxy(proxy: &Proxy) -> Vec<Step> {
    let set = |scheme: &str| format!("proxy.{scheme}={}", proxy.url);
    vec![Step::run(Stage::Proxy, ["snap", "set", "system", &set("http"), &set("https")]).hiding(&proxy.url)]
}

/// From its channel, or from a file: that has no signature, which `--dangerous` accepts.
pub fn install(snap: &str, wanted: &Install, stage: Stage) -> Vec<Step> {
    let Some(file) = &wanted.package else {
        let channel = format!("--channel={}", wanted.channel);
        return vec![Step::run(stage, ["snap", "install", snap, "--classic", &channel]).within(DOWNLOAD)];
    };
    let there = format!("{FOLDER}/{snap}.snap");
    vec![
        Step::copy(stage, file, &there),
        Step::run(stage, ["snap", "install", "--classic", "--dangerous", &there]).within(DOWNLOAD),
    ]
}
