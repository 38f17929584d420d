//! Everything that lives in a namespace, whatever its kind.

use std::time::Duration;

use futures::StreamExt;
use kube::Client;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Preconditions};
use kube::discovery::{Discovery, Scope, verbs};
use tokio::time::Instant;

use crate::controllers::write::{WriteError, within};

/// How long the answer of the server which kinds there are is believed.
const BELIEVED: Duration = Duration::from_secs(10);
const CONCURRENT: usize = 8;
const PAGE: u32 = 200;

/// The kinds of objects that live in namespaces and can be listed and deleted.
#[derive(Default)]
pub(super) struct Kinds {
    known: Option<(Vec<ApiResource>, Instant)>,
}

impl Kinds {
    pub(super) async fn get(&mut self, client: &Client) -> Result<Vec<ApiResource>, WriteError> {
        if let Some((kinds, asked)) = &self.known
            && asked.elapsed() < BELIEVED
        {
            return Ok(kinds.clone());
        }
        let discovery = within(Discovery::new(client.clone()).run()).await?;
        let mut kinds = Vec::new();
        for group in discovery.groups() {
            for (kind, capabilities) in group.recommended_resources() {
                let can = |verb| capabilities.supports_operation(verb);
                if capabilities.scope == Scope::Namespaced && can(verbs::LIST) && can(verbs::DELETE) {
                    kinds.push(kind);
                }
            }
        }
        // Events tell of the others; they are of no use without them, and two groups serve the same ones.
        kinds.sort_by_key(|kind| kind.kind == "Event");
        self.known = Some((kinds.clone(), Instant::now()));
        Ok(kinds)
    }
}

pub(super) struct Content<'a> {
    pub(super) client: &'a Client,
    pub(super) namespace: String,
    pub(super) kinds: &'a [ApiResource],
}

impl Content<'_> {
    /// Deletes what is there, pods before anything else, and tells how many objects are left after that.
    pub(super) async fn delete_all(&self) -> Result<usize, WriteError> {
        let (pods, others): (Vec<_>, Vec<_>) =
            self.kinds.iter().partition(|kind| kind.group.is_empty() && kind.kind == "Pod");
        let left = self.delete_kinds(&pods).await?;
        if left > 0 {
            // A pod may need its secrets and its policies until it has ended.
            return Ok(left);
        }
        self.delete_kinds(&others).await
    }

    async fn delete_kinds(&self, kinds: &[&ApiResource]) -> Result<usize, WriteError> {
        let mut left = 0;
        for &kind in kinds {
            let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, kind);
            left += delete_each(&api).await?;
        }
        Ok(left)
    }
}

/// Deletes a page of objects after the other until a page brings nothing new; tells how many linger.
async fn delete_each(api: &Api<DynamicObject>) -> Result<usize, WriteError> {
    loop {
        let page = match within(api.list(&ListParams::default().limit(PAGE))).await {
            Err(cause) if cause.is_gone() => return Ok(0),
            other => other?,
        };
        let listed = page.items.len();
        let mut fresh = page.items;
        fresh.retain(|object| object.metadata.deletion_timestamp.is_none());
        if fresh.is_empty() {
            return Ok(listed);
        }
        let mut outcomes = futures::stream::iter(fresh).map(|object| delete(api, object)).buffer_unordered(CONCURRENT);
        while let Some(outcome) = outcomes.next().await {
            outcome?;
        }
    }
}

async fn delete(api: &Api<DynamicObject>, object: DynamicObject) -> Result<(), WriteError> {
    let params =
        DeleteParams::background().preconditions(Preconditions { uid: object.metadata.uid, resource_version: None });
    let name = object.metadata.name.as_deref().unwrap_or_default();
    match within(api.delete(name, &params)).await {
        Err(cause) if !cause.is_gone() => Err(cause),
        _ => Ok(()),
    }
}
