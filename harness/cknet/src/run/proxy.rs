//! HTTP proxies on machines, and what nodes are told of them: a real proxy where one is installed, elsewhere our own.
//! All of them are told to do the same and to keep the same log.

use std::time::Duration;

use super::service;
use super::stage::Stage;
use crate::provider::{Invocation, Node, NodeError};
use crate::scenario::model::{Capability, HttpProxy, ProxyEngine, ProxySettings};

/// The service's name on its machine.
const SERVICE: &str = "proxy";
const FOLDER: &str = "/run/cknet/proxy";
const LOG: &str = "/run/cknet/proxy/access.log";
const CONFIG: &str = "/run/cknet/proxy/proxy.conf";
const USUAL_PORT: u16 = 3128;

/// Longest time for a small command.
const COMMAND: Duration = Duration::from_secs(10);

const RESOLVER: &str = "/etc/resolv.conf";
/// What login shells, and services that say so, are started with (pam_env(8)).
const ENVIRONMENT: &str = "/etc/environment";
/// Where Canonical Kubernetes is told by which proxy to pull images (documentation.ubuntu.com/canonical-kubernetes,
/// "Configure proxy settings").
const RUNTIME: &str = "/etc/systemd/system/snap.k8s.containerd.service.d/http-proxy.conf";

/// What a step does, in words.
pub fn describe(proxy: &HttpProxy) -> String {
    format!("start an HTTP proxy on {}, port {}", proxy.node, port(proxy))
}

/// What a step does, in words.
pub fn describe_settings(settings: &ProxySettings) -> String {
    let except = match settings.no_proxy.as_slice() {
        [] => "no exceptions".to_string(),
        some => format!("except for {}", some.join(", ")),
    };
    format!("have nodes use the proxy {} with {except}", settings.proxy).replace("with except", "except")
}

fn port(proxy: &HttpProxy) -> u16 {
    proxy.port.map_or(USUAL_PORT, |port| port.get())
}

