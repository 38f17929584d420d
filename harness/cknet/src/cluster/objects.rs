//! Objects of any kind: applied, patched, deleted and read through the API, whatever their kind is.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{ApiCapabilities, ApiResource, Scope, pinned_kind};
use kube::error::DiscoveryError;
use serde_json::Value;

/// The name under which fields are owned in server-side apply.
const MANAGER: &str = "cknet";

/// What the API answers where an object makes no sense: `422 Unprocessable Entity`.
const UNPROCESSABLE: u16 = 422;

/// Longest wait for a deleted object to be gone.
const GONE: Duration = Duration::from_secs(30);

/// Between two looks at an object that is going.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// One object by its coordinates.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Coordinates {
    pub api_version: String,
    pub kind: String,
    pub namespace: Option<String>,
    pub name: String,
}

impl std::fmt::Display for Coordinates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// An object could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    #[error("cannot {doing}: {cause}")]
    Api { doing: String, cause: String },
    #[error("{0} is still there after {GONE:?}")]
    StillThere(Coordinates),
    #[error("not an object: {0}")]
    Malformed(String),
}

fn api_error(doing: impl FnOnce() -> String) -> impl FnOnce(kube::Error) -> ObjectError {
    move |cause| ObjectError::Api { doing: doing(), cause: answer(&cause) }
}

/// What the API answered, or why there was no answer.
pub fn answer(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        kube::Error::Discovery(DiscoveryError::MissingKind(_)) => "it serves no such kind".into(),
        other => causes(other),
    }
}

/// An error with what led to it: that nobody answers is one thing, why is another.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        // Some repeat what they wrap.
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}

/// The objects of one cluster.
pub struct Objects {
    client: Client,
    /// A label that everything gets which is applied.
    mark: Option<(String, String)>,
    kinds: Mutex<HashMap<(String, String), (ApiResource, ApiCapabilities)>>,
}

impl Objects {
    pub fn new(client: Client, mark: Option<(String, String)>) -> Self {
        Self { client, mark, kinds: Mutex::default() }
    }

    /// Creates an object or changes it to what is given (server-side apply); returns where it is. A field that its kind
    /// does not have is refused: a policy whose selector is misspelt would select everything.
    pub async fn apply(&self, object: &Value) -> Result<Coordinates, ObjectError> {
        let at = coordinates(object)?;
        let (api, namespace) = self.api(&at).await?;
        let parameters = PatchParams::apply(MANAGER).force().validation_strict();
        let mut object = object.clone();
        // A namespace of the cluster's own is never anybody's.
        let own = at.kind == "Namespace" && (at.name == "default" || at.name.starts_with("kube-"));
        if let Some((key, value)) = self.mark.as_ref().filter(|_| !own) {
            object["metadata"]["labels"][key] = value.as_str().into();
        }
        api.patch(&at.name, &parameters, &Patch::Apply(&object)).await.map_err(api_error(|| format!("apply {at}")))?;
        Ok(Coordinates { namespace, ..at })
    }

    /// Tries to create an object or change it, without doing so; the fields about which the API complains as invalid,
    /// with what it says of each, or nothing when it would take the object.
    pub async fn refusal(&self, object: &Value) -> Result<Option<Vec<(String, String)>>, ObjectError> {
        let at = coordinates(object)?;
        let (api, _) = self.api(&at).await?;
        let parameters = PatchParams { dry_run: true, ..PatchParams::apply(MANAGER).force() };
        match api.patch(&at.name, &parameters, &Patch::Apply(object)).await {
            Ok(_) => Ok(None),
            Err(kube::Error::Api(status)) if status.code == UNPROCESSABLE => {
                let causes = status.details.map(|details| details.causes).unwrap_or_default();
                Ok(Some(causes.into_iter().map(|cause| (cause.field, cause.message)).collect()))
            }
            Err(error) => Err(api_error(|| format!("try to apply {at}"))(error)),
        }
    }

    pub async fn patch(&self, at: &Coordinates, patch: &Patch<Value>) -> Result<(), ObjectError> {
        let (api, _) = self.api(at).await?;
        let parameters = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        api.patch(&at.name, &parameters, patch).await.map_err(api_error(|| format!("patch {at}")))?;
        Ok(())
    }

