//! TLS: reading certificates and keys, and the server's side of it.

use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::ApiError;

/// A server's certificate and key, and the authority that signed it, as PEM.
#[derive(Debug, Clone)]
pub struct ServerTls {
    pub ca_pem: String,
    pub cert_pem: String,
    pub key_pem: String,
}

/// The one provider of cryptography in the whole program.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The certificates in a PEM text.
pub(super) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, ApiError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(ApiError::Pem { what: "certificate", why: "there is none".to_owned() }),
        Err(error) => Err(ApiError::Pem { what: "certificate", why: error.to_string() }),
    }
}

/// What accepts TLS connections, for HTTP/2 and HTTP/1.1.
pub(super) fn acceptor(tls: &ServerTls) -> Result<TlsAcceptor, ApiError> {
    let chain = certificates(&tls.cert_pem)?;
    let key = PrivateKeyDer::from_pem_slice(tls.key_pem.as_bytes())
        .map_err(|error| ApiError::Pem { what: "private key", why: error.to_string() })?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(ApiError::Tls)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(ApiError::Tls)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
