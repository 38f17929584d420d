//! Names, labels, annotations and owners: the rules for `metadata` and for every name inside a spec.

use serde_json::{Value, json};

use super::super::kinds::Kind;
use super::super::status::Cause;
use super::list;

const LABEL_RULE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
'[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const SERVICE_RULE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation \
is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const NAME_PART_RULE: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
'.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for \
validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
/// Bytes of all annotations of an object together.
const ANNOTATION_BYTES: usize = 256 << 10;

fn edges(text: &str, good: impl Fn(char) -> bool) -> bool {
    text.chars().next().is_some_and(&good) && text.chars().last().is_some_and(good)
}

fn lower(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

fn is_label(text: &str) -> bool {
    edges(text, lower) && text.chars().all(|c| lower(c) || c == '-')
}

/// What is wrong with an RFC 1123 label.
pub(super) fn label(text: &str) -> Option<&'static str> {
    match text {
        _ if text.len() > 63 => Some("must be no more than 63 characters"),
        _ if is_label(text) => None,
        _ => Some(LABEL_RULE),
    }
}

/// What is wrong with an RFC 1123 subdomain.
pub(super) fn subdomain(text: &str) -> Option<&'static str> {
    match text {
        _ if text.len() > 253 => Some("must be no more than 253 characters"),
        _ if text.split('.').all(is_label) => None,
        _ => Some(SUBDOMAIN_RULE),
    }
}

fn service_name(text: &str) -> Option<&'static str> {
    match text {
        _ if text.len() > 63 => Some("must be no more than 63 characters"),
        _ if is_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase()) => None,
        _ => Some(SERVICE_RULE),
    }
}

/// What is wrong with the name of a port, one thing at a time.
pub(super) fn port_name(text: &str) -> Vec<&'static str> {
    let mut wrong = Vec::new();
    if text.len() > 15 {
        wrong.push("must be no more than 15 characters");
    }
    if !text.chars().all(|c| lower(c) || c == '-') {
        wrong.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
    }
    if !text.contains(|c: char| c.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)");
    }
    if text.contains("--") {
        wrong.push("must not contain consecutive hyphens");
    }
    if text.starts_with('-') || text.ends_with('-') {
        wrong.push("must not begin or end with a hyphen");
    }
    wrong
}

fn is_name_part(text: &str) -> bool {
    text.len() <= 63
        && edges(text, |c| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// What is wrong with the key of a label or annotation.
pub(super) fn qualified_name(text: &str) -> Option<&'static str> {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    match prefix {
        Some("") => Some("prefix part must be non-empty"),
        Some(prefix) if subdomain(prefix).is_some() => Some(SUBDOMAIN_RULE),
        _ if name.is_empty() => Some("name part must be non-empty"),
        _ if name.len() > 63 => Some("name part must be no more than 63 characters"),
        _ if is_name_part(name) => None,
        _ => Some(NAME_PART_RULE),
    }
}

/// Keys and values of labels.
pub(super) fn labels(value: &Value, field: &str, causes: &mut Vec<Cause>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        if let Some(why) = qualified_name(key) {
            causes.push(Cause::invalid(field, &json!(key), why));
        }
        let text = value.as_str().unwrap_or_default();
        if text.len() > 63 {
            causes.push(Cause::invalid(field, value, "must be no more than 63 characters"));
        } else if !text.is_empty() && !is_name_part(text) {
            causes.push(Cause::invalid(field, value, LABEL_VALUE_RULE));
        }
    }
}

fn name_rule(kind: &Kind) -> fn(&str) -> Option<&'static str> {
    match kind.kind {
        "Namespace" => label,
        "Service" => service_name,
        _ => subdomain,
    }
}

pub(super) fn check(kind: &Kind, object: &Value, causes: &mut Vec<Cause>) {
    let meta = &object["metadata"];
    match meta["name"].as_str() {
        None | Some("") => causes.push(Cause::required("metadata.name", "name or generateName is required")),
        Some(name) => {
            if let Some(why) = name_rule(kind)(name) {
                causes.push(Cause::invalid("metadata.name", &meta["name"], why));
            }
        }
    }
    labels(&meta["labels"], "metadata.labels", causes);
    annotations(&meta["annotations"], causes);
    for (index, finalizer) in list(&meta["finalizers"]).iter().enumerate() {
        if let Some(why) = qualified_name(finalizer.as_str().unwrap_or_default()) {
            causes.push(Cause::invalid(format!("metadata.finalizers[{index}]"), finalizer, why));
        }
    }
    owners(&meta["ownerReferences"], causes);
}

fn annotations(value: &Value, causes: &mut Vec<Cause>) {
    let mut size = 0;
    for (key, value) in value.as_object().into_iter().flatten() {
        size += key.len() + value.as_str().map_or(0, str::len);
        if let Some(why) = qualified_name(&key.to_lowercase()) {
            causes.push(Cause::invalid("metadata.annotations", &json!(key), why));
        }
    }
    if size > ANNOTATION_BYTES {
        let message = format!("Too long: may not be more than {ANNOTATION_BYTES} bytes");
        causes.push(Cause { field: "metadata.annotations".to_owned(), reason: "FieldValueTooLong", message });
    }
}

fn owners(value: &Value, causes: &mut Vec<Cause>) {
    let mut controllers = 0;
    for (index, owner) in list(value).iter().enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().is_none_or(str::is_empty) {
                let path = format!("metadata.ownerReferences[{index}].{field}");
                causes.push(Cause::invalid(path, &json!(""), &format!("{field} must not be empty")));
            }
        }
        controllers += usize::from(owner["controller"] == true);
    }
    if controllers > 1 {
        let why = "Only one reference can have Controller set to true";
        causes.push(Cause::invalid("metadata.ownerReferences", value, why));
    }
}

pub(super) fn check_change(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    for field in ["name", "namespace", "uid"] {
        let (old, new) = (&old["metadata"][field], &new["metadata"][field]);
        if old != new {
            causes.push(Cause::invalid(format!("metadata.{field}"), new, "field is immutable"));
        }
    }
    // An object that is going away may lose finalizers, never gain them.
    if old["metadata"]["deletionTimestamp"].is_string() {
        let known = list(&old["metadata"]["finalizers"]);
        let added: Vec<&Value> =
            list(&new["metadata"]["finalizers"]).iter().filter(|finalizer| !known.contains(finalizer)).collect();
        if !added.is_empty() {
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers {}",
                json!(added)
            );
            causes.push(Cause::forbidden("metadata.finalizers", &why));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("app", true)]
    #[case("app.kubernetes.io/name", true)]
    #[case("kubectl.kubernetes.io/last-applied-configuration", true)]
    #[case("/x", false)]
    #[case("a/", false)]
    #[case("-a", false)]
    #[case("a b", false)]
    #[case("Upper/Case", false)]
    #[case("upper/Case", true)]
    fn keys_are_qualified_names(#[case] key: &str, #[case] valid: bool) {
        assert_eq!(qualified_name(key).is_none(), valid, "{key}");
    }

    #[rstest]
    #[case("http", true)]
    #[case("p-80", true)]
    #[case("80", false)]
    #[case("a--b", false)]
    #[case("HTTP", false)]
    #[case("a-very-long-port-name", false)]
    fn port_names_have_letters_and_single_hyphens(#[case] name: &str, #[case] valid: bool) {
        assert_eq!(port_name(name).is_empty(), valid, "{name}");
    }
}
