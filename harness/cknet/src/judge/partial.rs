//! Whether an object has what a scenario says it has: keys of mappings, items of lists in order, equal scalars.

use serde_json::Value;

/// The first place where `found` lacks something of `wanted`, as `path: what was found`; nothing when it has it all.
pub fn mismatch(wanted: &Value, found: &Value) -> Option<String> {
    at(wanted, found, &mut String::new())
}

fn at(wanted: &Value, found: &Value, path: &mut String) -> Option<String> {
    let before = path.len();
    let mut inside = |step: &str, wanted: &Value, found: &Value| {
        path.push_str(step);
        let result = at(wanted, found, path);
        path.truncate(before);
        result
    };
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => wanted
            .iter()
            .find_map(|(key, wanted)| inside(&format!(".{key}"), wanted, found.get(key).unwrap_or(&Value::Null))),
        (Value::Array(wanted), Value::Array(found)) if wanted.len() == found.len() => {
            let pairs = wanted.iter().zip(found).enumerate();
            pairs.into_iter().find_map(|(index, (wanted, found))| inside(&format!("[{index}]"), wanted, found))
        }
        (Value::Number(wanted), Value::Number(found)) if wanted.as_f64() == found.as_f64() => None,
        (wanted, found) if wanted == found => None,
        (_, found) => Some(format!("{} is {}", path.trim_start_matches('.'), shown(found))),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "absent".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case(json!({"spec": {"cidr": "10.1.0.0/16"}}), None)]
    #[case(json!({"spec": {"cidr": "10.2.0.0/16"}}), Some("spec.cidr is \"10.1.0.0/16\""))]
    #[case(json!({"spec": {"natOutgoing": true}}), Some("spec.natOutgoing is absent"))]
    #[case(json!({"spec": {"sizes": [26]}}), None)]
    #[case(json!({"spec": {"sizes": [24]}}), Some("spec.sizes[0] is 26"))]
    #[case(json!({"spec": {"sizes": [26, 26]}}), Some("spec.sizes is [26]"))]
    fn partial_objects(#[case] wanted: Value, #[case] expected: Option<&str>) {
        let found = json!({"kind": "IPPool", "spec": {"cidr": "10.1.0.0/16", "sizes": [26]}});
        assert_eq!(mismatch(&wanted, &found).as_deref(), expected);
    }
}
