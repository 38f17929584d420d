//! Events have two faces, `v1` and `events.k8s.io/v1`; they are kept as the first and shown as either.

use serde_json::{Map, Value, json};

use super::kinds::Kind;

/// Fields that have another name on the newer face: (kept, shown).
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("count", "deprecatedCount"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("source", "deprecatedSource"),
];

/// Whether objects of this row are kept under another name than they are shown by.
pub fn has_two_faces(kind: &Kind) -> bool {
    kind.group == "events.k8s.io"
}

fn renamed(event: &Value, api_version: &str, name: impl Fn(&str) -> Option<&'static str>) -> Value {
    let mut out = Map::new();
    for (key, value) in event.as_object().into_iter().flatten() {
        out.insert(name(key).map_or_else(|| key.clone(), str::to_owned), value.clone());
    }
    out.insert("apiVersion".to_owned(), json!(api_version));
    Value::Object(out)
}

/// The newer face of a kept event.
pub fn shown(event: &Value) -> Value {
    renamed(event, "events.k8s.io/v1", |key| RENAMED.iter().find(|(kept, _)| *kept == key).map(|(_, shown)| *shown))
}

/// What is kept of an event that came by its newer face.
pub fn kept(event: &Value) -> Value {
    renamed(event, "v1", |key| RENAMED.iter().find(|(_, shown)| *shown == key).map(|(kept, _)| *kept))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn both_faces_say_the_same() {
        let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "message": "m",
            "involvedObject": {"kind": "Pod"}, "reportingComponent": "c", "reportingInstance": "i", "count": 2});
        let other = shown(&event);
        assert_eq!(other["note"], "m");
        assert_eq!(other["regarding"]["kind"], "Pod");
        assert_eq!(kept(&other), event);
    }
}
