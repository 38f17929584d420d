//! Felix's health endpoint: `http://127.0.0.1:9099/readiness` and `/liveness`, asked by the kubelet's probes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;

/// FELIX_HEALTHPORT's default.
pub const PORT: u16 = 9099;

/// Whether the data plane has been programmed at least once and the last attempt succeeded.
#[derive(Clone, Default)]
pub struct Health(Arc<AtomicBool>);

impl Health {
    pub fn set_ready(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }

    fn code(&self) -> StatusCode {
        if self.0.load(Ordering::Relaxed) { StatusCode::NO_CONTENT } else { StatusCode::SERVICE_UNAVAILABLE }
    }

    /// Serves the endpoint for as long as the runtime lives.
    pub async fn serve(&self) -> std::io::Result<()> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", PORT)).await?;
        let health = self.clone();
        let router = Router::new()
            .route("/readiness", get(move || std::future::ready(health.code())))
            .route("/liveness", get(|| std::future::ready(StatusCode::NO_CONTENT)));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(())
    }
}
