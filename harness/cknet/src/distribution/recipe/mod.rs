//! What all recipes of real distributions share: steps as data, and the one place that carries them out on a node.
//!
//! A recipe says which files a node gets and which commands run there, in stages. It must not know how nodes were
//! made, and runs nothing itself.

mod install;
mod kubeconfig;
mod probe;
mod proxy;
mod site;

pub use self::install::{Cni, Install, InstallError, Version, of_a_snap, within};
pub use self::kubeconfig::point_at;
pub use self::probe::{ProbeImage, image_name};
pub use self::proxy::Proxy;
pub use self::site::{Site, Tell, Told, silent};

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::provider::{Exit, Invocation, NodeError};

/// Where on a node our own files lie.
pub const FOLDER: &str = "/var/lib/cknet";

/// Longest time for a command that changes one setting.
pub const QUICK: Duration = Duration::from_secs(60);

/// Longest time for what downloads packages or images.
pub const DOWNLOAD: Duration = Duration::from_secs(15 * 60);

/// The parts of making a cluster, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The node is looked at; nothing is changed.
    Preflight,
    /// Proxies are set where the distribution reads them.
    Proxy,
    /// The distribution's programs come onto the node.
    Install,
    /// Images from files.
    Images,
    /// The first node becomes a cluster.
    Bootstrap,
    /// The network of pods.
    Cni,
    /// Another node becomes a member.
    Join,
    /// The image of the pods that probe.
    Probe,
    /// The way for clients is fetched.
    Kubeconfig,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Preflight => "preflight",
            Self::Proxy => "proxy",
            Self::Install => "install",
            Self::Images => "images",
            Self::Bootstrap => "bootstrap",
            Self::Cni => "cni",
            Self::Join => "join",
            Self::Probe => "probe",
            Self::Kubeconfig => "kubeconfig",
        })
    }
}

/// One thing done on a node.
#[derive(Clone, Debug)]
pub struct Step {
    pub stage: Stage,
    pub action: Action,
    pub deadline: Duration,
    /// What it means when the command says no, where that is not plain from what it prints.
    pub means: Option<&'static str>,
    /// Words that let somebody in: they are shown nowhere.
    pub secrets: Vec<String>,
    /// What undoes it on a machine that goes on without the cluster, lines for `sh`; the last one is done first.
    pub undo: &'static [&'static str],
}

/// What is done on a node.
#[derive(Clone, Debug)]
pub enum Action {
    /// A file with this content.
    Put { path: String, mode: u32, content: String },
    /// A file of this machine.
    Copy { from: PathBuf, to: String },
    /// A file that was never one of this machine.
    Bring { content: Arc<[u8]>, to: String },
    /// A command that has to end with exit code 0.
    Run(Invocation),
}

impl Step {
    fn of(stage: Stage, action: Action, deadline: Duration) -> Self {
        Self { stage, action, deadline, means: None, secrets: Vec::new(), undo: &[] }
    }

    pub fn run<S: Into<String>>(stage: Stage, argv: impl IntoIterator<Item = S>) -> Self {
        Self::of(stage, Action::Run(Invocation::new(argv)), QUICK)
    }

    pub fn put(stage: Stage, path: impl Into<String>, mode: u32, content: impl Into<String>) -> Self {
        Self::of(stage, Action::Put { path: path.into(), mode, content: content.into() }, QUICK)
    }

    pub fn copy(stage: Stage, from: impl Into<PathBuf>, to: impl Into<String>) -> Self {
        Self::of(stage, Action::Copy { from: from.into(), to: to.into() }, DOWNLOAD)
    }

    pub fn bring(stage: Stage, content: Arc<[u8]>, to: impl Into<String>) -> Self {
        Self::of(stage, Action::Bring { content, to: to.into() }, DOWNLOAD)
    }

    pub fn within(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    pub fn means(self, means: &'static str) -> Self {
        Self { means: Some(means), ..self }
    }

    pub fn undoing(self, undo: &'static [&'static str]) -> Self {
        Self { undo, ..self }
    }

    /// Keeps a word of the command to ourselves; of a URL also who is let in there.
    pub fn hiding(mut self, secret: impl Into<String>) -> Self {
        let secret = secret.into();
        let who = let_in(&secret).map(String::from);
        self.secrets.extend([secret].into_iter().chain(who));
        self
    }

    /// The same text without the secrets.
    pub fn discreet(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_string(), |text, secret| text.replace(secret.as_str(), "***"))
    }

    /// Gives a command variables. Programs print the proxy that they were told when it does not do what they want, so
    /// that who is let in there is kept to ourselves.
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        if let Action::Run(invocation) = &mut self.action {
            for (name, value) in variables {
                self.secrets.extend(let_in(&value).map(String::from));
                invocation.environment.push((name, value));
            }
        }
        self
    }
}

/// `user:word` of `http://user:word@host:1`.
fn let_in(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let (who, _) = rest.rsplit_once('@')?;
    who.contains(':').then_some(who)
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { path, .. } => write!(f, "write {path}"),
            Self::Copy { from, to } => write!(f, "copy {} to {to}", from.display()),
            Self::Bring { content, to } => write!(f, "bring {} bytes to {to}", content.len()),
            Self::Run(invocation) => invocation.fmt(f),
        }
    }
}

/// A stage of a recipe did not come to its end on a node.
#[derive(Debug, thiserror::Error)]
#[error("{distribution}: stage `{stage}` on node `{node}`: {failure}{}", told(.evidence))]
pub struct StageError {
    pub distribution: &'static str,
    pub stage: Stage,
    pub node: String,
    pub failure: Failure,
    /// What the node's own logs say, shortened.
    pub evidence: String,
}

fn told(evidence: &str) -> String {
    if evidence.is_empty() { String::new() } else { format!("\nevidence:\n{evidence}") }
}

/// What went wrong on a node.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Node(NodeError),
    #[error("`{command}` ended with {exit}: {said}{}", .means.map(|means| format!(" ({means})")).unwrap_or_default())]
    Command { command: String, exit: Exit, said: String, means: Option<&'static str> },
    #[error("{awaited}: not within {deadline:?}; last seen: {last}")]
    Awaited { awaited: String, deadline: Duration, last: String },
    #[error("{awaited}: the node could not be asked for {silence:?}: {last}")]
    Lost { awaited: String, silence: Duration, last: String },
    #[error("it did not join with {attempts} tokens, each of them fresh: {last}")]
    TokensRefused { attempts: u32, last: String },
    #[error("`{command}` did not print {wanted}: `{found}`")]
    Answer { command: String, wanted: &'static str, found: String },
    #[error("cannot read `{}`: {cause}", path.display())]
    File { path: PathBuf, cause: String },
}
