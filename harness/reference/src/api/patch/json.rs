//! JSON patch, RFC 6902.

use serde_json::Value;

use super::super::status::Refusal;

/// More operations than this are refused, as the real server does.
const MOST_OPERATIONS: usize = 10_000;

pub(super) fn apply(object: &mut Value, operations: &Value) -> Result<(), Refusal> {
    let Some(operations) = operations.as_array() else {
        let why = "json: cannot unmarshal object into Go value of type jsonpatch.Patch";
        return Err(Refusal::bad_request(format!("error decoding patch: {why}")));
    };
    if operations.len() > MOST_OPERATIONS {
        return Err(Refusal {
            code: 413,
            reason: "RequestEntityTooLarge",
            message: format!(
                "The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {}",
                operations.len()
            ),
            details: None,
        });
    }
    // All or nothing: the caller's object is only touched when every operation has worked.
    let mut result = object.clone();
    for operation in operations {
        step(&mut result, operation).map_err(failed)?;
    }
    *object = result;
    Ok(())
}

fn failed(why: String) -> Refusal {
    let message = format!("the server rejected our request due to an error in our request: {why}");
    Refusal { code: 422, reason: "Invalid", message, details: None }
}

fn step(object: &mut Value, operation: &Value) -> Result<(), String> {
    let path = pointer(operation, "path")?;
    let value = || operation.get("value").cloned().ok_or_else(|| "operation without `value`".to_owned());
    match operation["op"].as_str() {
        Some("add") => add(object, &path, value()?),
        Some("remove") => take(object, &path).map(drop),
        Some("replace") => {
            let wanted = value()?;
            *find(object, &path).ok_or_else(|| missing("replace", operation))? = wanted;
            Ok(())
        }
        Some("move") => {
            let from = pointer(operation, "from")?;
            if path.len() > from.len() && path.starts_with(&from) {
                return Err("a value cannot be moved into itself".to_owned());
            }
            let value = take(object, &from)?;
            add(object, &path, value)
        }
        Some("copy") => {
            let from = pointer(operation, "from")?;
            let value = find(object, &from).cloned().ok_or_else(|| missing("copy", operation))?;
            add(object, &path, value)
        }
        Some("test") => {
            let wanted = value()?;
            let found = find(object, &path).cloned().unwrap_or(Value::Null);
            if found == wanted { Ok(()) } else { Err(format!("testing value {} failed", operation["path"])) }
        }
        other => Err(format!("unexpected kind: {}", other.unwrap_or("unknown"))),
    }
}

fn missing(what: &str, operation: &Value) -> String {
    format!("{what} operation does not apply: doc is missing key: {}", operation["path"])
}

fn pointer(operation: &Value, field: &str) -> Result<Vec<String>, String> {
    let text = operation[field].as_str().ok_or_else(|| format!("operation without `{field}`"))?;
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let rest = text.strip_prefix('/').ok_or_else(|| format!("`{text}` is not a JSON pointer"))?;
    Ok(rest.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect())
}

fn index(text: &str, length: usize) -> Option<usize> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|index| digits && *index < length)
}

fn find<'a>(object: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
    path.iter().try_fold(object, |value, part| match value {
        Value::Object(entries) => entries.get_mut(part),
        Value::Array(items) => index(part, items.len()).and_then(|index| items.get_mut(index)),
        _ => None,
    })
}

fn add(object: &mut Value, path: &[String], value: Value) -> Result<(), String> {
    let Some((last, parents)) = path.split_last() else {
        *object = value;
        return Ok(());
    };
    match find(object, parents) {
        Some(Value::Object(entries)) => {
            entries.insert(last.clone(), value);
            Ok(())
        }
        Some(Value::Array(items)) if last == "-" => {
            items.push(value);
            Ok(())
        }
        Some(Value::Array(items)) => {
            let at = index(last, items.len() + 1).ok_or_else(|| format!("no index `{last}` to add at"))?;
            items.insert(at, value);
            Ok(())
        }
        _ => Err(format!("add operation does not apply: doc is missing path: \"/{}\"", path.join("/"))),
    }
}

fn take(object: &mut Value, path: &[String]) -> Result<Value, String> {
    let gone = || format!("remove operation does not apply: doc is missing path: \"/{}\"", path.join("/"));
    let (last, parents) = path.split_last().ok_or_else(gone)?;
    match find(object, parents).ok_or_else(gone)? {
        Value::Object(entries) => entries.remove(last).ok_or_else(gone),
        Value::Array(items) => index(last, items.len()).map(|at| items.remove(at)).ok_or_else(gone),
        _ => Err(gone()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case(json!({"a": 1}), json!([{"op": "add", "path": "/b", "value": 2}]), json!({"a": 1, "b": 2}))]
    #[case(json!({"a": [1, 3]}), json!([{"op": "add", "path": "/a/1", "value": 2}]), json!({"a": [1, 2, 3]}))]
    #[case(json!({"a": [1]}), json!([{"op": "add", "path": "/a/-", "value": 2}]), json!({"a": [1, 2]}))]
    #[case(json!({"a": {"x/y": 1}}), json!([{"op": "remove", "path": "/a/x~1y"}]), json!({"a": {}}))]
    #[case(json!({"a": 1}), json!([{"op": "replace", "path": "/a", "value": 2}]), json!({"a": 2}))]
    #[case(json!({"a": 1}), json!([{"op": "move", "from": "/a", "path": "/b"}]), json!({"b": 1}))]
    #[case(json!({"a": 1}), json!([{"op": "copy", "from": "/a", "path": "/b"}]), json!({"a": 1, "b": 1}))]
    #[case(json!({"a": 1}), json!([{"op": "test", "path": "/a", "value": 1}]), json!({"a": 1}))]
    fn operations_do_what_they_say(#[case] mut object: Value, #[case] patch: Value, #[case] expected: Value) {
        apply(&mut object, &patch).unwrap();
        assert_eq!(object, expected);
    }

    #[rstest]
    #[case(json!([{"op": "test", "path": "/a", "value": 2}]))]
    #[case(json!([{"op": "remove", "path": "/b"}]))]
    #[case(json!([{"op": "replace", "path": "/b", "value": 1}]))]
    #[case(json!([{"op": "add", "path": "/b/c", "value": 1}]))]
    #[case(json!([{"op": "add", "path": "/l/9", "value": 1}]))]
    #[case(json!([{"op": "add", "path": "/l/01", "value": 1}]))]
    #[case(json!([{"op": "add", "path": "/x", "value": 1}, {"op": "shout", "path": "/x"}]))]
    fn a_failing_operation_leaves_the_object_alone(#[case] patch: Value) {
        let mut object = json!({"a": 1, "l": [1, 2]});
        assert_eq!(apply(&mut object, &patch).unwrap_err().code, 422);
        assert_eq!(object, json!({"a": 1, "l": [1, 2]}));
    }
}
