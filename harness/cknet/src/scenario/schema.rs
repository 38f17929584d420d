//! Owns the JSON Schema of the format, for editors and other readers.
//! Must not know anything that the types do not say.

use serde_json::Value;

use super::model::Scenario;

/// The JSON Schema (draft 2020-12) of a scenario file. It tells the keys, the types and the
/// words; what makes a scenario sensible is known to [`check`](super::check()) only.
#[must_use]
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(Scenario).to_value();
    if let Some(top) = schema.as_object_mut() {
        top.insert("title".to_owned(), "cknet scenario".into());
    }
    schema
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
        let needed = |key: &str| {
            required
                .as_array()
                .is_some_and(|all| all.iter().any(|r| r == key))
        };
        let properties = list("/properties");
        let keys = properties
            .as_object()
            .into_iter()
            .flat_map(|all| all.keys());
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
        agree::<Connectivity>();
        agree::<Resource>();
        agree::<Route>();
        agree::<Link>();
        agree::<Addresses>();
        agree::<Listening>();
        agree::<ServiceAnswers>();
        agree::<Dns>();
        agree::<Sabotage>();
        agree::<ExtraStep>();
        agree::<Profile>();
    }
}
