//! OpenAPI documents made from the table of kinds and the fields of types: enough for clients to validate,
//! to explain, and to compute strategic merge patches.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::kinds::{self, KINDS, Kind, Sub};
use super::schema::{self, Shape, Type};

/// The name of the group-version's document, `api/v1` or `apis/apps/v1`.
fn document_name(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// `/openapi/v3`: where the documents are.
pub fn index() -> Value {
    let mut paths = Map::new();
    let groups = std::iter::once(("", "v1")).chain(kinds::groups());
    for (group, version) in groups {
        let name = document_name(group, version);
        paths.insert(name.clone(), json!({ "serverRelativeURL": format!("/openapi/v3/{name}") }));
    }
    json!({ "paths": paths })
}

/// `/openapi/v3/NAME`: the document of one group and version.
pub fn v3(name: &str) -> Option<Value> {
    let groups = std::iter::once(("", "v1")).chain(kinds::groups());
    let (group, version) = groups.into_iter().find(|(group, version)| document_name(group, version) == name)?;
    let rows: Vec<&Kind> = KINDS.iter().filter(|kind| kind.group == group && kind.version == version).collect();
    let dialect = Dialect { prefix: "#/components/schemas/", v3: true };
    let mut paths = Map::new();
    for kind in &rows {
        paths.extend(kind_paths(kind, &dialect));
    }
    Some(json!({
        "openapi": "3.0.0", "info": { "title": "Kubernetes", "version": super::discovery::VERSION.2 },
        "paths": paths, "components": { "schemas": schemas(&rows, &dialect) },
    }))
}

/// `/openapi/v2`: everything in one document.
pub fn v2() -> Value {
    let rows: Vec<&Kind> = KINDS.iter().collect();
    let dialect = Dialect { prefix: "#/definitions/", v3: false };
    let mut paths = Map::new();
    for kind in &rows {
        paths.extend(kind_paths(kind, &dialect));
    }
    json!({
        "swagger": "2.0", "info": { "title": "Kubernetes", "version": super::discovery::VERSION.2 },
        "paths": paths, "definitions": schemas(&rows, &dialect),
    })
}

/// The same for clients that take it as protobuf only (kubectl, for the kind `List`): no types at all, since what is
/// not described is left to the server to validate. Message `Document` of gnostic's `OpenAPIv2.proto`: 1 is the version
/// of the format, 2 is `info` with 1 title and 2 version.
pub fn v2_protobuf() -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8], bytes].concat();
    let info = [field(1, b"Kubernetes"), field(2, super::discovery::VERSION.2.as_bytes())].concat();
    [field(1, b"2.0"), field(2, &info)].concat()
}

/// How the two generations of the format differ here.
struct Dialect {
    prefix: &'static str,
    v3: bool,
}

impl Dialect {
    fn reference(&self, name: &str) -> Value {
        let target = json!({ "$ref": format!("{}{name}", self.prefix) });
        // A reference may have no siblings in v3, so what is said beside it needs a wrapper.
        if self.v3 { json!({ "allOf": [target], "default": {} }) } else { target }
    }
}

fn gvk(kind: &Kind) -> Value {
    json!({ "group": kind.group, "version": kind.version, "kind": kind.kind })
}

/// The name of a kind's own schema.
fn schema_name(kind: &Kind) -> String {
    let place = match kind.group {
        "" => "io.k8s.api.core".to_owned(),
        kinds::CALICO => "org.projectcalico.crd".to_owned(),
        group => format!("io.k8s.api.{}", group.split('.').next().unwrap_or_default()),
    };
    format!("{place}.{}.{}", kind.version, kind.kind)
}

/// The name of the schema of a type that is no kind.
fn part_name(name: &str) -> String {
    match name {
        "ObjectMeta" | "OwnerReference" | "LabelSelector" | "LabelSelectorRequirement" | "Condition" => {
            format!("io.k8s.apimachinery.pkg.apis.meta.v1.{name}")
        }
        _ => format!("io.k8s.api.core.v1.{name}"),
    }
}

fn kind_paths(kind: &Kind, dialect: &Dialect) -> Vec<(String, Value)> {
    let root = document_name(kind.group, kind.version);
    let place = if kind.namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("/{root}{place}/{}", kind.plural);
    let mut operations = vec![(collection.clone(), json!({ "post": operation(kind, "post", dialect) }))];
    if !kind.verbs.contains(&"patch") {
        return operations;
    }
    let item = format!("{collection}/{{name}}");
    let mut verbs = Map::new();
    for verb in ["put", "patch"] {
        verbs.insert(verb.to_owned(), operation(kind, verb, dialect));
    }
    operations.push((item.clone(), Value::Object(verbs.clone())));
    if kind.subs.contains(&Sub::Status) {
        operations.push((format!("{item}/status"), Value::Object(verbs)));
    }
    operations
}

