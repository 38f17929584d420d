//! The texts of the files that a pod sees in place of its node's: resolver, hosts, host name. Pure.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{HostAlias, PodDNSConfig, PodSpec};

/// Where the names of the cluster are resolved.
#[derive(Clone, Copy, Debug)]
pub struct ClusterDns<'a> {
    pub server: Ipv4Addr,
    pub domain: &'a str,
}

/// The host name of a pod: what the spec says or its own name, cut to what the kernel takes.
pub fn host_name(spec: &PodSpec, pod_name: &str) -> String {
    let name = spec.hostname.as_deref().filter(|name| !name.is_empty()).unwrap_or(pod_name);
    name.chars().take(63).collect::<String>().trim_end_matches(['-', '.']).to_string()
}

/// Whether the pod shares the node's network namespace.
pub fn is_host_network(spec: &PodSpec) -> bool {
    spec.host_network == Some(true)
}

/// `/etc/resolv.conf` of a pod in `namespace`; `None` when it is the node's own.
pub fn resolver(spec: &PodSpec, namespace: &str, dns: ClusterDns<'_>) -> Option<String> {
    let extra = spec.dns_config.as_ref();
    let asks_cluster = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "ClusterFirst" => !is_host_network(spec),
        "ClusterFirstWithHostNet" => true,
        "None" => return Some(resolver_text(vec![], vec![], vec![], extra)),
        _ => false,
    };
    if !asks_cluster {
        return None;
    }
    let domain = dns.domain;
    let search = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_string()];
    Some(resolver_text(vec![dns.server.to_string()], search, vec!["ndots:5".into()], extra))
}

fn resolver_text(
    mut servers: Vec<String>,
    mut search: Vec<String>,
    mut options: Vec<String>,
    extra: Option<&PodDNSConfig>,
) -> String {
    if let Some(extra) = extra {
        servers.extend(extra.nameservers.iter().flatten().cloned());
        search.extend(extra.searches.iter().flatten().cloned());
        for option in extra.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            options.retain(|known| known.split(':').next() != Some(name));
            options.push(option.value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}:{value}")));
        }
    }
    let mut text = String::new();
    if !search.is_empty() {
        text.push_str(&format!("search {}\n", search.join(" ")));
    }
    for server in servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    text
}

/// `/etc/hosts` of a pod, once its address is known.
pub fn hosts(host_name: &str, address: Option<Ipv4Addr>, aliases: &[HostAlias]) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    if let Some(address) = address {
        text.push_str(&format!("{address}\t{host_name}\n"));
    }
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        text.push_str(&format!(
            "{}\t{}\n",
            alias.ip,
            alias.hostnames.iter().flatten().cloned().collect::<Vec<_>>().join("\t")
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn spec(fields: Value) -> PodSpec {
        let mut spec = json!({"containers": []});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    const CLUSTER: &str = "search production.svc.cluster.local svc.cluster.local cluster.local\n\
                           nameserver 10.252.0.10\noptions ndots:5\n";

    #[rstest]
    #[case(json!({}), Some(CLUSTER))]
    #[case(json!({"dnsPolicy": "ClusterFirst"}), Some(CLUSTER))]
    #[case(json!({"hostNetwork": true}), None)]
    #[case(json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}), Some(CLUSTER))]
    #[case(json!({"dnsPolicy": "Default"}), None)]
    #[case(json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.1"], "searches": ["a.b"],
        "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}),
        Some("search a.b\nnameserver 192.0.2.1\noptions ndots:2 edns0\n"))]
    fn the_resolver_follows_the_policy(#[case] fields: Value, #[case] expected: Option<&str>) {
        let dns = ClusterDns { server: Ipv4Addr::new(10, 252, 0, 10), domain: "cluster.local" };
        assert_eq!(resolver(&spec(fields), "production", dns).as_deref(), expected);
    }

    #[test]
    fn the_config_replaces_options_of_the_same_name() {
        let dns = ClusterDns { server: Ipv4Addr::new(10, 252, 0, 10), domain: "cluster.local" };
        let spec = spec(json!({"dnsConfig": {"options": [{"name": "ndots", "value": "1"}]}}));
        assert!(resolver(&spec, "p", dns).unwrap().ends_with("options ndots:1\n"));
    }

    #[test]
    fn hosts_name_the_pod_and_its_aliases() {
        let aliases: Vec<HostAlias> =
            serde_json::from_value(json!([{"ip": "192.0.2.9", "hostnames": ["db", "db.x"]}])).unwrap();
        let text = hosts("web-1", Some(Ipv4Addr::new(10, 1, 0, 5)), &aliases);
        assert!(text.contains("10.1.0.5\tweb-1\n"), "{text}");
        assert!(text.ends_with("192.0.2.9\tdb\tdb.x\n"), "{text}");
    }

    #[test]
    fn a_host_name_fits_the_kernel() {
        let long = format!("{}-tail", "a".repeat(62));
        assert_eq!(host_name(&spec(json!({})), &long), "a".repeat(62));
        assert_eq!(host_name(&spec(json!({"hostname": "db"})), "x"), "db");
    }
}
