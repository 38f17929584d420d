//! Owns what steps about HTTP proxies and image registries say, and variables of the environment.
//! Must not know how they are run.

use super::super::read::{record, text, words};
use super::{NodeName, NodeSet, PortNumber};

record! {
    "`proxy`";
    /// An HTTP proxy that passes on whatever it is asked for and opens tunnels.
    ///
    /// Its log is `/run/cknet/proxy/access.log` on its machine, with a line for each request that has its method and its
    /// URL as they were sent. No name server answers there: it knows no name but its own.
    pub struct HttpProxy {
        /// The machine on which it runs.
        pub node: NodeName,
        /// The TCP port on which it listens; 3128 unless given.
        pub port: Option<PortNumber>,
        /// By what it is done; `any` unless given.
        #[schemars(default)]
        pub engine: ProxyEngine = ProxyEngine::default(),
    }
}

words! {
    "a proxy";
    /// By what a proxy step is done.
    #[derive(Default)]
    pub enum ProxyEngine {
        /// By tinyproxy where it is installed, else by squid where that is, elsewhere by a small proxy of cknet.
        #[default]
        Any = "any",
        /// By tinyproxy.
        Tinyproxy = "tinyproxy",
        /// By squid.
        Squid = "squid",
        /// By the small proxy of cknet.
        BuiltIn = "built-in",
    }
}

record! {
    "proxy settings";
    /// Has the programs of nodes use a proxy, in place of what they were told before.
    ///
    /// Written are `/etc/environment`, with which commands on the node are run, and the settings of the service that pulls
    /// images. Pods are not told: they have the variables of their own `environment`.
    pub struct ProxySettings {
        /// The nodes.
        pub nodes: NodeSet,
        /// The proxy: `http://HOST:PORT`.
        pub proxy: String,
        /// Who is to be asked directly: the entries of `NO_PROXY`.
        #[schemars(default)]
        pub no_proxy: Vec<String> = Default::default(),
    }
}

record! {
    "`registry`";
    /// An image registry over plain HTTP, which has every image: a container of one does what its name says.
    ///
    /// Images that are named by its address and port are pulled from it.
    pub struct ImageRegistry {
        /// The machine on which it runs.
        pub node: NodeName,
        /// The TCP port on which it listens; 5000 unless given.
        pub port: Option<PortNumber>,
    }
}

/// The name of a variable of the environment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VariableName(String);

impl VariableName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

text!(VariableName, "VariableName", "a variable's name, like `no_proxy`",
pattern r"^[A-Za-z_][A-Za-z0-9_]*$",
parse |text: &str| {
    let good = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if good && text.bytes().next().is_some_and(|b| !b.is_ascii_digit()) {
        Ok(Self(text.to_owned()))
    } else {
        Err(format!("`{text}` is not {}", Self::WANTED))
    }
});