fn operation(kind: &Kind, verb: &str, dialect: &Dialect) -> Value {
    let parameters: Vec<Value> = ["dryRun", "fieldManager", "fieldValidation", "force"]
        .iter()
        .filter(|name| verb == "patch" || **name != "force")
        .map(|name| {
            let kind = if *name == "force" { "boolean" } else { "string" };
            if dialect.v3 {
                json!({ "name": name, "in": "query", "schema": { "type": kind } })
            } else {
                json!({ "name": name, "in": "query", "type": kind })
            }
        })
        .collect();
    let patches: &[&str] = if kind.is_custom() {
        &["application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json"]
    } else {
        &[
            "application/apply-patch+yaml",
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
        ]
    };
    let accepted: &[&str] = if verb == "patch" { patches } else { &["application/json", "application/yaml"] };
    let action = if verb == "patch" { "patch" } else { verb };
    let mut told = json!({
        "parameters": parameters, "responses": { "200": { "description": "OK" } },
        "x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk(kind),
    });
    if dialect.v3 {
        let body = json!({ "schema": { "$ref": format!("{}{}", dialect.prefix, schema_name(kind)) } });
        let content: Map<String, Value> = accepted.iter().map(|media| ((*media).to_owned(), body.clone())).collect();
        told["requestBody"] = json!({ "content": content, "required": true });
    } else {
        told["consumes"] = json!(accepted);
    }
    told
}

fn schemas(rows: &[&Kind], dialect: &Dialect) -> Value {
    let mut out = Map::new();
    let mut wanted: Vec<&'static str> = Vec::new();
    let mut seen: BTreeSet<&'static str> = BTreeSet::new();
    for kind in rows {
        let Some(known) = schema::type_of(kind.fields) else {
            continue;
        };
        let mut told = type_schema(known, dialect, &mut wanted);
        told["x-kubernetes-group-version-kind"] = json!([gvk(kind)]);
        told["description"] = json!(format!("{} of {}.", kind.kind, kind.api_version()));
        let properties = &mut told["properties"];
        for field in ["apiVersion", "kind"] {
            properties[field] = json!({ "type": "string" });
        }
        out.insert(schema_name(kind), told);
    }
    while let Some(name) = wanted.pop() {
        if seen.insert(name)
            && let Some(known) = schema::type_of(name)
        {
            out.insert(part_name(name), type_schema(known, dialect, &mut wanted));
        }
    }
    Value::Object(out)
}

fn type_schema(known: &'static Type, dialect: &Dialect, wanted: &mut Vec<&'static str>) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (name, field) in &known.fields {
        properties.insert((*name).to_owned(), property(&field.shape, dialect, wanted));
        if field.required && *name != "metadata" {
            required.push(*name);
        }
    }
    let mut told = json!({ "type": "object", "properties": properties });
    if !required.is_empty() {
        told["required"] = json!(required);
    }
    if known.atomic {
        told["x-kubernetes-map-type"] = json!("atomic");
    }
    told
}

fn property(shape: &'static Shape, dialect: &Dialect, wanted: &mut Vec<&'static str>) -> Value {
    match shape {
        Shape::Str => json!({ "type": "string" }),
        Shape::Int => json!({ "type": "integer", "format": "int64" }),
        Shape::Bool => json!({ "type": "boolean" }),
        Shape::Num => json!({ "type": "number" }),
        Shape::Time => json!({ "type": "string", "format": "date-time" }),
        Shape::Bytes => json!({ "type": "string", "format": "byte" }),
        Shape::Quantity | Shape::IntOrStr if dialect.v3 => {
            json!({ "oneOf": [{ "type": "string" }, { "type": "number" }] })
        }
        Shape::Quantity | Shape::IntOrStr => json!({ "type": "string", "format": "int-or-string" }),
        Shape::Any => json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true }),
        Shape::Map { item, .. } => {
            json!({ "type": "object", "additionalProperties": property(item, dialect, wanted) })
        }
        Shape::Struct { name, retain_keys } => {
            wanted.push(name);
            let mut told = dialect.reference(&part_name(name));
            if *retain_keys {
                told["x-kubernetes-patch-strategy"] = json!("retainKeys");
            }
            told
        }
        Shape::List { item, keys, retain_keys } => {
            let mut told = json!({ "type": "array", "items": property(item, dialect, wanted) });
            list_merging(&mut told, keys.as_deref(), *retain_keys);
            told
        }
    }
}

fn list_merging(told: &mut Value, keys: Option<&[&'static str]>, retain_keys: bool) {
    let Some(keys) = keys else {
        told["x-kubernetes-list-type"] = json!("atomic");
        return;
    };
    told["x-kubernetes-patch-strategy"] = json!(if retain_keys { "merge,retainKeys" } else { "merge" });
    match keys.first() {
        Some(first) => {
            told["x-kubernetes-patch-merge-key"] = json!(first);
            told["x-kubernetes-list-type"] = json!("map");
            told["x-kubernetes-list-map-keys"] = json!(keys);
        }
        None => told["x-kubernetes-list-type"] = json!("set"),
    }
}
