//! The environment of a container: the spec's variables with their references resolved, and those that every
//! container gets. Pure: what has to be fetched is fetched before.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Container, EnvVarSource, Pod};

/// Where programs of the node and of the distribution are found: on a node of namespaces, and on a machine.
pub const PATH: &str = "/run/cknet/bin:/var/lib/cknet/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const NODE_KUBECONFIG: &str = "/etc/kubernetes/kubelet.conf";

/// The folder of our programs in containers of public images.
pub const PUBLIC_PROGRAMS: &str = "/.cknet/bin";
/// Where programs are found in containers of public images: ours, which are linked to there, before the machine's.
pub const PUBLIC_PATH: &str =
    "/.cknet/bin:/run/cknet/bin:/var/lib/cknet/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables in the order in which they were set; a later one wins.
pub type Variables = Vec<(String, String)>;

/// An object that variables are taken from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    ConfigMap(String),
    Secret(String),
}

/// The data of each [`Source`] that exists.
pub type Sources = BTreeMap<Source, BTreeMap<String, String>>;

/// What is known about a container besides its spec.
pub struct Facts<'a> {
    pub pod: &'a Pod,
    pub node_name: &'a str,
    pub host_ip: Ipv4Addr,
    pub pod_ip: Option<Ipv4Addr>,
    pub host_name: &'a str,
    /// Where programs are found unless the spec says otherwise.
    pub path: &'a str,
    /// The `kubernetes` service, once it is known.
    pub kubernetes: Option<(String, i32)>,
    pub sources: &'a Sources,
}

/// The objects that have to be fetched for `container`.
pub fn wanted_sources(container: &Container) -> Vec<Source> {
    let from = container.env_from.iter().flatten().flat_map(|from| {
        let map = from.config_map_ref.iter().map(|map| Source::ConfigMap(map.name.clone()));
        map.chain(from.secret_ref.iter().map(|secret| Source::Secret(secret.name.clone())))
    });
    let single = container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()).flat_map(|from| {
        let map = from.config_map_key_ref.iter().map(|key| Source::ConfigMap(key.name.clone()));
        map.chain(from.secret_key_ref.iter().map(|key| Source::Secret(key.name.clone())))
    });
    let mut wanted: Vec<Source> = from.chain(single).collect();
    wanted.sort();
    wanted.dedup();
    wanted
}

/// All variables of `container`, or what is missing, in the words of a kubelet.
pub fn variables(container: &Container, facts: &Facts<'_>) -> Result<Variables, String> {
    let mut variables = given_to_all(facts);
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let source = match (&from.config_map_ref, &from.secret_ref) {
            (Some(map), _) => Some((Source::ConfigMap(map.name.clone()), map.optional)),
            (_, Some(secret)) => Some((Source::Secret(secret.name.clone()), secret.optional)),
            _ => None,
        };
        let Some((source, optional)) = source else {
            continue;
        };
        match facts.sources.get(&source) {
            Some(data) => variables.extend(data.iter().map(|(key, value)| (format!("{prefix}{key}"), value.clone()))),
            None if optional == Some(true) => {}
            None => return Err(missing(&source)),
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) => Some(expand(value, &variables)),
            (None, Some(from)) => referred(from, facts)?,
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            set(&mut variables, &variable.name, value);
        }
    }
    Ok(variables)
}

fn set(variables: &mut Variables, name: &str, value: String) {
    variables.retain(|(known, _)| known != name);
    variables.push((name.into(), value));
}

fn given_to_all(facts: &Facts<'_>) -> Variables {
    let meta = &facts.pod.metadata;
    let (namespace, name) = (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    let mut variables = vec![
        ("PATH".into(), facts.path.into()),
        ("HOSTNAME".into(), facts.host_name.into()),
        ("KUBECONFIG".into(), NODE_KUBECONFIG.into()),
        ("CKNET_IDENTITY".into(), format!("{namespace}/{name}")),
    ];
    if let Some((host, port)) = &facts.kubernetes {
        let url = format!("tcp://{host}:{port}");
        variables.extend([
            ("KUBERNETES_SERVICE_HOST".into(), host.clone()),
            ("KUBERNETES_SERVICE_PORT".into(), port.to_string()),
            ("KUBERNETES_SERVICE_PORT_HTTPS".into(), port.to_string()),
            ("KUBERNETES_PORT".into(), url.clone()),
            (format!("KUBERNETES_PORT_{port}_TCP"), url),
            (format!("KUBERNETES_PORT_{port}_TCP_PROTO"), "tcp".into()),
            (format!("KUBERNETES_PORT_{port}_TCP_PORT"), port.to_string()),
            (format!("KUBERNETES_PORT_{port}_TCP_ADDR"), host.clone()),
        ]);
    }
    variables
}

fn missing(source: &Source) -> String {
    match source {
        Source::ConfigMap(name) => format!("configmap \"{name}\" not found"),
        Source::Secret(name) => format!("secret \"{name}\" not found"),
    }
}

/// The value of a reference; `None` when it is optional and absent.
fn referred(from: &EnvVarSource, facts: &Facts<'_>) -> Result<Option<String>, String> {
    let keyed = |source: Source, kind: &str, key: &str, optional: Option<bool>| {
        let optional = optional == Some(true);
        match facts.sources.get(&source) {
            None if optional => Ok(None),
            None => Err(missing(&source)),
            Some(data) => match data.get(key) {
                None if !optional => {
                    let namespace = facts.pod.metadata.namespace.as_deref().unwrap_or_default();
                    let (Source::ConfigMap(name) | Source::Secret(name)) = &source;
                    Err(format!("couldn't find key {key} in {kind} {namespace}/{name}"))
                }
                found => Ok(found.cloned()),
            },
        }
    };
    if let Some(key) = &from.config_map_key_ref {
        return keyed(Source::ConfigMap(key.name.clone()), "ConfigMap", &key.key, key.optional);
    }
    if let Some(key) = &from.secret_key_ref {
        return keyed(Source::Secret(key.name.clone()), "Secret", &key.key, key.optional);
    }
    if let Some(field) = &from.field_ref {
        return field_of(&field.field_path, facts).map(Some);
    }
    Err("only configMapKeyRef, secretKeyRef and fieldRef are supported as the source of a variable".into())
}

fn field_of(path: &str, facts: &Facts<'_>) -> Result<String, String> {
    let meta = &facts.pod.metadata;
    let in_map = |map: &Option<BTreeMap<String, String>>, rest: &str| {
        let key = rest.strip_prefix("['")?.strip_suffix("']")?;
        Some(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default())
    };
    let value = match path {
        "metadata.name" => meta.name.clone(),
        "metadata.namespace" => meta.namespace.clone(),
        "metadata.uid" => meta.uid.clone(),
        "spec.nodeName" => Some(facts.node_name.into()),
        "spec.serviceAccountName" => facts.pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone()),
        "status.hostIP" | "status.hostIPs" => Some(facts.host_ip.to_string()),
        "status.podIP" | "status.podIPs" => Some(facts.pod_ip.map(|ip| ip.to_string()).unwrap_or_default()),
        _ => path
            .strip_prefix("metadata.labels")
            .and_then(|rest| in_map(&meta.labels, rest))
            .or_else(|| path.strip_prefix("metadata.annotations").and_then(|rest| in_map(&meta.annotations, rest))),
    };
    value.ok_or_else(|| format!("unsupported fieldPath: {path}"))
}