    /// Deletes an object and waits until it is gone; one that is not there is no failure.
    pub async fn delete(&self, at: &Coordinates) -> Result<(), ObjectError> {
        let (api, _) = self.api(at).await?;
        let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        match api.delete(&at.name, &now).await {
            // The object itself comes back while something still has to let go of it; a status means that it is gone.
            Ok(answer) if answer.is_right() => return Ok(()),
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            Err(error) => return Err(api_error(|| format!("delete {at}"))(error)),
        }
        let started = Instant::now();
        while api.get_opt(&at.name).await.map_err(api_error(|| format!("read {at}")))?.is_some() {
            if started.elapsed() >= GONE {
                return Err(ObjectError::StillThere(at.clone()));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// Begins to delete an object with the grace period that it has itself, and does not wait for its end.
    pub async fn begin_deletion(&self, at: &Coordinates) -> Result<(), ObjectError> {
        let (api, _) = self.api(at).await?;
        let begun = api.delete(&at.name, &DeleteParams::default()).await;
        begun.map(|_| ()).map_err(api_error(|| format!("delete {at}")))
    }

    /// The object, or nothing.
    pub async fn get(&self, at: &Coordinates) -> Result<Option<Value>, ObjectError> {
        let (api, _) = self.api(at).await?;
        let found = api.get_opt(&at.name).await.map_err(api_error(|| format!("read {at}")))?;
        Ok(found.and_then(|object| serde_json::to_value(object).ok()))
    }

    /// Objects of a kind, perhaps of one namespace, perhaps those with certain labels.
    pub async fn list(
        &self,
        api_version: &str,
        kind: &str,
        namespace: Option<&str>,
        labels: Option<&str>,
    ) -> Result<Vec<Value>, ObjectError> {
        self.select(api_version, kind, namespace, labels, None).await
    }

    /// The same, perhaps only those with certain values of the fields by which the API can choose.
    pub async fn select(
        &self,
        api_version: &str,
        kind: &str,
        namespace: Option<&str>,
        labels: Option<&str>,
        fields: Option<&str>,
    ) -> Result<Vec<Value>, ObjectError> {
        let (resource, _) = self.kind(api_version, kind).await?;
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        let mut parameters = ListParams::default();
        if let Some(labels) = labels {
            parameters = parameters.labels(labels);
        }
        if let Some(fields) = fields {
            parameters = parameters.fields(fields);
        }
        let found = api.list(&parameters).await.map_err(api_error(|| format!("list {kind}")))?;
        Ok(found.items.into_iter().filter_map(|object| serde_json::to_value(object).ok()).collect())
    }

    async fn api(&self, at: &Coordinates) -> Result<(Api<DynamicObject>, Option<String>), ObjectError> {
        let (resource, capabilities) = self.kind(&at.api_version, &at.kind).await?;
        if capabilities.scope == Scope::Cluster {
            return Ok((Api::all_with(self.client.clone(), &resource), None));
        }
        let namespace = at.namespace.as_deref().unwrap_or("default");
        let api = Api::namespaced_with(self.client.clone(), namespace, &resource);
        Ok((api, Some(namespace.to_string())))
    }

    /// How the API serves a kind; asked once.
    async fn kind(&self, api_version: &str, kind: &str) -> Result<(ApiResource, ApiCapabilities), ObjectError> {
        let key = (api_version.to_string(), kind.to_string());
        let known = self.kinds.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&key).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let wanted = GroupVersionKind::gvk(group, version, kind);
        let doing = || format!("find kind `{kind}` of `{api_version}` in the API");
        let found = pinned_kind(&self.client, &wanted).await.map_err(api_error(doing))?;
        self.kinds.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(key, found.clone());
        Ok(found)
    }
}

/// Where an object belongs.
pub fn coordinates(object: &Value) -> Result<Coordinates, ObjectError> {
    let text = |value: &Value| value.as_str().map(str::to_string);
    let missing = |what: &str| ObjectError::Malformed(format!("it has no `{what}`"));
    Ok(Coordinates {
        api_version: text(&object["apiVersion"]).ok_or_else(|| missing("apiVersion"))?,
        kind: text(&object["kind"]).ok_or_else(|| missing("kind"))?,
        namespace: text(&object["metadata"]["namespace"]),
        name: text(&object["metadata"]["name"]).ok_or_else(|| missing("metadata.name"))?,
    })
}
