//! Owns Kubernetes objects as a scenario names them: in a manifest file or inline.
//! Must not know Kubernetes' types: an object is JSON with an apiVersion, a kind and a name.

use serde_json::Value as JsonValue;

use super::super::json::{self, Json};
use super::super::late::{Lookup, ResolveError};
use super::super::nearest::nearest;
use super::super::read::{Read, Reading};
use super::super::tree::{self, Node, Value};

/// One object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object(Json);

impl Object {
    /// Takes a value that has `apiVersion`, `kind` and `metadata.name`.
    ///
    /// # Errors
    /// What is missing.
    pub(in super::super) fn new(json: Json) -> Result<Self, String> {
        let value = json.written();
        if !value.is_object() {
            return Err("a Kubernetes object is a mapping".to_owned());
        }
        for (name, path) in [("apiVersion", "/apiVersion"), ("kind", "/kind"), ("metadata.name", "/metadata/name")] {
            let text = value.pointer(path).and_then(JsonValue::as_str);
            if text.is_none_or(str::is_empty) {
                return Err(format!("a Kubernetes object needs `{name}`"));
            }
        }
        Ok(Self(json))
    }

    /// `apiVersion`, `networking.k8s.io/v1`.
    #[must_use]
    pub fn api_version(&self) -> &str {
        self.text("/apiVersion")
    }

    /// `kind`, `NetworkPolicy`.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.text("/kind")
    }

    /// `metadata.name`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// `metadata.namespace`, if it is given.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.0.written().pointer("/metadata/namespace")?.as_str()
    }

    /// The object with each late fact filled in.
    ///
    /// # Errors
    /// [`ResolveError::Unknown`] with the first fact that `lookup` does not know.
    pub fn resolve(&self, lookup: Lookup<'_>) -> Result<JsonValue, ResolveError> {
        self.0.resolve(lookup)
    }

    pub(in super::super) const fn json(&self) -> &Json {
        &self.0
    }

    fn text(&self, path: &str) -> &str {
        self.0.written().pointer(path).and_then(JsonValue::as_str).unwrap_or_default()
    }
}

/// Objects from a file under `fixtures/manifests`, written as its path, or inline, written as a
/// list of objects or as one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The path of the file; `None` if the objects stand in the scenario.
    pub file: Option<String>,
    /// The objects, in order.
    pub objects: Vec<Object>,
}

const WANTED: &str = "a file under fixtures/manifests or a list of objects";

impl Read for Manifest {
    fn read(node: &Node, r: &mut Reading<'_>) -> Option<Self> {
        match &node.value {
            Value::Scalar { .. } => from_file(node, r),
            Value::List(items) if items.is_empty() => {
                r.problem(node.span, format!("no object is given; this wants {WANTED}"));
                None
            }
            Value::List(items) => {
                Some(Self { file: None, objects: items.iter().filter_map(|item| Object::read(item, r)).collect() })
            }
            Value::Map(_) => Some(Self { file: None, objects: vec![Object::read(node, r)?] }),
        }
    }
}

fn from_file(node: &Node, r: &mut Reading<'_>) -> Option<Manifest> {
    let file = r.fixed_text(node, WANTED)?;
    if let Some((document, anchor)) = file.split_once('#') {
        return from_document(document, anchor, node, r);
    }
    let Some(objects) = r.manifests.get(&file) else {
        let near = nearest(&file, r.manifests.keys().map(String::as_str));
        let message = near.map_or_else(
            || format!("no file fixtures/manifests/{file}"),
            |near| format!("no file fixtures/manifests/{file}; did you mean `{near}`?"),
        );
        r.problem(node.span, message);
        return None;
    };
    Some(Manifest { objects: objects.clone(), file: Some(file) })
}

/// The objects in the blocks of code of a passage, in order, as they stand there.
fn from_document(document: &str, anchor: &str, node: &Node, r: &mut Reading<'_>) -> Option<Manifest> {
    let below = r.code.get(document).into_iter().flatten().filter(|block| block.anchor == anchor);
    let trees = below
        .filter(|block| block.language == "yaml")
        .filter_map(|block| tree::parse_all(&block.text, &mut Vec::new()));
    let values = trees.flatten().filter_map(|tree| json::verbatim(&tree).ok());
    let objects: Vec<Object> = values.filter_map(|value| Object::new(Json::known(value)).ok()).collect();
    if objects.is_empty() {
        r.problem(node.span, format!("no object stands in `{document}` below `{anchor}`"));
        return None;
    }
    Some(Manifest { objects, file: Some(format!("{document}#{anchor}")) })
}

impl Read for Object {
    fn read(node: &Node, r: &mut Reading<'_>) -> Option<Self> {
        let json = Json::read(node, r)?;
        Self::new(json).map_err(|wrong| r.problem(node.point(), wrong)).ok()
    }
}

impl schemars::JsonSchema for Object {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Object".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A Kubernetes object",
            "type": "object",
            "required": ["apiVersion", "kind", "metadata"],
            "properties": {
                "apiVersion": { "type": "string" },
                "kind": { "type": "string" },
                "metadata": {
                    "type": "object",
                    "required": ["name"],
                    "properties": { "name": { "type": "string" } },
                },
            },
        })
    }
}

impl schemars::JsonSchema for Manifest {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Manifest".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let object = generator.subschema_for::<Object>();
        let item = object.clone();
        schemars::json_schema!({
            "description": "A file under fixtures/manifests, one object, or a list of objects",
            "anyOf": [
                { "type": "string" },
                object,
                { "type": "array", "items": item, "minItems": 1 },
            ],
        })
    }
}