/// Starts the proxy in place of one that runs there, and waits until it listens.
pub async fn start(stage: &mut Stage<'_>, proxy: &HttpProxy) -> Result<(), String> {
    let name = proxy.node.as_str();
    let node = stage.cluster.nodes.get(name).ok_or_else(|| format!("no machine is called `{name}`"))?.clone();
    let installed = stage.run.provider.capabilities();
    let engine = chosen(proxy.engine, &installed);
    node.stop(SERVICE).await.map_err(|error| error.to_string())?;
    let text = |error: NodeError| error.to_string();
    node.put(LOG, 0o644, Vec::new()).await.map_err(text)?;
    // Whoever asked a name server of the host would wait for an answer that never comes.
    replace(stage, node.as_ref(), RESOLVER, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n".into()).await?;
    let port = port(proxy);
    if let Some(config) = config(engine, port) {
        node.put(CONFIG, 0o644, config.into_bytes()).await.map_err(text)?;
    }
    stage.proxies.insert(name.to_string(), told(proxy.engine, engine));
    service::start(stage, node.as_ref(), SERVICE, command(engine, port), port).await
}

fn chosen(wanted: ProxyEngine, installed: &[Capability]) -> ProxyEngine {
    match wanted {
        ProxyEngine::Any if installed.contains(&Capability::Tinyproxy) => ProxyEngine::Tinyproxy,
        ProxyEngine::Any if installed.contains(&Capability::Squid) => ProxyEngine::Squid,
        ProxyEngine::Any => ProxyEngine::BuiltIn,
        named => named,
    }
}

/// In words, for reports.
fn told(wanted: ProxyEngine, engine: ProxyEngine) -> String {
    match (engine, wanted) {
        (ProxyEngine::BuiltIn, ProxyEngine::Any) => {
            "cknet's own proxy because neither tinyproxy nor squid is installed here".into()
        }
        (ProxyEngine::BuiltIn, _) => "cknet's own proxy".into(),
        _ => engine.word().into(),
    }
}

fn config(engine: ProxyEngine, port: u16) -> Option<String> {
    match engine {
        // Without `Allow` all may ask, without `ConnectPort` for all ports.
        ProxyEngine::Tinyproxy => Some(format!(
            "Port {port}\nListen 0.0.0.0\nTimeout 30\nMaxClients 256\nLogFile \"{LOG}\"\nLogLevel Connect\nDisableViaHeader Yes\n"
        )),
        ProxyEngine::Squid => Some(format!(
            "http_port 0.0.0.0:{port}\nhttp_access allow all\ncache deny all\ncache_mem 0\nmemory_pools off\n\
             logformat asked %>a: %rm %ru\naccess_log stdio:{LOG} asked\nbuffered_logs off\n\
             cache_log {FOLDER}/cache.log\ncache_store_log none\npid_filename none\ncoredump_dir {FOLDER}\n\
             netdb_filename none\npinger_enable off\nshutdown_lifetime 0 seconds\nvisible_hostname proxy\n\
             dns_nameservers 127.0.0.1\ndns_timeout 1 seconds\nconnect_timeout 1 seconds\nforward_timeout 1 seconds\n"
        )),
        ProxyEngine::Any | ProxyEngine::BuiltIn => None,
    }
}

fn command(engine: ProxyEngine, port: u16) -> Vec<String> {
    let words = match engine {
        ProxyEngine::Tinyproxy => vec!["tinyproxy", "-d", "-c", CONFIG],
        // It gives root away and writes its logs as the user `proxy`.
        ProxyEngine::Squid => {
            return ["sh", "-c", &format!("chown -R proxy {FOLDER} && exec squid --foreground -YC -f {CONFIG}")]
                .map(String::from)
                .to_vec();
        }
        ProxyEngine::Any | ProxyEngine::BuiltIn => {
            let port = port.to_string();
            return ["cknet", "forward-proxy", "--port", &port, "--log", LOG].map(String::from).to_vec();
        }
    };
    words.into_iter().map(String::from).collect()
}

/// Tells nodes of a proxy.
pub async fn tell(stage: &mut Stage<'_>, nodes: &[String], settings: &ProxySettings) -> Result<(), String> {
    let variables = variables(settings);
    for name in nodes {
        let node = stage.cluster.nodes.get(name).ok_or_else(|| format!("no node is called `{name}`"))?.clone();
        // Known before it is done, so that it is taken back in any case.
        stage.environment.insert(name.clone(), variables.clone());
        for (path, text) in [(ENVIRONMENT, environment_file(&variables)), (RUNTIME, drop_in(&variables))] {
            replace(stage, node.as_ref(), path, text).await?;
        }
    }
    Ok(())
}

/// Writes a file of a node, of which is remembered what it was before the scenario.
async fn replace(stage: &mut Stage<'_>, node: &dyn Node, path: &str, text: String) -> Result<(), String> {
    if !stage.replaced.iter().any(|(name, known, _)| name == node.name() && known == path) {
        // One that cannot be read is not there.
        let before = node.take(path).await.ok();
        stage.replaced.push((node.name().to_string(), path.to_string(), before));
    }
    node.put(path, 0o644, text.into_bytes()).await.map_err(|error| error.to_string())
}

/// In capitals and in small letters, because no two programs read the same ones.
fn variables(settings: &ProxySettings) -> Vec<(String, String)> {
    let no_proxy = settings.no_proxy.join(",");
    let values = [("HTTP_PROXY", &settings.proxy), ("HTTPS_PROXY", &settings.proxy), ("NO_PROXY", &no_proxy)];
    let both = values.iter().flat_map(|(name, value)| [(*name).to_string(), name.to_lowercase()].map(|n| (n, value)));
    both.map(|(name, value)| (name, (*value).clone())).collect()
}

fn environment_file(variables: &[(String, String)]) -> String {
    variables.iter().map(|(name, value)| format!("{name}=\"{value}\"\n")).collect()
}

/// A part of a unit of systemd.
fn drop_in(variables: &[(String, String)]) -> String {
    let lines: String = variables.iter().map(|(name, value)| format!("Environment=\"{name}={value}\"\n")).collect();
    format!("[Service]\n{lines}")
}

/// Takes back what a node was told.
pub async fn retire(stage: &Stage<'_>, node: &dyn Node) -> Result<(), String> {
    for (_, path, before) in stage.replaced.iter().filter(|(name, ..)| name == node.name()) {
        let text = |error: NodeError| error.to_string();
        match before {
            Some(content) => node.put(path, 0o644, content.clone()).await.map_err(text)?,
            None => {
                let removed = node.run(Invocation::new(["cknet", "node-file", "remove", path]), COMMAND).await;
                if !removed.map_err(text)?.succeeded() {
                    return Err(format!("cannot remove `{path}` of {}", node.name()));
                }
            }
        }
    }
    Ok(())
}

/// By which proxies a result came about.
pub fn engines(stage: &Stage<'_>) -> Option<String> {
    let engines: std::collections::BTreeSet<&str> = stage.proxies.values().map(String::as_str).collect();
    (!engines.is_empty()).then(|| format!("proxy: {}", engines.into_iter().collect::<Vec<_>>().join(" and ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_proxy_that_is_installed_is_taken_unless_one_is_named() {
        let both = [Capability::Squid, Capability::Tinyproxy];
        assert_eq!(chosen(ProxyEngine::Any, &both), ProxyEngine::Tinyproxy);
        assert_eq!(chosen(ProxyEngine::Any, &both[..1]), ProxyEngine::Squid);
        assert_eq!(chosen(ProxyEngine::Any, &[]), ProxyEngine::BuiltIn);
        assert_eq!(chosen(ProxyEngine::Squid, &[]), ProxyEngine::Squid);
        assert_eq!(chosen(ProxyEngine::BuiltIn, &both), ProxyEngine::BuiltIn);
        assert!(told(ProxyEngine::Any, ProxyEngine::BuiltIn).contains("neither"));
    }

    #[test]
    fn a_service_is_told_each_variable_in_both_spellings() {
        let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
        let text = drop_in(&[pair("NO_PROXY", "a,.b"), pair("no_proxy", "a,.b")]);
        assert_eq!(text, "[Service]\nEnvironment=\"NO_PROXY=a,.b\"\nEnvironment=\"no_proxy=a,.b\"\n");
    }
}
