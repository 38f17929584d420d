//! Waiting for what another task says.

use tokio::sync::watch;

/// Waits until `holds`; for ever when nobody is left to say so, which is the time of whoever ends the waiting task.
pub async fn until<T>(told: &mut watch::Receiver<T>, holds: impl FnMut(&T) -> bool) {
    let is_over = told.wait_for(holds).await.is_err();
    if is_over {
        std::future::pending::<()>().await;
    }
}
