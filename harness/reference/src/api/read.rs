//! Reading: one object, lists with selectors and pages, in whichever form the client wants.

use std::sync::Arc;

use hyper::body::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::answer::{self, Answer, Form};
use super::cluster::Cluster;
use super::events;
use super::kinds::{KINDS, Kind, core_index};
use super::request::{Query, Target};
use super::selector::{FieldSelector, LabelSelector};
use super::status::Refusal;
use super::store::Object;
use super::table::{self, Include};

/// The objects a request is about.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    pub labels: LabelSelector,
    pub fields: FieldSelector,
    /// The one object named by the path.
    pub name: Option<String>,
}

impl Selection {
    /// Reads the selectors of a query.
    pub fn parse(query: &Query, target: &Target) -> Result<Self, Refusal> {
        Ok(Self {
            labels: LabelSelector::parse(query.get("labelSelector").unwrap_or_default())?,
            fields: FieldSelector::parse(query.get("fieldSelector").unwrap_or_default(), target.kind())?,
            name: target.name.clone(),
        })
    }

    /// Whether an object is among them.
    pub fn matches(&self, object: &Value) -> bool {
        self.name.as_ref().is_none_or(|name| object["metadata"]["name"] == **name)
            && self.labels.matches(object)
            && self.fields.matches(object)
    }
}

/// The version a list asks for: any, one at least as new, or exactly one.
enum Asked {
    Newest,
    Exactly(u64),
}

/// One object in a form.
pub fn one(kind: &Kind, object: &Arc<Object>, form: Form, code: u16) -> Answer {
    match form {
        Form::Plain if !events::has_two_faces(kind) => answer::json_bytes(code, object.json.clone()),
        Form::Plain => answer::json(code, &events::shown(&object.value)),
        Form::Partial => answer::json(code, &table::partial(&object.value)),
        Form::Table(include) => {
            let meta = json!({ "resourceVersion": object.value["metadata"]["resourceVersion"] });
            let rows = std::iter::once(&object.value);
            answer::json(code, &table::table(kind.columns, rows, meta, include, Timestamp::now()))
        }
    }
}

/// Answers a GET of one object.
pub fn get(cluster: &Cluster, target: &Target, form: Form) -> Result<Answer, Refusal> {
    let name = target.named()?;
    let found = cluster.store.get(target.shelf(), target.place(), name);
    let found = found.ok_or_else(|| Refusal::not_found(target.kind(), name))?;
    Ok(one(target.kind(), &found, form, 200))
}

/// Answers a GET of a collection.
pub fn list(cluster: &Cluster, target: &Target, query: &Query, form: Form) -> Result<Answer, Refusal> {
    let selection = Selection::parse(query, target)?;
    let limit = query.number("limit")?.unwrap_or(0);
    let after = query.get("continue").map(Continue::parse).transpose()?;
    let (revision, mut objects) = match &after {
        Some(after) => {
            let objects = cluster.store.list_at(target.shelf(), target.namespace.as_deref(), after.revision);
            (after.revision, objects.map_err(|_| Refusal::continue_expired())?)
        }
        None => match asked(query, cluster.store.revision())? {
            Asked::Newest => cluster.store.list(target.shelf(), target.namespace.as_deref()),
            Asked::Exactly(revision) => {
                let objects = cluster.store.list_at(target.shelf(), target.namespace.as_deref(), revision);
                (revision, objects.map_err(|gone| Refusal::expired(revision, gone.oldest))?)
            }
        },
    };
    if let Some(after) = &after {
        objects.retain(|object| after.is_before(&object.value));
    }
    objects.retain(|object| selection.matches(&object.value));
    let mut meta = json!({ "resourceVersion": revision.to_string() });
    let page = usize::try_from(limit).unwrap_or(usize::MAX);
    if limit > 0 && objects.len() > page {
        meta["continue"] = json!(Continue::after(revision, &objects[page - 1].value).to_text());
        // With selectors the real server does not know how many are left.
        if selection.labels.is_empty() && selection.fields.is_empty() {
            meta["remainingItemCount"] = json!(objects.len() - page);
        }
        objects.truncate(page);
    }
    Ok(collection(target.kind(), &objects, meta, form))
}

