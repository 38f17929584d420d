//! Writing objects: decoding a body, the checks every write goes through, and storing the result.
//! The verbs are in the submodules; this file owns what they share.

mod create;
mod delete;
mod pods;
mod subresources;
mod update;

use std::sync::Arc;

use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use jiff::Timestamp;
use serde_json::{Value, json};

pub use create::{create, seed};
pub use delete::{DeleteOptions, Deleted, delete, delete_collection};
pub use pods::{bind, evict};
pub use subresources::{finalize, patch_scale, put_scale, scale};
pub use update::{Patch, patch, replace};

use super::events;
use super::kinds::{self, Kind, Sub};
use super::ownership::Author;
use super::protobuf;
use super::request::{FieldValidation, Target, WriteOptions};
use super::schema::{self, Shape};
use super::status::Refusal;
use super::store::{Object, Transaction};

/// The outcome of a write.
pub struct Written {
    pub object: Arc<Object>,
    pub created: bool,
    /// What the client should be told, though it was done.
    pub warnings: Vec<String>,
}

/// Reads a JSON, YAML or protobuf body. `expected` names the kind in messages, `fields` its type.
pub fn read_body(headers: &HeaderMap, body: &Bytes, expected: &str, fields: &'static str) -> Result<Value, Refusal> {
    let header = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("application/json");
    let media = header.split(';').next().unwrap_or_default().trim();
    match media {
        "application/json" | "" => serde_json::from_slice(body).map_err(|error| bad_json(expected, body, &error)),
        "application/yaml" => read_yaml(body, expected),
        "application/vnd.kubernetes.protobuf" if !fields.is_empty() => protobuf::read(body, fields).map_err(|why| {
            Refusal::bad_request(format!(
                "the object provided is unrecognized (must be of type {expected}): {why} ({})",
                summary(body)
            ))
        }),
        _ => Err(Refusal::body_format()),
    }
}

/// Reads YAML, which JSON is too.
pub fn read_yaml(body: &Bytes, expected: &str) -> Result<Value, Refusal> {
    let wrong = |why: String| {
        let shown = summary(body);
        Refusal::bad_request(format!(
            "the object provided is unrecognized (must be of type {expected}): error converting YAML to JSON: {why} ({shown})"
        ))
    };
    let text = std::str::from_utf8(body).map_err(|error| wrong(error.to_string()))?;
    if text.trim_start().starts_with('{')
        && let Ok(value) = serde_json::from_str(text)
    {
        return Ok(value);
    }
    serde_saphyr::from_str(text).map_err(|error| wrong(error.to_string()))
}

fn bad_json(expected: &str, body: &[u8], error: &serde_json::Error) -> Refusal {
    let why = if error.is_eof() { "unexpected end of JSON input".to_owned() } else { error.to_string() };
    let shown = summary(body);
    Refusal::bad_request(format!(
        "the object provided is unrecognized (must be of type {expected}): couldn't get version/kind; json parse error: {why} ({shown})"
    ))
}

/// The beginning of a body, enough to recognise it.
fn summary(body: &[u8]) -> String {
    const SHOWN: usize = 30;
    match body {
        [] => "<empty>".to_owned(),
        [b'{', ..] if body.len() <= SHOWN => String::from_utf8_lossy(body).into_owned(),
        [b'{', ..] => format!("{} ...", String::from_utf8_lossy(&body[..SHOWN])),
        _ => {
            let hex: String = body.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
            if body.len() <= SHOWN { hex } else { format!("{hex} ...") }
        }
    }
}

/// Checks that a body is of the kind that the path names, and fills in what it leaves out of that.
fn check_type(kind: &Kind, body: &mut Value) -> Result<(), Refusal> {
    let expected = kind.api_version();
    let Value::Object(map) = body else {
        let why = format!("the object provided is unrecognized (must be of type {}): it is no JSON object", kind.kind);
        return Err(Refusal::bad_request(why));
    };
    let version = map.get("apiVersion").and_then(Value::as_str).unwrap_or(&expected);
    let found = map.get("kind").and_then(Value::as_str).unwrap_or(kind.kind);
    if found != kind.kind {
        let version = version.rsplit('/').next().unwrap_or_default();
        let why =
            format!("{found} in version {version:?} cannot be handled as a {}: no conversion between them", kind.kind);
        return Err(Refusal::bad_request(why));
    }
    if version != expected {
        let why =
            format!("the API version in the data ({version}) does not match the expected API version ({expected})");
        return Err(Refusal::bad_request(why));
    }
    map.insert("apiVersion".to_owned(), json!(expected));
    map.insert("kind".to_owned(), json!(kind.kind));
    if !map.get("metadata").is_some_and(Value::is_object) && map.get("metadata").is_none_or(Value::is_null) {
        map.insert("metadata".to_owned(), json!({}));
    }
    Ok(())
}

