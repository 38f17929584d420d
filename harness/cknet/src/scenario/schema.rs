//! Owns the JSON Schema of the format, for editors and other readers.
//! Must not know anything that the types do not say.

use serde_json::{Map, Value, json};

use super::model::Scenario;

/// The JSON Schema (draft 2020-12) of a scenario file. It tells the keys, the types and the
/// words; what makes a scenario sensible is known to [`check`](super::check()) only.
#[must_use]
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(Scenario).to_value();
    as_it_is_read(&mut schema);
    if let Some(top) = schema.as_object_mut() {
        top.insert("title".to_owned(), "cknet scenario".into());
    }
    schema
}

/// Corrects what the derivation cannot know: a key without a value is left out, not null, and a
/// reference can stand for a number or be in a text.
fn as_it_is_read(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(as_it_is_read),
        Value::Object(keys) => {
            without_null(keys);
            if keys.get("type").is_some_and(|kind| kind == "integer") {
                keys.insert("type".to_owned(), json!(["integer", "string"]));
                keys.insert("pattern".to_owned(), REFERENCE.into());
                keys.remove("format");
            } else if let Some(Value::String(pattern)) = keys.get_mut("pattern")
                && !pattern.contains(WITH_REFERENCE)
            {
                pattern.push('|');
                pattern.push_str(WITH_REFERENCE);
            }
            keys.values_mut().for_each(as_it_is_read);
        }
        _ => {}
    }
}

/// A text with a reference in it, whose value only the reader knows.
const WITH_REFERENCE: &str = r"\$\{[^}]+\}";

/// A text that is one reference.
const REFERENCE: &str = r"^\$\{.+\}$";

fn without_null(keys: &mut Map<String, Value>) {
    if let Some(Value::Array(kinds)) = keys.get_mut("type") {
        kinds.retain(|kind| kind != "null");
        if let [one] = kinds.as_slice() {
            let one = one.clone();
            keys.insert("type".to_owned(), one);
        }
    }
    let Some(Value::Array(choices)) = keys.get_mut("anyOf") else {
        return;
    };
    choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
    if let [Value::Object(one)] = choices.as_slice() {
        let one = one.clone();
        keys.remove("anyOf");
        for (key, value) in one {
            keys.entry(key).or_insert(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::*;
    use super::super::profile::Profile;
    use super::super::read::Record;

    /// The keys of a record's schema and which of them it requires.
    fn keys_of<T: schemars::JsonSchema>() -> Vec<(String, bool)> {
        let schema = schemars::schema_for!(T).to_value();
        let list = |path: &str| schema.pointer(path).cloned().unwrap_or_default();
        let required = list("/required");
        let needed = |key: &str| required.as_array().is_some_and(|all| all.iter().any(|r| r == key));
        let properties = list("/properties");
        let keys = properties.as_object().into_iter().flat_map(|all| all.keys());
        keys.map(|key| (key.clone(), needed(key))).collect()
    }

    fn agree<T: schemars::JsonSchema + Record>() {
        let mut read = T::keys();
        read.sort();
        let mut written = keys_of::<T>();
        written.sort();
        assert_eq!(read, written, "{}", T::schema_name());
    }

    #[test]
    fn the_schema_has_the_keys_that_are_read() {
        agree::<Metadata>();
        agree::<Claim>();
        agree::<Requirements>();
        agree::<KnownDeviation>();
        agree::<Segment>();
        agree::<Node>();
        agree::<Cluster>();
        agree::<Namespace>();
        agree::<Workload>();
        agree::<Service>();
        agree::<ServicePort>();
        agree::<Patch>();
        agree::<NodeRun>();
        agree::<Component>();
        agree::<Relabel>();
        agree::<InstallCni>();
        agree::<NewLink>();
        agree::<Connectivity>();
        agree::<Resource>();
        agree::<Route>();
        agree::<Link>();
        agree::<Addresses>();
        agree::<Listening>();
        agree::<ServiceAnswers>();
        agree::<Dns>();
        agree::<Refused>();
        agree::<PathMtu>();
        agree::<Connect>();
        agree::<Connection>();
        agree::<Ping>();
        agree::<Sabotage>();
        agree::<ExtraStep>();
        agree::<Profile>();
    }
}
