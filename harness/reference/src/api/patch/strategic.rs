//! Strategic merge patch: a merge patch that knows how the lists of a type merge, with its `$` directives.

use serde_json::{Map, Value};

use super::super::schema::Shape;
use super::super::status::Refusal;
use super::merge_key;

const PATCH: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE_ITEMS: &str = "$deleteFromPrimitiveList/";

/// Merges `patch` into `object`, whose shape says which lists merge and by what key.
pub fn strategic(object: &mut Value, patch: &Value, shape: &Shape) -> Result<(), Refusal> {
    let Value::Object(entries) = patch else {
        return Err(Refusal::bad_request("a strategic merge patch must be an object"));
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Value::Object(target) = object else {
        return Ok(());
    };
    merge_map(target, entries, shape)
}

fn merge_map(target: &mut Map<String, Value>, patch: &Map<String, Value>, shape: &Shape) -> Result<(), Refusal> {
    match patch.get(PATCH).and_then(Value::as_str) {
        None if !patch.contains_key(PATCH) => {}
        Some("replace") => {
            target.clear();
            let kept = patch.iter().filter(|(key, _)| *key != PATCH);
            target.extend(kept.map(|(key, value)| (key.clone(), value.clone())));
            return Ok(());
        }
        Some("delete") => {
            target.clear();
            return Ok(());
        }
        Some("merge") => {}
        other => {
            return Err(Refusal::bad_request(format!("Unknown patch type found: {}", other.unwrap_or(""))));
        }
    }
    if let Some(kept) = patch.get(RETAIN).and_then(Value::as_array) {
        target.retain(|key, _| kept.iter().any(|wanted| wanted == key));
    }
    for (key, value) in patch {
        if let Some(field) = key.strip_prefix(DELETE_ITEMS) {
            delete_items(target, field, value);
        } else if !key.starts_with('$') {
            merge_entry(target, key, value, shape.child(key))?;
        }
    }
    for (key, order) in patch {
        if let (Some(field), Some(order)) = (key.strip_prefix(ORDER), order.as_array())
            && let Some(Value::Array(items)) = target.get_mut(field)
        {
            reorder(items, order, merge_key(shape.child(field)));
        }
    }
    Ok(())
}

fn merge_entry(target: &mut Map<String, Value>, key: &str, value: &Value, shape: &Shape) -> Result<(), Refusal> {
    match value {
        Value::Null => {
            target.remove(key);
        }
        Value::Object(entries) => {
            if entries.get(PATCH).is_some_and(|directive| directive == "delete") {
                target.remove(key);
                return Ok(());
            }
            let into = target.entry(key.to_owned()).or_insert_with(|| Value::Object(Map::new()));
            strategic(into, &Value::Object(entries.clone()), shape)?;
        }
        Value::Array(items) => {
            let into = target.entry(key.to_owned()).or_insert_with(|| Value::Array(Vec::new()));
            if !into.is_array() {
                *into = Value::Array(Vec::new());
            }
            if let Value::Array(existing) = into {
                merge_list(existing, items, shape)?;
            }
        }
        other => {
            target.insert(key.to_owned(), other.clone());
        }
    }
    Ok(())
}

fn merge_list(existing: &mut Vec<Value>, patch: &[Value], shape: &Shape) -> Result<(), Refusal> {
    let replaces =
        patch.iter().any(|item| item[PATCH] == "replace" && item.as_object().is_some_and(|map| map.len() == 1));
    if replaces || shape.keys().is_none() {
        *existing = patch.iter().filter(|item| item.get(PATCH).is_none()).cloned().collect();
        return Ok(());
    }
    let Some(key) = merge_key(shape) else {
        let new: Vec<Value> = patch.iter().filter(|item| !existing.contains(item)).cloned().collect();
        existing.extend(new);
        return Ok(());
    };
    for item in patch {
        let id = item
            .get(key)
            .ok_or_else(|| Refusal::bad_request(format!("map: {item} does not contain declared merge key: {key}")))?;
        if item[PATCH] == "delete" {
            existing.retain(|known| known[key] != *id);
        } else if let Some(known) = existing.iter_mut().find(|known| known[key] == *id) {
            strategic(known, item, shape.item())?;
        } else {
            let mut fresh = Value::Object(Map::new());
            strategic(&mut fresh, item, shape.item())?;
            existing.push(fresh);
        }
    }
    Ok(())
}

fn delete_items(target: &mut Map<String, Value>, field: &str, gone: &Value) {
    if let (Some(Value::Array(items)), Some(gone)) = (target.get_mut(field), gone.as_array()) {
        items.retain(|item| !gone.contains(item));
    }
}

/// Puts the items that `order` names in its order, into the places that such items hold; the others stay.
fn reorder(items: &mut [Value], order: &[Value], key: Option<&str>) {
    let id = |item: &Value| key.map_or_else(|| item.clone(), |key| item[key].clone());
    let order: Vec<Value> = order.iter().map(id).collect();
    let rank = |item: &Value| order.iter().position(|wanted| *wanted == id(item));
    let places: Vec<usize> = (0..items.len()).filter(|place| rank(&items[*place]).is_some()).collect();
    let mut ordered: Vec<Value> = places.iter().map(|place| items[*place].clone()).collect();
    ordered.sort_by_key(rank);
    for (place, item) in places.into_iter().zip(ordered) {
        items[place] = item;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    fn pod(containers: Value) -> Value {
        json!({"spec": {"containers": containers}})
    }

    #[rstest]
    #[case::by_name(
        pod(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1"}])),
        pod(json!([{"name": "b", "image": "2"}])),
        pod(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "2"}])))]
    #[case::new_item(
        pod(json!([{"name": "a"}])), pod(json!([{"name": "b"}])), pod(json!([{"name": "a"}, {"name": "b"}])))]
    #[case::delete_item(
        pod(json!([{"name": "a"}, {"name": "b"}])), pod(json!([{"$patch": "delete", "name": "a"}])),
        pod(json!([{"name": "b"}])))]
    #[case::replace_list(
        pod(json!([{"name": "a"}])), pod(json!([{"$patch": "replace"}, {"name": "c"}])), pod(json!([{"name": "c"}])))]
    #[case::order(
        pod(json!([{"name": "a"}, {"name": "b"}])),
        json!({"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}, {"name": "b"}], "containers": [{"name": "c"}]}}),
        pod(json!([{"name": "c"}, {"name": "a"}, {"name": "b"}])))]
    #[case::atomic_list(
        json!({"spec": {"tolerations": [{"key": "a"}]}}), json!({"spec": {"tolerations": [{"key": "b"}]}}),
        json!({"spec": {"tolerations": [{"key": "b"}]}}))]
    #[case::set(
        json!({"metadata": {"finalizers": ["a"]}}), json!({"metadata": {"finalizers": ["a", "b"]}}),
        json!({"metadata": {"finalizers": ["a", "b"]}}))]
    #[case::delete_from_set(
        json!({"metadata": {"finalizers": ["a", "b"]}}), json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}),
        json!({"metadata": {"finalizers": ["b"]}}))]
    #[case::retain_keys(
        json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
        json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}]}}),
        json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}}))]
    #[case::null(
        json!({"metadata": {"labels": {"a": "1", "b": "2"}}}), json!({"metadata": {"labels": {"a": null}}}),
        json!({"metadata": {"labels": {"b": "2"}}}))]
    #[case::replace_map(
        json!({"metadata": {"labels": {"a": "1"}}}), json!({"metadata": {"labels": {"$patch": "replace", "b": "2"}}}),
        json!({"metadata": {"labels": {"b": "2"}}}))]
    fn lists_merge_as_their_type_says(#[case] mut object: Value, #[case] patch: Value, #[case] expected: Value) {
        strategic(&mut object, &patch, &Shape::of_type("Pod")).unwrap();
        assert_eq!(object, expected);
    }

    #[test]
    fn an_item_without_its_key_is_refused() {
        let mut object = pod(json!([{"name": "a"}]));
        let patch = pod(json!([{"image": "2"}]));
        assert_eq!(strategic(&mut object, &patch, &Shape::of_type("Pod")).unwrap_err().code, 400);
    }
}
