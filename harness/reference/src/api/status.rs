//! Refusals: every way the API says no, as a Kubernetes `Status` with its HTTP code.
//! Owns the wording; knows nothing of HTTP connections or of the store.

use serde_json::{Map, Value, json};

use super::kinds::Kind;

/// A request that is not carried out, in the words a client gets to see.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason; empty when the real server gives none.
    pub reason: &'static str,
    /// What a person reads.
    pub message: String,
    /// `details` of the Status, when it has any.
    pub details: Option<Value>,
}

/// One field that does not hold what it must.
#[derive(Debug, Clone, PartialEq)]
pub struct Cause {
    /// Path of the field, `spec.ports[0].port`.
    pub field: String,
    /// `FieldValueInvalid` and its like.
    pub reason: &'static str,
    /// The text after `field: `.
    pub message: String,
}

impl Cause {
    /// The field holds `value`, which `why` forbids. Strings are quoted as Go quotes them.
    pub fn invalid(field: impl Into<String>, value: &Value, why: &str) -> Self {
        Self::invalid_text(field, &shown(value), why)
    }

    /// As [`Cause::invalid`], for a value that is already worded.
    pub fn invalid_text(field: impl Into<String>, value: &str, why: &str) -> Self {
        Self { field: field.into(), reason: "FieldValueInvalid", message: format!("Invalid value: {value}: {why}") }
    }

    /// The field must be given.
    pub fn required(field: impl Into<String>, why: &str) -> Self {
        let message = if why.is_empty() { "Required value".to_owned() } else { format!("Required value: {why}") };
        Self { field: field.into(), reason: "FieldValueRequired", message }
    }

    /// The field must not be given here.
    pub fn forbidden(field: impl Into<String>, why: &str) -> Self {
        Self { field: field.into(), reason: "FieldValueForbidden", message: format!("Forbidden: {why}") }
    }

    /// The field holds none of the allowed words.
    pub fn unsupported(field: impl Into<String>, value: &Value, allowed: &[&str]) -> Self {
        let allowed: Vec<String> = allowed.iter().map(|word| format!("{word:?}")).collect();
        Self {
            field: field.into(),
            reason: "FieldValueNotSupported",
            message: format!("Unsupported value: {}: supported values: {}", shown(value), allowed.join(", ")),
        }
    }

    /// The value is there a second time.
    pub fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self {
            field: field.into(),
            reason: "FieldValueDuplicate",
            message: format!("Duplicate value: {}", shown(value)),
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        other => other.to_string(),
    }
}

