//! The two small HTTP answers that a kubelet asks for: is it alive, may it be asked.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;

use super::{DnsError, log};

/// Answers `path` at `address` with 200 while `holds`, and 503 while not, for as long as the runtime lives.
pub(super) async fn listen(
    address: SocketAddr,
    path: &'static str,
    holds: impl Fn() -> bool + Send + Sync + 'static,
) -> Result<(), DnsError> {
    let listener = TcpListener::bind(address).await.map_err(|cause| DnsError::Listen { address, cause })?;
    let holds = Arc::new(holds);
    let answer = move || {
        let answer = match holds() {
            true => (StatusCode::OK, "OK"),
            false => (StatusCode::SERVICE_UNAVAILABLE, "kubernetes"),
        };
        std::future::ready(answer)
    };
    let router = Router::new().route(path, get(answer));
    tokio::spawn(async move {
        if let Err(cause) = axum::serve(listener, router).await {
            log("ERROR", format_args!("{path} is served no longer: {cause}"));
        }
    });
    Ok(())
}
