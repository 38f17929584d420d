//! The few ways in which controllers write to the API, each with a deadline, and what a refusal means for the next
//! round.
//!
//! It knows nothing of what is written or why.

use std::fmt::Debug;

use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::drive::{REQUEST_DEADLINE, Round};
use super::log;

/// Requests of one round that are under way at the same time.
const CONCURRENT: usize = 8;

/// Actions that one round carries out; what is left is found again by the next round.
pub(super) const PER_ROUND: usize = 256;

/// Any object that lives in a namespace and has a type of its own.
pub(super) trait Namespaced:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Namespaced for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// Why a write did not happen.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("{0}")]
    Refused(Box<kube::core::Status>),
    #[error("{0}")]
    Failed(kube::Error),
    #[error("no answer within {} s", REQUEST_DEADLINE.as_secs())]
    Late,
}

impl From<kube::Error> for WriteError {
    fn from(cause: kube::Error) -> Self {
        match cause {
            kube::Error::Api(status) => Self::Refused(status),
            other => Self::Failed(other),
        }
    }
}

impl WriteError {
    /// The decision was made on an older state than the server's: the next round decides anew.
    pub(super) fn is_stale(&self) -> bool {
        matches!(self, Self::Refused(status) if status.code == 409)
    }

    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Self::Refused(status) if status.code == 404)
    }

    /// Objects can no longer be created in a namespace that is going away; nothing is wrong with that.
    pub(super) fn is_terminating(&self) -> bool {
        matches!(self, Self::Refused(status)
            if status.code == 403 && status.message.contains("because it is being terminated"))
    }

    /// What the server said, without the client's decoration.
    pub(super) fn message(&self) -> String {
        match self {
            Self::Refused(status) => status.message.clone(),
            other => other.to_string(),
        }
    }
}

/// Waits for `request`, but not for ever.
pub(super) async fn within<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, WriteError> {
    match tokio::time::timeout(REQUEST_DEADLINE, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(WriteError::Late),
    }
}

pub(super) async fn create<K: Namespaced>(client: &Client, object: &K) -> Result<K, WriteError> {
    let namespace = object.meta().namespace.as_deref().unwrap_or_default();
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    within(api.create(&PostParams::default(), object)).await
}

pub(super) async fn replace<K: Namespaced>(client: &Client, object: &K) -> Result<(), WriteError> {
    let (namespace, name) = place(object);
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    within(api.replace(name, &PostParams::default(), object)).await?;
    Ok(())
}

/// Merges `patch` into `object`; with a `resourceVersion` in it the server refuses if the object has changed since.
pub(super) async fn merge<K: Namespaced>(client: &Client, object: &K, patch: Value) -> Result<(), WriteError> {
    let (namespace, name) = place(object);
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    within(api.patch(name, &PatchParams::default(), &Patch::Merge(patch))).await?;
    Ok(())
}

pub(super) async fn merge_status<K: Namespaced>(client: &Client, object: &K, patch: Value) -> Result<(), WriteError> {
    let (namespace, name) = place(object);
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    within(api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch))).await?;
    Ok(())
}

/// Deletes exactly this object, not a later one of the same name.
pub(super) async fn delete<K: Namespaced>(client: &Client, object: &K, params: DeleteParams) -> Result<(), WriteError> {
    let (namespace, name) = place(object);
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let params = params.preconditions(Preconditions { uid: object.meta().uid.clone(), resource_version: None });
    within(api.delete(name, &params)).await?;
    Ok(())
}

fn place<K: Resource>(object: &K) -> (&str, &str) {
    let meta = object.meta();
    (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

/// A merge patch that turns the status `old` into `new`: what is gone from it is set to null.
pub(super) fn status_patch<S: Serialize>(old: Option<&S>, new: &S) -> Value {
    let as_value = |status: &S| serde_json::to_value(status).unwrap_or_default();
    let mut patch = as_value(new);
    if let (Some(Value::Object(old)), Value::Object(patch)) = (old.map(as_value), &mut patch) {
        for key in old.keys() {
            patch.entry(key).or_insert(Value::Null);
        }
    }
    json!({ "status": patch })
}

/// Carries out up to [`PER_ROUND`] `actions`, some at the same time, and tells what that means for the next round.
///
/// `act` answers with a short description of the action for the log if it failed.
pub(super) async fn carry_out<A, F>(component: &str, actions: Vec<A>, act: impl Fn(A) -> F) -> Round
where
    F: Future<Output = Result<(), (String, WriteError)>>,
{
    let left_over = actions.len() > PER_ROUND;
    let mut outcomes = futures::stream::iter(actions.into_iter().take(PER_ROUND)).map(act).buffer_unordered(CONCURRENT);
    let mut round = Round::done();
    while let Some(outcome) = outcomes.next().await {
        if let Err((what, cause)) = outcome {
            round.failed |= tell(component, &what, &cause);
        }
    }
    if left_over {
        round = round.look_again(Some(std::time::Duration::ZERO));
    }
    round
}

/// Logs a failed write as far as somebody needs to know, and says whether it has to be tried again.
pub(super) fn tell(component: &str, what: &str, cause: &WriteError) -> bool {
    if cause.is_gone() || cause.is_terminating() {
        return false;
    }
    if !cause.is_stale() {
        log::warn(component, format_args!("{what}: {}", cause.message()));
    }
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use k8s_openapi::api::apps::v1::ReplicaSetStatus;
    use rstest::rstest;

    fn refused(code: u16, message: &str) -> WriteError {
        let status = kube::core::Status::failure(message, "").with_code(code);
        WriteError::Refused(Box::new(status))
    }

    #[rstest]
    #[case::conflict(refused(409, "the object has been modified"), true)]
    #[case::gone(refused(404, "not found"), false)]
    #[case::terminating(
        refused(403, "unable to create new content in namespace a because it is being terminated"),
        false
    )]
    #[case::forbidden(refused(403, "quota"), true)]
    #[case::late(WriteError::Late, true)]
    fn what_is_tried_again(#[case] cause: WriteError, #[case] again: bool) {
        assert_eq!(tell("test", "creating", &cause), again);
    }

    #[test]
    fn a_count_that_fell_to_nothing_is_removed() {
        let old = ReplicaSetStatus { replicas: 2, ready_replicas: Some(2), ..Default::default() };
        let new = ReplicaSetStatus::default();
        let patch = status_patch(Some(&old), &new);
        assert_eq!(patch, json!({"status": {"replicas": 0, "readyReplicas": null}}));
    }

    #[tokio::test]
    async fn a_round_is_bounded() {
        let done = std::sync::atomic::AtomicUsize::new(0);
        let round = carry_out("test", vec![(); PER_ROUND + 1], |()| async {
            done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok(())
        })
        .await;
        assert_eq!(done.into_inner(), PER_ROUND);
        assert_eq!(round.again, Some(std::time::Duration::ZERO));
    }
}
