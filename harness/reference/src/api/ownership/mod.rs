//! Who owns which field: `managedFields`, and server-side apply which depends on them.
//! Pure functions over values; storing and validating what comes out is the writer's task.

mod apply;
mod fieldset;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::schema::Shape;
pub use apply::apply;
use fieldset::FieldSet;

/// Somebody who writes an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author<'a> {
    /// `fieldManager` of the request, or what its user agent says.
    pub manager: &'a str,
    pub api_version: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Parts of the object that are not written through this door, and so not owned by it.
    pub not_written: &'static [&'static str],
}

/// One entry of `managedFields`.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    manager: String,
    operation: String,
    api_version: String,
    subresource: String,
    time: Value,
    set: FieldSet,
}

impl Entry {
    fn new(author: &Author<'_>, operation: &str, set: FieldSet, now: Timestamp) -> Self {
        Self {
            manager: author.manager.to_owned(),
            operation: operation.to_owned(),
            api_version: author.api_version.to_owned(),
            subresource: author.subresource.to_owned(),
            time: json!(super::time::seconds(now)),
            set,
        }
    }

    fn is(&self, author: &Author<'_>, operation: &str) -> bool {
        self.manager == author.manager
            && self.operation == operation
            && self.api_version == author.api_version
            && self.subresource == author.subresource
    }

    /// Whether two entries say the same, whenever they were made.
    fn same(&self, other: &Self) -> bool {
        Self { time: Value::Null, ..self.clone() } == Self { time: Value::Null, ..other.clone() }
    }
}

fn read(object: &Value) -> Vec<Entry> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries
        .filter(|entry| entry["fieldsV1"].is_object())
        .map(|entry| Entry {
            manager: text(&entry["manager"]),
            operation: text(&entry["operation"]),
            api_version: text(&entry["apiVersion"]),
            subresource: text(&entry["subresource"]),
            time: entry["time"].clone(),
            set: FieldSet::from_json(&entry["fieldsV1"]),
        })
        .collect()
}

fn write(object: &mut Value, entries: &[Entry]) {
    let entries: Vec<Value> = entries
        .iter()
        .filter(|entry| !entry.set.is_empty())
        .map(|entry| {
            let mut told = json!({
                "manager": entry.manager, "operation": entry.operation, "apiVersion": entry.api_version,
                "time": entry.time, "fieldsType": "FieldsV1", "fieldsV1": entry.set.to_json(),
            });
            if !entry.subresource.is_empty() {
                told["subresource"] = json!(entry.subresource);
            }
            told
        })
        .collect();
    let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    if entries.is_empty() {
        meta.remove("managedFields");
    } else {
        meta.insert("managedFields".to_owned(), Value::Array(entries));
    }
}

/// Notes in `new` that `author` made it what it is out of `old`, by anything but an apply patch.
/// Entries that the new object brings itself are believed; without any, those of the old one go on.
pub fn note_update(old: &Value, new: &mut Value, shape: &Shape, author: &Author<'_>, now: Timestamp) {
    let mut entries = read(new);
    if entries.is_empty() {
        entries = read(old);
    }
    let mut change = FieldSet::compare(Some(old), Some(new), shape);
    change.changed.forget(author.not_written);
    if !(change.changed.is_empty() && change.removed.is_empty()) {
        for entry in &mut entries {
            entry.set.subtract(&change.removed);
            if !entry.is(author, "Update") {
                entry.set.subtract(&change.changed);
            }
        }
        if !change.changed.is_empty() {
            match entries.iter_mut().find(|entry| entry.is(author, "Update")) {
                Some(own) => {
                    own.set.union(&change.changed);
                    own.time = json!(super::time::seconds(now));
                }
                None => entries.push(Entry::new(author, "Update", change.changed, now)),
            }
        }
    }
    write(new, &entries);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn ownership_moves_with_the_field_as_recorded() {
        let shape = Shape::of_type("ConfigMap");
        let author = |manager| Author { manager, api_version: "v1", subresource: "", not_written: &[] };
        let mut first = json!({"metadata": {"name": "w"}, "data": {"a": "1"}});
        note_update(&json!({}), &mut first, &shape, &author("kubectl-create"), Timestamp::UNIX_EPOCH);
        assert_eq!(first["metadata"]["managedFields"][0]["fieldsV1"], json!({"f:data": {".": {}, "f:a": {}}}));
        let mut second = first.clone();
        second["data"]["a"] = json!("2");
        note_update(&first, &mut second, &shape, &author("kubectl-patch"), Timestamp::UNIX_EPOCH);
        assert_eq!(second["metadata"]["managedFields"][0]["fieldsV1"], json!({"f:data": {}}));
        assert_eq!(second["metadata"]["managedFields"][1]["fieldsV1"], json!({"f:data": {"f:a": {}}}));
    }
}
