//! Owns expectations about what programs print: commands on nodes and in pods, and logs.
//! Must not know how they are run and read.

use super::super::late::Text;
use super::super::read::{record, words};
use super::Endpoint;

record! {
    "`command`";
    /// How a command ends and what it prints.
    ///
    /// In a pod it is run by the API server's `exec`, which needs the port of the node's kubelet; on a node directly.
    pub struct Command {
        /// Where it is run: a workload or `node:NAME`.
        pub at: Endpoint,
        /// The program and its arguments; no shell reads them.
        pub argv: Vec<Text>,
        /// The exit code; 0 unless given.
        #[schemars(default)]
        pub exit: u8 = 0,
        /// What stands in its output.
        pub prints: Option<Text>,
        /// Whether the API server reaches the kubelet; `reached` unless given.
        #[schemars(default)]
        pub kubelet: Kubelet = Kubelet::default(),
    }
}

record! {
    "`log`";
    /// What stands in a log.
    ///
    /// That of a pod is read through the API server, which needs the port of the node's kubelet; that of a program on a
    /// node directly.
    pub struct Log {
        /// Whose: a workload or `node:NAME`.
        pub of: Endpoint,
        /// On a node: the file.
        pub file: Option<String>,
        /// A text that some line has. Without it, the log can be read.
        pub has: Option<Text>,
        /// Whether there is such a line; `true` unless given.
        #[schemars(default = "yes")]
        pub present: bool = yes(),
        /// Whether the API server reaches the kubelet; `reached` unless given.
        #[schemars(default)]
        pub kubelet: Kubelet = Kubelet::default(),
    }
}

const fn yes() -> bool {
    true
}

words! {
    "a state of the way to a kubelet";
    /// Whether the API server reaches a kubelet.
    #[derive(Default)]
    pub enum Kubelet {
        /// It does.
        #[default]
        Reached = "reached",
        /// It does not, and says so.
        Unreached = "unreached",
    }
}
