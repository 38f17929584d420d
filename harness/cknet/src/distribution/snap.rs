//! What snaps of Kubernetes have in common: the daemon that installs them, its proxy, and files instead of the store.

use std::path::Path;

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

/// Writes down what the machine's own proxy is, before ours takes its place.
const KEEP_PROXY: &str = "umask 077; mkdir -p /var/lib/cknet; for of in http https; do \
                          kept=/var/lib/cknet/snap-proxy.$of; [ -e $kept ] || \
                          snap get system proxy.$of >$kept 2>/dev/null || true; done";

/// Sets it again, or none where there was none.
const UNDO_PROXY: &str = "for of in http https; do was=$(cat /var/lib/cknet/snap-proxy.$of 2>/dev/null); \
                          if [ -n \"$was\" ]; then snap set system proxy.$of=\"$was\"; \
                          else snap unset system proxy.$of; fi; done";

/// The store is asked through the proxy.
pub fn proxy(proxy: &Proxy) -> Vec<Step> {
    let set = |scheme: &str| format!("proxy.{scheme}={}", proxy.url);
    vec![
        Step::run(Stage::Proxy, ["sh", "-c", KEEP_PROXY]),
        Step::run(Stage::Proxy, ["snap", "set", "system", &set("http"), &set("https")])
            .hiding(&proxy.url)
            .undoing(&[UNDO_PROXY]),
    ]
}

/// From its channel, or from a file, after the snaps that it is based on.
pub fn install(snap: &str, wanted: &Install, stage: Stage) -> Vec<Step> {
    let Some((file, bases)) = wanted.packages.split_first() else {
        let channel = format!("--channel={}", wanted.channel);
        return vec![Step::run(stage, ["snap", "install", snap, "--classic", &channel]).within(DOWNLOAD)];
    };
    let bases =
        bases.iter().enumerate().flat_map(|(number, base)| by_file(&format!("base-{number}"), base, &[], stage));
    bases.chain(by_file(snap, file, &["--classic"], stage)).collect()
}

/// What vouches for a file lies beside it, as `snap download` puts it there; one for which nothing does is accepted by
/// `--dangerous`.
fn by_file(name: &str, file: &Path, flags: &[&str], stage: Stage) -> Vec<Step> {
    let there = |kind: &str| format!("{FOLDER}/{name}.{kind}");
    let mut steps = vec![Step::copy(stage, file, there("snap"))];
    let mut argv = [&["snap", "install"], flags].concat();
    let assertions = file.with_extension("assert");
    if assertions.is_file() {
        steps.push(Step::copy(stage, assertions, there("assert")));
        steps.push(Step::run(stage, ["snap", "ack", &there("assert")]));
    } else {
        argv.push("--dangerous");
    }
    let snap = there("snap");
    argv.push(&snap);
    steps.push(Step::run(stage, argv).within(DOWNLOAD));
    steps
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::process::Command;

    use super::*;

    /// A `snap` that keeps what it is told to in a file.
    const SNAP: &str = "snap() { verb=$1; shift 2; key=${1%%=*}; case $verb in \
                        get) cat $key 2>/dev/null;; set) printf '%s\n' \"${1#*=}\" >$key;; unset) rm -f $key;; esac; }";

    #[test]
    fn a_machine_gets_its_own_proxy_back() {
        let folder = tempfile::tempdir().unwrap();
        let said = |script: &str| {
            let kept = folder.path().join("kept").display().to_string();
            let script = format!("{SNAP}; {}", script.replace("/var/lib/cknet", &kept));
            let output = Command::new("sh").args(["-eu", "-c", &script]).current_dir(folder.path()).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        said("snap set system proxy.http=http://u:p@own.example:3128");
        said(KEEP_PROXY);
        said("snap set system proxy.http=http://ours; snap set system proxy.https=http://ours");
        // As for a second cluster on the same machine.
        said(KEEP_PROXY);
        said(UNDO_PROXY);
        assert_eq!(said("snap get system proxy.http"), "http://u:p@own.example:3128\n");
        assert_eq!(said("[ ! -e proxy.https ] && echo none"), "none\n");
    }
}