/// Replaces `$(NAME)` by the variable's value; unknown names stay as they are and `$$` is a dollar sign.
pub fn expand(text: &str, variables: &Variables) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match variables.iter().rev().find(|(known, _)| known == name) {
                Some((_, value)) => expanded.push_str(value),
                None => expanded.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            expanded.push('$');
        }
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    #[rstest]
    #[case("plain", "plain")]
    #[case("$(A)-$(B)", "1-2")]
    #[case("$(NONE) stays", "$(NONE) stays")]
    #[case("$$(A)", "$(A)")]
    #[case("$$$(A)", "$1")]
    #[case("cost: 5$", "cost: 5$")]
    #[case("$(A", "$(A")]
    #[case("$A", "$A")]
    fn references_are_expanded_as_kubernetes_does(#[case] text: &str, #[case] expected: &str) {
        let variables = vec![("A".to_string(), "1".to_string()), ("B".to_string(), "2".to_string())];
        assert_eq!(expand(text, &variables), expected);
    }

    fn resolve(env: Value, sources: &Sources) -> Result<BTreeMap<String, String>, String> {
        let container: Container = serde_json::from_value(json!({"name": "c", "env": env})).unwrap();
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web-1", "namespace": "shop", "uid": "u-1", "labels": {"app": "web"}},
        }))
        .unwrap();
        let facts = Facts {
            pod: &pod,
            node_name: "n1",
            host_ip: Ipv4Addr::new(10, 0, 0, 1),
            pod_ip: Some(Ipv4Addr::new(10, 1, 0, 5)),
            host_name: "web-1",
            path: PATH,
            kubernetes: Some(("10.152.183.1".into(), 443)),
            sources,
        };
        Ok(variables(&container, &facts)?.into_iter().collect())
    }

    #[rstest]
    #[case("metadata.name", "web-1")]
    #[case("metadata.namespace", "shop")]
    #[case("metadata.uid", "u-1")]
    #[case("metadata.labels['app']", "web")]
    #[case("spec.nodeName", "n1")]
    #[case("status.podIP", "10.1.0.5")]
    #[case("status.hostIP", "10.0.0.1")]
    fn fields_of_the_pod_can_be_referred_to(#[case] path: &str, #[case] expected: &str) {
        let env = json!([{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": path}}}]);
        assert_eq!(resolve(env, &Sources::new()).unwrap()["X"], expected);
    }

    #[test]
    fn a_variable_sees_those_before_it_and_everybody_gets_the_same_basis() {
        let env = json!([{"name": "A", "value": "$(KUBERNETES_SERVICE_HOST)"}, {"name": "B", "value": "<$(A)>"}]);
        let variables = resolve(env, &Sources::new()).unwrap();
        assert_eq!(variables["B"], "<10.152.183.1>");
        assert_eq!(variables["CKNET_IDENTITY"], "shop/web-1");
        assert_eq!(variables["KUBERNETES_PORT_443_TCP_ADDR"], "10.152.183.1");
        assert_eq!(variables["HOSTNAME"], "web-1");
    }

    #[test]
    fn a_missing_map_or_key_is_an_error_unless_it_is_optional() {
        let key = |name: &str, key: &str, optional: bool| json!([{"name": "X", "valueFrom": {"configMapKeyRef": {"name": name, "key": key, "optional": optional}}}]);
        let map = BTreeMap::from([("mode".to_string(), "vxlan".to_string())]);
        let sources = Sources::from([(Source::ConfigMap("net".into()), map)]);
        assert_eq!(resolve(key("net", "mode", false), &sources).unwrap()["X"], "vxlan");
        assert_eq!(resolve(key("gone", "mode", false), &sources).unwrap_err(), "configmap \"gone\" not found");
        let message = resolve(key("net", "mtu", false), &sources).unwrap_err();
        assert_eq!(message, "couldn't find key mtu in ConfigMap shop/net");
        assert!(!resolve(key("gone", "mode", true), &sources).unwrap().contains_key("X"));
        assert!(!resolve(key("net", "mtu", true), &sources).unwrap().contains_key("X"));
    }
}