/// Decodes a body into what its type knows; unknown fields are dropped, warned of or refused.
fn decode(kind: &Kind, body: &mut Value, validation: FieldValidation) -> Result<Vec<String>, Refusal> {
    let handled = format!("{} in version {:?} cannot be handled as a {}", kind.kind, kind.version, kind.kind);
    let unknown = schema::decode(kind.fields, body)
        .map_err(|refusal| Refusal::bad_request(format!("{handled}: {}", refusal.message)))?;
    let unknown: Vec<String> = unknown.into_iter().map(|path| format!("unknown field {path:?}")).collect();
    match validation {
        FieldValidation::Strict if !unknown.is_empty() => {
            Err(Refusal::bad_request(format!("{handled}: strict decoding error: {}", unknown.join(", "))))
        }
        FieldValidation::Warn => Ok(unknown),
        _ => Ok(Vec::new()),
    }
}

/// The shape of a row's objects as they are kept.
fn shape(target: &Target) -> Shape {
    Shape::of_type(kinds::KINDS[target.shelf()].fields)
}

/// Who writes, and through which door: the object's own, or that of its status.
fn author<'a>(options: &'a WriteOptions, kind: &Kind, api_version: &'a str, sub: Option<Sub>) -> Author<'a> {
    let (subresource, not_written): (&str, &[&str]) = match sub {
        Some(Sub::Status) => ("status", &["spec"]),
        _ if kind.splits_status() => ("", &["status"]),
        _ => ("", &[]),
    };
    Author { manager: &options.manager, api_version, subresource, not_written }
}

/// An event that came by its newer face, as it is kept.
fn as_kept(kind: &Kind, value: Value) -> Value {
    if events::has_two_faces(kind) { events::kept(&value) } else { value }
}

/// Refuses to write into a namespace that is not there.
fn check_namespace(tx: &Transaction<'_>, target: &Target, creating: Option<&str>) -> Result<(), Refusal> {
    let Some(namespace) = &target.namespace else {
        return Ok(());
    };
    let index = kinds::core_index("namespaces");
    let Some(found) = tx.get(index, "", namespace) else {
        return Err(Refusal::not_found(&kinds::KINDS[index], namespace));
    };
    match creating {
        Some(name) if found.value["metadata"]["deletionTimestamp"].is_string() => {
            Err(Refusal::terminating(target.kind(), name, namespace))
        }
        _ => Ok(()),
    }
}

/// Whether nothing holds an object that is to be deleted any longer.
fn may_go(kind: &Kind, object: &Value) -> bool {
    let meta = &object["metadata"];
    let none = |value: &Value| value.as_array().is_none_or(Vec::is_empty);
    let graceful =
        kind.is_core("pods") && meta["deletionGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds > 0);
    let contents = kind.is_core("namespaces") && !none(&object["spec"]["finalizers"]);
    meta["deletionTimestamp"].is_string() && none(&meta["finalizers"]) && !graceful && !contents
}

/// Everything the client decides about an object: all but status and the system's part of the metadata.
fn desired(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
        map.remove("metadata");
    }
    object
}

/// An object without what changes at every write.
fn lasting(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("managedFields");
        meta.remove("resourceVersion");
    }
    object
}

/// The result of a dry run: like the stored object, but nobody will ever see it.
fn unsaved(value: Value) -> Arc<Object> {
    let json = Bytes::from(serde_json::to_vec(&value).unwrap_or_default());
    Arc::new(Object { value, json, revision: 0 })
}

fn now() -> Timestamp {
    Timestamp::now()
}