fn asked(query: &Query, current: u64) -> Result<Asked, Refusal> {
    let rule = query.get("resourceVersionMatch");
    let revision = query.number("resourceVersion")?;
    if query.get("sendInitialEvents").is_some() {
        return Err(Refusal::bad_request("sendInitialEvents is forbidden for list"));
    }
    match (rule, revision) {
        (Some(_), None) => {
            Err(Refusal::bad_request("resourceVersionMatch is forbidden unless resourceVersion is provided"))
        }
        (Some("Exact"), Some(0)) => {
            Err(Refusal::bad_request("resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\""))
        }
        (_, Some(revision)) if revision > current => Err(Refusal::too_new(revision, current)),
        (Some("Exact"), Some(revision)) => Ok(Asked::Exactly(revision)),
        (Some("NotOlderThan") | None, _) => Ok(Asked::Newest),
        (Some(other), _) => Err(Refusal::bad_request(format!("resourceVersionMatch {other:?} is not supported"))),
    }
}

/// A list of objects in a form.
pub fn collection(kind: &Kind, objects: &[Arc<Object>], meta: Value, form: Form) -> Answer {
    match form {
        Form::Table(include) => answer::json(200, &as_table(kind, objects, meta, include)),
        Form::Partial => {
            let items: Vec<Value> = objects.iter().map(|object| table::partial(&object.value)).collect();
            let list = json!({
                "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": meta, "items": items,
            });
            answer::json(200, &list)
        }
        Form::Plain if events::has_two_faces(kind) => {
            let items: Vec<Bytes> =
                objects.iter().map(|object| Bytes::from(events::shown(&object.value).to_string())).collect();
            answer::json_bytes(200, joined(kind, &items, &meta))
        }
        Form::Plain => {
            let items: Vec<Bytes> = objects.iter().map(|object| object.json.clone()).collect();
            answer::json_bytes(200, joined(kind, &items, &meta))
        }
    }
}

fn as_table(kind: &Kind, objects: &[Arc<Object>], meta: Value, include: Include) -> Value {
    table::table(kind.columns, objects.iter().map(|object| &object.value), meta, include, Timestamp::now())
}

/// A list out of items that are already serialised.
fn joined(kind: &Kind, items: &[Bytes], meta: &Value) -> Vec<u8> {
    let head = format!(
        "{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{meta},\"items\":[",
        kind.kind,
        kind.api_version()
    );
    let size: usize = items.iter().map(|item| item.len() + 1).sum();
    let mut body = Vec::with_capacity(head.len() + size + 2);
    body.extend_from_slice(head.as_bytes());
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(item);
    }
    body.extend_from_slice(b"]}");
    body
}

/// Where a list stopped, and the revision it is to go on at.
struct Continue {
    revision: u64,
    namespace: String,
    name: String,
}

impl Continue {
    fn after(revision: u64, object: &Value) -> Self {
        let part = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        Self { revision, namespace: part("namespace"), name: part("name") }
    }

    /// `~` is in no name, and needs no escape in a query.
    fn to_text(&self) -> String {
        format!("{}~{}~{}", self.revision, self.namespace, self.name)
    }

    fn parse(text: &str) -> Result<Self, Refusal> {
        let wrong = || Refusal::bad_request("continue key is not valid");
        let mut parts = text.splitn(3, '~');
        let revision = parts.next().and_then(|part| part.parse().ok()).ok_or_else(wrong)?;
        let (namespace, name) = (parts.next().ok_or_else(wrong)?, parts.next().ok_or_else(wrong)?);
        Ok(Self { revision, namespace: namespace.to_owned(), name: name.to_owned() })
    }

    fn is_before(&self, object: &Value) -> bool {
        let part = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        (self.namespace.as_str(), self.name.as_str()) < (part("namespace"), part("name"))
    }
}

/// Whether the server has come up: its own namespaces are there.
pub fn is_ready(cluster: &Cluster) -> bool {
    cluster.store.get(core_index("namespaces"), "", "default").is_some() && !KINDS.is_empty()
}
