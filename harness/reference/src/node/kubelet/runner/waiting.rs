//! What a container waits for while it does not run: the end of a back-off, another image, a missing object.

use std::time::Duration;

use super::Runner;
use crate::node::kubelet::backoff::{Backoff, in_go_words};
use crate::node::kubelet::events::Severity;
use crate::node::kubelet::images;
use crate::node::kubelet::status::State;
use crate::node::kubelet::until::until;

/// Why a wait ended early.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Interrupted {
    Stopped,
    Changed,
}

impl Runner {
    pub(super) async fn wait_as(&mut self, reason: &str, message: String) {
        self.view.state = State::Waiting { reason: reason.into(), message: Some(message) };
        self.view.ready = false;
        self.view.started = false;
        self.report().await;
    }

    /// Waits, unless the container is to be stopped or another image is asked for.
    pub(super) async fn pause(&mut self, delay: Option<Duration>) -> Result<(), Interrupted> {
        let image = self.view.image.clone();
        let sleep = async {
            match delay {
                Some(delay) => tokio::time::sleep(delay).await,
                None => std::future::pending().await,
            }
        };
        let (mut stop, mut desired) = (self.stop.clone(), self.desired.clone());
        let (role, index) = (self.role, self.index);
        tokio::select! {
            () = sleep => Ok(()),
            () = until(&mut stop, Option::is_some) => Err(Interrupted::Stopped),
            () = until(&mut desired, |desired| !desired.has_image(role, index, &image)) => Err(Interrupted::Changed),
        }
    }

    pub(super) async fn hold_back(&mut self, delay: Duration) -> Result<(), Interrupted> {
        let key = &self.key;
        let container = &self.view.name;
        let text = format!(
            "back-off {} restarting failed container={container} pod={}_{}({})",
            in_go_words(delay),
            key.name,
            key.namespace,
            key.uid
        );
        let event = format!(
            "Back-off restarting failed container {container} in pod {}_{}({})",
            key.name, key.namespace, key.uid
        );
        self.say(Severity::Warning, "BackOff", event);
        self.wait_as("CrashLoopBackOff", text).await;
        self.pause(Some(delay)).await
    }

    /// What is no image of this distribution will not become one: waits until the spec names another one. An image that
    /// could not be pulled is tried again.
    pub(super) async fn hold_for_image(&mut self, message: String, backoff: &mut Backoff) {
        let image = self.view.image.clone();
        self.say(Severity::Warning, "Failed", format!("Failed to pull image \"{image}\": {message}"));
        self.say(Severity::Warning, "Failed", "Error: ErrImagePull");
        self.wait_as("ErrImagePull", message.clone()).await;
        if self.pause(Some(backoff.next())).await.is_err() {
            return;
        }
        let text = format!("Back-off pulling image \"{image}\"");
        self.say(Severity::Normal, "BackOff", text.clone());
        self.say(Severity::Warning, "Failed", "Error: ImagePullBackOff");
        self.wait_as("ImagePullBackOff", format!("{text}: ErrImagePull: {message}")).await;
        let is_known = images::find(&image).is_ok();
        // All ways to end this wait are looked at by the caller.
        let _ = self.pause(is_known.then(|| backoff.next())).await;
    }

    pub(super) async fn hold_for_configuration(&mut self, message: String, backoff: &mut Backoff) {
        self.say(Severity::Warning, "Failed", format!("Error: {message}"));
        self.wait_as("CreateContainerConfigError", message).await;
        let _ = self.pause(Some(backoff.next())).await;
    }
}