impl Refusal {
    fn plain(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None }
    }

    fn about(code: u16, reason: &'static str, message: String, group: &str, kind: &str, name: &str) -> Self {
        let mut details = Map::new();
        for (key, value) in [("name", name), ("group", group), ("kind", kind)] {
            if !value.is_empty() {
                details.insert(key.to_owned(), json!(value));
            }
        }
        Self { code, reason, message, details: Some(Value::Object(details)) }
    }

    /// No object of this name.
    pub fn not_found(kind: &Kind, name: &str) -> Self {
        let message = format!("{} {name:?} not found", kind.resource());
        Self::about(404, "NotFound", message, kind.group, kind.plural, name)
    }

    /// No such path.
    pub fn no_such_path() -> Self {
        let message = "the server could not find the requested resource";
        Self { details: Some(json!({})), ..Self::plain(404, "NotFound", message) }
    }

    /// The name is taken.
    pub fn already_exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", kind.resource());
        Self::about(409, "AlreadyExists", message, kind.group, kind.plural, name)
    }

    /// The object is not at the version the client has seen.
    pub fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", kind.resource());
        Self::about(409, "Conflict", message, kind.group, kind.plural, name)
    }

    /// The usual lost-update conflict.
    pub fn modified(kind: &Kind, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, why)
    }

    /// Fields that server-side apply may not take from their managers.
    pub fn apply_conflict(message: String, causes: Vec<Value>) -> Self {
        Self { details: Some(json!({ "causes": causes })), ..Self::plain(409, "Conflict", message) }
    }

    /// The object's fields are wrong.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: Vec<Cause>) -> Self {
        let subject = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let worded: Vec<String> = causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        let told = match worded.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("{subject} {name:?} is invalid: {told}");
        let mut refusal = Self::about(422, "Invalid", message, group, kind, name);
        let causes: Vec<Value> = causes
            .into_iter()
            .map(|cause| json!({ "reason": cause.reason, "message": cause.message, "field": cause.field }))
            .collect();
        if let Some(Value::Object(details)) = &mut refusal.details {
            details.insert("causes".to_owned(), Value::Array(causes));
        }
        refusal
    }

    /// The request itself makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::plain(400, "BadRequest", message)
    }

    /// A body in a format that is not read here.
    pub fn body_format() -> Self {
        let message = "the body of the request was in an unknown format - accepted media types include: \
                       application/json, application/yaml, application/vnd.kubernetes.protobuf";
        Self::plain(415, "UnsupportedMediaType", message)
    }

    /// A patch of a type that is not known here.
    pub fn patch_format() -> Self {
        let message = "415: Unsupported Media Type";
        Self { details: Some(json!({})), ..Self::plain(415, "UnsupportedMediaType", message) }
    }

    /// The client accepts nothing that can be given.
    pub fn not_acceptable() -> Self {
        let message = "only the following media types are accepted: application/json";
        Self::plain(406, "NotAcceptable", message)
    }

    /// Allowed to others, not to this user.
    pub fn forbidden(message: String, details: Option<Value>) -> Self {
        Self { details, ..Self::plain(403, "Forbidden", message) }
    }

    /// Some objects stay as long as the cluster does.
    pub fn permanent(kind: &Kind, name: &str) -> Self {
        let message = format!("{} {name:?} is forbidden: this {} may not be deleted", kind.resource(), kind.singular);
        Self::about(403, "Forbidden", message, kind.group, kind.plural, name)
    }

    /// Nothing may be created in a namespace that is going away.
    pub fn terminating(kind: &Kind, name: &str, namespace: &str) -> Self {
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let message = format!("{} {name:?} is forbidden: {why}", kind.resource());
        let mut refusal = Self::about(403, "Forbidden", message, kind.group, kind.plural, name);
        if let Some(Value::Object(details)) = &mut refusal.details {
            let told = format!("namespace {namespace} is being terminated");
            let cause = json!({ "reason": "NamespaceTerminating", "message": told, "field": "metadata.namespace" });
            details.insert("causes".to_owned(), json!([cause]));
        }
        refusal
    }

    /// A token nobody knows.
    pub fn unauthorized() -> Self {
        Self::plain(401, "Unauthorized", "Unauthorized")
    }

    /// The verb is not one of the resource's.
    pub fn no_such_verb() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self { details: Some(json!({})), ..Self::plain(405, "MethodNotAllowed", message) }
    }

    /// The body is longer than `limit` bytes.
    pub fn too_large(limit: usize) -> Self {
        let message = format!("Request entity too large: limit is {limit}");
        Self { details: Some(json!({})), ..Self::plain(413, "RequestEntityTooLarge", message) }
    }

    /// The history before this version is gone; `oldest` is the first that is left.
    pub fn expired(asked: u64, oldest: u64) -> Self {
        Self::plain(410, "Expired", format!("too old resource version: {asked} ({oldest})"))
    }

    /// A list cannot go on from where it stopped.
    pub fn continue_expired() -> Self {
        let message = "The provided continue parameter is too old to display a consistent list result. \
                       You can start a new list without the continue parameter";
        Self::plain(410, "Expired", message)
    }

    /// The client has seen a later version than the server.
    pub fn too_new(asked: u64, current: u64) -> Self {
        let message = format!("Too large resource version: {asked}, current: {current}");
        let cause = json!({ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" });
        let details = json!({ "causes": [cause], "retryAfterSeconds": 1 });
        Self { details: Some(details), ..Self::plain(504, "Timeout", message) }
    }

    /// The body did not come in time.
    pub fn too_slow() -> Self {
        Self::plain(408, "Timeout", "the body of the request did not arrive in time")
    }

    /// Something went wrong on this side.
    pub fn internal(message: impl Into<String>) -> Self {
        let message = message.into();
        let details = json!({ "causes": [{ "message": message.clone() }] });
        let told = format!("Internal error occurred: {message}");
        Self { details: Some(details), ..Self::plain(500, "InternalError", told) }
    }

    /// The node's kubelet cannot be spoken to.
    pub fn kubelet_unreachable(message: String) -> Self {
        Self::plain(500, "InternalError", message)
    }

    /// The `Status` object.
    pub fn to_value(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = json!(self.reason);
        }
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status
    }
}
