//! Server-side apply: merging a configuration, refusing what others own, dropping what is no longer claimed.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::super::schema::Shape;
use super::super::status::Refusal;
use super::fieldset::{FieldSet, item_key, parts};
use super::{Author, Entry, read, write};

/// What an apply patch makes of an object.
#[derive(Debug)]
pub struct Applied {
    pub object: Value,
    /// Whether anything differs from before, ownership included.
    pub changed: bool,
}

/// Applies `config` for `author` to `live`, which is null if there is no such object yet.
/// Without `force`, a field that somebody else owns with another value is refused.
pub fn apply(
    live: &Value,
    config: &Value,
    shape: &Shape,
    author: &Author<'_>,
    force: bool,
    now: Timestamp,
) -> Result<Applied, Refusal> {
    let before = read(live);
    let mut claimed = FieldSet::claimed(config, shape);
    claimed.forget(author.not_written);
    let mut object = if live.is_null() { config.clone() } else { merge(live, config, shape) };
    let changed = FieldSet::compare(Some(live), Some(&object), shape).changed;
    let mut entries = before.clone();
    if !force {
        refuse_conflicts(&entries, author, &changed)?;
    }
    let mut dropped = FieldSet::default();
    let mut kept = claimed.clone();
    for entry in &mut entries {
        if entry.is(author, "Apply") {
            dropped.union(&entry.set);
        } else {
            entry.set.subtract(&changed);
            kept.union(&entry.set);
        }
    }
    dropped.subtract(&kept);
    prune(&mut object, &dropped, shape);
    let removed = FieldSet::compare(Some(live), Some(&object), shape).removed;
    for entry in &mut entries {
        entry.set.subtract(&removed);
    }
    match entries.iter_mut().find(|entry| entry.is(author, "Apply")) {
        Some(own) => {
            if own.set != claimed || content(&object) != content(live) {
                own.time = json!(super::super::time::seconds(now));
            }
            own.set = claimed;
        }
        None => entries.push(Entry::new(author, "Apply", claimed, now)),
    }
    entries.retain(|entry| !entry.set.is_empty());
    let same = before.len() == entries.len() && before.iter().zip(&entries).all(|(old, new)| old.same(new));
    let changed = !same || content(&object) != content(live);
    write(&mut object, &entries);
    Ok(Applied { object, changed })
}

fn content(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("managedFields");
    }
    object
}

fn refuse_conflicts(entries: &[Entry], author: &Author<'_>, changed: &FieldSet) -> Result<(), Refusal> {
    let mut told: Vec<(String, Vec<String>)> = Vec::new();
    for entry in entries.iter().filter(|entry| !entry.is(author, "Apply")) {
        let paths = entry.set.shared_paths(changed);
        if !paths.is_empty() {
            let place = if entry.subresource.is_empty() {
                String::new()
            } else {
                format!(" with subresource {:?}", entry.subresource)
            };
            // One who applies may do so in several versions, so none is told.
            let version = match entry.operation.as_str() {
                "Apply" => String::new(),
                _ => format!(" using {}", entry.api_version),
            };
            told.push((format!("{:?}{place}{version}", entry.manager), paths));
        }
    }
    let count: usize = told.iter().map(|(_, paths)| paths.len()).sum();
    if count == 0 {
        return Ok(());
    }
    let worded: Vec<String> = told
        .iter()
        .map(|(who, paths)| match paths.as_slice() {
            [one] => format!("conflict with {who}: {one}"),
            many => format!("conflicts with {who}:\n- {}", many.join("\n- ")),
        })
        .collect();
    let plural = if count == 1 { "" } else { "s" };
    let causes = told
        .iter()
        .flat_map(|(who, paths)| {
            paths.iter().map(move |path| {
                json!({ "reason": "FieldManagerConflict", "message": format!("conflict with {who}"), "field": path })
            })
        })
        .collect();
    Err(Refusal::apply_conflict(format!("Apply failed with {count} conflict{plural}: {}", worded.join("\n")), causes))
}

fn merge(live: &Value, config: &Value, shape: &Shape) -> Value {
    let (Some(live_parts), Some(config_parts)) = (parts(live, shape), parts(config, shape)) else {
        // An empty struct claims nothing inside, so it takes nothing away; unless it is owned as a whole.
        let empty = config.as_object().is_some_and(Map::is_empty);
        let keeps = empty && live.is_object() && !shape.is_atomic();
        return if keeps { live.clone() } else { config.clone() };
    };
    match (live, config) {
        (Value::Object(live), Value::Object(config)) => {
            let mut merged = live.clone();
            for (key, value) in config {
                let value = live.get(key).map_or_else(|| value.clone(), |live| merge(live, value, shape.child(key)));
                merged.insert(key.clone(), value);
            }
            Value::Object(merged)
        }
        (Value::Array(live), Value::Array(config)) => {
            let keys = shape.keys().unwrap_or_default();
            let name = |item: &Value| {
                if keys.is_empty() { format!("v:{item}") } else { item_key(item, keys) }
            };
            let mut merged: Vec<Value> = live
                .iter()
                .map(|item| {
                    config_parts.get(&name(item)).map_or_else(|| item.clone(), |new| merge(item, new.0, shape.item()))
                })
                .collect();
            merged.extend(config.iter().filter(|item| !live_parts.contains_key(&name(item))).cloned());
            Value::Array(merged)
        }
        _ => config.clone(),
    }
}

