//! `cknet doctor`: what this machine can do, what it lacks, and the command that changes that.

use std::fmt::Write;
use std::path::Path;

use super::place::{self, Purpose};
use super::print;
use crate::exit::ExitCode;
use crate::provider::Provider;
use crate::provider::netns::Netns;

/// A program that is not needed, and what it adds.
struct Optional {
    program: &'static str,
    adds: &'static str,
    install: &'static str,
}

const OPTIONAL: [Optional; 6] = [
    Optional {
        program: "kubectl",
        adds: "to work with a cluster of `cknet up` by hand; 1.32 or newer for exec",
        install: "see https://kubernetes.io/docs/tasks/tools/",
    },
    Optional {
        program: "bird",
        adds: "for scenarios in which routes are exchanged over BGP",
        install: "apt-get install bird2",
    },
    Optional {
        program: "tinyproxy",
        adds: "to have nodes behind a real HTTP proxy instead of cknet's own",
        install: "apt-get install tinyproxy-bin",
    },
    Optional {
        program: "dockerd",
        adds: "for the tests against real programs in containers (`.ci/recipe containers`)",
        install: "apt-get install --no-install-recommends docker.io mmdebstrap",
    },
    Optional { program: "nft", adds: "to list rules on a node by hand", install: "apt-get install nftables" },
    Optional { program: "ip", adds: "to look at links and routes by hand", install: "apt-get install iproute2" },
];

pub fn doctor() -> ExitCode {
    let provider = Netns { executable: "/proc/self/exe".into(), folder: std::env::temp_dir() };
    let mut findings = provider.preflight();
    if findings.is_empty() {
        findings = provider.trial();
    }
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = match findings.is_empty() {
        true => writeln!(text, "provider netns: ready"),
        false => writeln!(text, "provider netns: cannot work here"),
    };
    for finding in &findings {
        let _ = writeln!(text, "  missing: {}\n  mend it: {}", finding.what, finding.fix);
    }
    for provider in place::lasting(&Purpose { run: "", folder: Path::new("/"), way_out: false }) {
        let findings = provider.preflight();
        let name = provider.name();
        let _ = match findings.is_empty() {
            true => {
                writeln!(text, "provider {name}: ready; cknet run {}, see docs/providers.md", place::chosen_by(name))
            }
            false => writeln!(text, "provider {name}: not ready; not needed for a run on namespaces"),
        };
        for finding in findings {
            let _ = writeln!(text, "  missing: {}\n  mend it: {}", finding.what, finding.fix);
        }
    }
    for optional in OPTIONAL {
        let _ = match on_path(optional.program) {
            Some(path) => writeln!(text, "{}: {}", optional.program, path.display()),
            None => writeln!(
                text,
                "{}: not installed; not needed for a run, good {}; {}",
                optional.program, optional.adds, optional.install
            ),
        };
    }
    match print(&text) {
        ExitCode::Passed if !findings.is_empty() => ExitCode::Infrastructure,
        code => code,
    }
}

fn on_path(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders = std::env::split_paths(&path).chain([Path::new("/usr/sbin").into(), Path::new("/sbin").into()]);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}
