//! Patches that need only the object and the patch: JSON patch, merge patch, strategic merge patch.
//! Pure functions over values; server-side apply is in `apply`, for it also needs who owns what.

mod json;
mod strategic;

use serde_json::Value;

use super::schema::Shape;
use super::status::Refusal;

pub use strategic::strategic;

/// RFC 6902: a list of operations.
pub fn json_patch(object: &mut Value, operations: &Value) -> Result<(), Refusal> {
    json::apply(object, operations)
}

/// RFC 7386: what the patch has replaces, null removes.
pub fn merge_patch(object: &mut Value, patch: &Value) {
    let Value::Object(entries) = patch else {
        object.clone_from(patch);
        return;
    };
    if !object.is_object() {
        *object = Value::Object(serde_json::Map::new());
    }
    let Value::Object(target) = object else {
        return;
    };
    for (key, value) in entries {
        if value.is_null() {
            target.remove(key);
        } else {
            merge_patch(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// The key by which two items of a merged list are the same, as strategic merge patches see it.
fn merge_key(shape: &Shape) -> Option<&'static str> {
    shape.keys().and_then(|keys| keys.first().copied())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    // The examples of RFC 7386, appendix A.
    #[rstest]
    #[case(json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"}))]
    #[case(json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"}))]
    #[case(json!({"a": "b"}), json!({"a": null}), json!({}))]
    #[case(json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"}))]
    #[case(json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}}))]
    #[case(json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]}))]
    #[case(json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1}))]
    #[case(json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"}))]
    #[case(json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}}))]
    fn merge_patches_follow_the_rfc(#[case] mut object: Value, #[case] patch: Value, #[case] expected: Value) {
        merge_patch(&mut object, &patch);
        assert_eq!(object, expected);
    }
}
