//! The client that cluster DNS follows the API with.

use std::path::PathBuf;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

const KUBECONFIG: &str = "/etc/kubernetes/kubelet.conf";
/// A service address that nobody translates yet swallows what is sent to it; better to try again soon.
const CONNECT: Duration = Duration::from_secs(1);

/// No client could be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a client of kubeconfig `{path}`: {cause}")]
pub(super) struct DnsClientError {
    path: String,
    cause: Box<dyn std::error::Error + Send + Sync>,
}

pub(super) async fn client() -> Result<Client, DnsClientError> {
    let path = std::env::var_os("KUBECONFIG").map_or_else(|| PathBuf::from(KUBECONFIG), PathBuf::from);
    let service = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let host = service("KUBERNETES_SERVICE_HOST");
    let port = service("KUBERNETES_SERVICE_PORT");
    let made = async {
        let kubeconfig = Kubeconfig::read_from(&path)?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Client::try_from(redirected(config, host, port)?)?)
    };
    made.await.map_err(|cause| DnsClientError { path: path.display().to_string(), cause })
}

/// Replaces the server's address by that of the service in front of it. The certificate is still checked for the
/// name in the kubeconfig.
fn redirected(
    mut config: Config,
    host: Option<String>,
    port: Option<String>,
) -> Result<Config, Box<dyn std::error::Error + Send + Sync>> {
    config.connect_timeout = Some(CONNECT);
    let Some(host) = host else {
        return Ok(config);
    };
    let scheme = config.cluster_url.scheme_str().unwrap_or("https").to_owned();
    if config.tls_server_name.is_none() {
        config.tls_server_name = config.cluster_url.host().map(str::to_owned);
    }
    let port = port.unwrap_or_else(|| "443".to_owned());
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    config.cluster_url = format!("{scheme}://{host}:{port}").parse()?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(None, None, "https://10.0.0.1:6443/", None)]
    #[case(Some("10.152.183.1"), Some("443"), "https://10.152.183.1:443/", Some("10.0.0.1"))]
    #[case(Some("10.152.183.1"), None, "https://10.152.183.1:443/", Some("10.0.0.1"))]
    fn the_service_replaces_the_address(
        #[case] host: Option<&str>,
        #[case] port: Option<&str>,
        #[case] url: &str,
        #[case] name: Option<&str>,
    ) {
        let config = Config::new("https://10.0.0.1:6443".parse().unwrap());
        let config = redirected(config, host.map(str::to_owned), port.map(str::to_owned)).unwrap();
        assert_eq!(config.cluster_url.to_string(), url);
        assert_eq!(config.tls_server_name.as_deref(), name);
    }
}
