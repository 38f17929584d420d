//! Namespaces that are going away: empties them of everything that lives in them, then lets them go.
//!
//! It asks the server what kinds there are and what is left, rather than the watches: nothing may be forgotten.

mod content;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::json;

use super::drive::{Controller, Round};
use super::log;
use super::world::{World, is_deleting};
use super::write::{self, WriteError, within};
use content::{Content, Kinds};

const COMPONENT: &str = "namespace-controller";
const FINALIZER: &str = "kubernetes";
/// What is left may be of a kind that nobody watches.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

pub(super) struct Namespaces {
    client: Client,
    world: World,
    kinds: Kinds,
}

impl Controller for Namespaces {
    async fn round(&mut self) -> Round {
        let mut leaving = self.world.namespaces.state();
        leaving.retain(|namespace| is_deleting(namespace.as_ref()) && is_held(namespace));
        if leaving.is_empty() {
            return Round::done();
        }
        let kinds = match self.kinds.get(&self.client).await {
            Ok(kinds) => kinds,
            Err(cause) => {
                log::warn(COMPONENT, format_args!("asking for the kinds of objects: {}", cause.message()));
                return Round { failed: true, again: None };
            }
        };
        let mut round = Round::done();
        for namespace in leaving {
            let content = Content { client: &self.client, namespace: namespace.name_any(), kinds: &kinds };
            round = round.and(self.empty(&namespace, &content).await);
        }
        round
    }
}

impl Namespaces {
    pub(super) fn new(client: Client, world: World) -> Self {
        Self { client, world, kinds: Kinds::default() }
    }

    async fn empty(&self, namespace: &Arc<Namespace>, content: &Content<'_>) -> Round {
        let name = namespace.name_any();
        let outcome = match self.is_still_there(namespace).await {
            Ok(false) => Ok(None),
            Ok(true) => match content.delete_all().await {
                Ok(0) => self.finalize(namespace).await.map(|()| None),
                Ok(left) => self.tell(namespace, left).await.map(|()| Some(LOOK_AGAIN)),
                Err(cause) => Err(cause),
            },
            Err(cause) => Err(cause),
        };
        match outcome {
            Ok(again) => Round::done().look_again(again),
            Err(cause) => {
                Round { failed: write::tell(COMPONENT, &format!("emptying namespace `{name}`"), &cause), again: None }
            }
        }
    }

    /// Whether the server still has this very namespace. A watch may lag behind: the one it shows can be gone, and
    /// another of its name hold objects that are nobody's to delete. Nobody but us lets a namespace go, so what is
    /// true here stays so until then.
    async fn is_still_there(&self, namespace: &Namespace) -> Result<bool, WriteError> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let found = within(api.get_opt(&namespace.name_any())).await?;
        Ok(found.is_some_and(|found| found.uid() == namespace.uid() && is_deleting(&found)))
    }

    async fn finalize(&self, namespace: &Namespace) -> Result<(), WriteError> {
        let mut released = namespace.clone();
        let spec = released.spec.get_or_insert_default();
        spec.finalizers.get_or_insert_default().retain(|finalizer| finalizer != FINALIZER);
        let name = namespace.name_any();
        let api: Api<Namespace> = Api::all(self.client.clone());
        let params = PostParams::default();
        within(api.replace_subresource("finalize", &name, &params, &released)).await?;
        log::info(COMPONENT, format_args!("namespace {name} is empty and let go"));
        Ok(())
    }

    /// Says in the conditions what the namespace waits for.
    async fn tell(&self, namespace: &Namespace, left: usize) -> Result<(), WriteError> {
        let message = format!("Some resources are remaining: {left} objects");
        let old = namespace.status.as_ref().and_then(|status| status.conditions.as_deref());
        let said = old.unwrap_or_default().iter().find(|condition| condition.type_ == "NamespaceContentRemaining");
        if said.is_some_and(|said| said.message.as_deref() == Some(&message)) {
            return Ok(());
        }
        let condition = NamespaceCondition {
            type_: "NamespaceContentRemaining".to_owned(),
            status: "True".to_owned(),
            reason: Some("SomeResourcesRemain".to_owned()),
            message: Some(message),
            last_transition_time: Some(Time(Timestamp::now())),
        };
        let patch = json!({"status": {"conditions": [condition]}});
        let api: Api<Namespace> = Api::all(self.client.clone());
        let name = namespace.name_any();
        within(api.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch))).await.map(drop)
    }
}

/// Whether `namespace` still waits for us.
fn is_held(namespace: &Namespace) -> bool {
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_deref());
    finalizers.unwrap_or_default().iter().any(|finalizer| finalizer == FINALIZER)
}
