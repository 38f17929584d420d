//! Owns the settings of a proxy in the forms in which distributions read them.

use std::net::Ipv4Addr;

use crate::distribution::ClusterSpec;

/// The way out of a network that has no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// `http://proxy.example:3128`.
    pub url: String,
    /// What a user wants to reach without it, besides the cluster itself.
    pub direct: Vec<String>,
}

impl Proxy {
    /// `NO_PROXY`: everything of the cluster, then what the user named. Without the blocks of pods and services
    /// containerd would ask the proxy for registries inside of the cluster.
    pub fn no_proxy(&self, spec: &ClusterSpec) -> String {
        let first_service = Ipv4Addr::from(u32::from(spec.service_cidr.network()) + 1);
        let mut direct = vec![spec.pod_cidr.to_string(), spec.service_cidr.to_string(), first_service.to_string()];
        direct.extend([".svc", ".svc.cluster", ".svc.cluster.local", "localhost", "127.0.0.1"].map(String::from));
        direct.extend(spec.members.iter().map(|member| member.address.to_string()));
        direct.extend(self.direct.iter().cloned());
        direct.join(",")
    }

    /// The variables in both spellings: programs differ in which they read.
    pub fn variables(&self, spec: &ClusterSpec) -> Vec<(String, String)> {
        let no_proxy = self.no_proxy(spec);
        let named = [("HTTP_PROXY", &self.url), ("HTTPS_PROXY", &self.url), ("NO_PROXY", &no_proxy)];
        let both = named.iter().flat_map(|(name, value)| {
            [((*name).to_string(), (*value).clone()), (name.to_ascii_lowercase(), (*value).clone())]
        });
        both.collect()
    }

    /// A drop-in for a unit of systemd. A `%` begins a specifier there, as in the escapes of a URL.
    pub fn drop_in(&self, spec: &ClusterSpec) -> String {
        let lines = self.variables(spec).into_iter();
        let lines = lines.map(|(name, value)| format!("Environment=\"{name}={}\"\n", value.replace('%', "%%")));
        format!("[Service]\n{}", lines.collect::<String>())
    }

    /// A file of variables, as in /etc/default.
    pub fn environment_file(&self, spec: &ClusterSpec) -> String {
        self.variables(spec).into_iter().map(|(name, value)| format!("{name}={value}\n")).collect()
    }
}