/// Takes the paths of `dropped` out of `value`, and containers that get empty by it.
fn prune(value: &mut Value, dropped: &FieldSet, shape: &Shape) {
    let keys = shape.keys().unwrap_or_default().to_vec();
    match value {
        Value::Object(map) => {
            for (name, child) in &dropped.children {
                let Some(key) = name.strip_prefix("f:") else {
                    continue;
                };
                let Some(inner) = map.get_mut(key) else {
                    continue;
                };
                let leaf = parts(inner, shape.child(key)).is_none();
                prune(inner, child, shape.child(key));
                let emptied = !child.children.is_empty() && is_empty(inner);
                if (child.member && leaf) || emptied {
                    map.remove(key);
                }
            }
        }
        Value::Array(items) => {
            items.retain_mut(|item| {
                let name = if keys.is_empty() { format!("v:{item}") } else { item_key(item, &keys) };
                match dropped.children.get(&name) {
                    Some(child) if child.member => false,
                    Some(child) => {
                        prune(item, child, shape.item());
                        true
                    }
                    None => true,
                }
            });
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn author(manager: &str) -> Author<'_> {
        Author { manager, api_version: "v1", subresource: "", not_written: &[] }
    }

    fn config(data: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data})
    }

    fn applied(live: &Value, config: &Value, manager: &str, force: bool) -> Result<Applied, Refusal> {
        apply(live, config, &Shape::of_type("ConfigMap"), &author(manager), force, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_field_of_somebody_else_is_refused_unless_forced() {
        let live = applied(&Value::Null, &config(json!({"a": "1"})), "one", false).unwrap().object;
        let other = config(json!({"a": "2"}));
        let refusal = applied(&live, &other, "two", false).unwrap_err();
        assert_eq!(refusal.message, "Apply failed with 1 conflict: conflict with \"one\": .data.a");
        assert_eq!(refusal.code, 409);
        let forced = applied(&live, &other, "two", true).unwrap().object;
        assert_eq!(forced["data"]["a"], "2");
        assert_eq!(forced["metadata"]["managedFields"].as_array().unwrap().len(), 1);
    }

    /// An empty selector selects everything: what it selected before must not shine through.
    #[test]
    fn an_empty_selector_replaces_the_one_before() {
        let policy = |selector: Value| json!({"metadata": {"name": "p"}, "spec": {"podSelector": selector}});
        let shape = Shape::of_type("NetworkPolicy");
        let put = |live: &Value, config: &Value| {
            apply(live, config, &shape, &author("one"), false, Timestamp::UNIX_EPOCH).unwrap().object
        };
        let live = put(&Value::Null, &policy(json!({"matchLabels": {"app": "web"}})));
        assert_eq!(put(&live, &policy(json!({})))["spec"]["podSelector"], json!({}));
    }

    #[test]
    fn the_same_value_is_shared_without_conflict() {
        let live = applied(&Value::Null, &config(json!({"a": "1"})), "one", false).unwrap().object;
        let shared = applied(&live, &config(json!({"a": "1"})), "two", false).unwrap().object;
        assert_eq!(shared["metadata"]["managedFields"].as_array().unwrap().len(), 2);
        // Either may go; the field stays until both have.
        let one = applied(&shared, &config(json!({})), "one", false).unwrap().object;
        assert_eq!(one["data"]["a"], "1");
        let none = applied(&one, &config(json!({})), "two", false).unwrap().object;
        assert_eq!(none.get("data"), None);
    }

    #[test]
    fn what_is_no_longer_claimed_goes() {
        let live = applied(&Value::Null, &config(json!({"a": "1", "b": "2"})), "one", false).unwrap().object;
        let second = applied(&live, &config(json!({"b": "2"})), "one", false).unwrap();
        assert_eq!(second.object["data"], json!({"b": "2"}));
        assert!(second.changed);
        assert!(!applied(&second.object, &config(json!({"b": "2"})), "one", false).unwrap().changed);
    }

    #[test]
    fn list_items_are_claimed_by_their_keys() {
        let shape = Shape::of_type("Service");
        let with = |ports: Value| json!({"metadata": {"name": "s"}, "spec": {"ports": ports}});
        let one = apply(
            &Value::Null,
            &with(json!([{"port": 80, "name": "a"}, {"port": 81}])),
            &shape,
            &author("one"),
            false,
            Timestamp::UNIX_EPOCH,
        );
        let mut live = one.unwrap().object;
        live["spec"]["ports"][0]["protocol"] = json!("TCP");
        let two = apply(&live, &with(json!([{"port": 82}])), &shape, &author("two"), false, Timestamp::UNIX_EPOCH);
        let live = two.unwrap().object;
        assert_eq!(live["spec"]["ports"].as_array().unwrap().len(), 3);
        let gone = apply(
            &live,
            &with(json!([{"port": 80, "name": "a"}])),
            &shape,
            &author("one"),
            false,
            Timestamp::UNIX_EPOCH,
        );
        let ports = gone.unwrap().object["spec"]["ports"].clone();
        assert_eq!(ports.as_array().unwrap().iter().map(|p| p["port"].as_i64().unwrap()).collect::<Vec<_>>(), [80, 82]);
    }
}
