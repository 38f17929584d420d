//! What fields each type has: decoding a body against them, and the merge keys patches need.
//! Reads `fields.txt`; knows nothing of requests or of what valid values are.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::status::Refusal;

/// What a field holds.
#[derive(Debug, Clone)]
pub enum Shape {
    Str,
    Int,
    Bool,
    Num,
    Quantity,
    Time,
    Bytes,
    IntOrStr,
    /// Not looked into.
    Any,
    /// `keys` is empty for a list replaced as a whole, `Some(vec![])` for a set.
    List {
        item: Box<Shape>,
        keys: Option<Vec<&'static str>>,
        retain_keys: bool,
    },
    Map {
        item: Box<Shape>,
        atomic: bool,
    },
    Struct {
        name: &'static str,
        retain_keys: bool,
    },
}

/// Where a field is in a protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    Own(u32),
    /// In an embedded message, by the numbers of the message and of the field in it.
    Embedded(u32, u32),
}

/// One field of a type.
#[derive(Debug)]
pub struct Field {
    pub required: bool,
    /// Zero, false or the empty text mean the same as leaving the field out.
    pub zero_is_absent: bool,
    pub wire: Option<Wire>,
    pub shape: Shape,
}

/// One type.
#[derive(Debug)]
pub struct Type {
    /// Replaced as a whole by server-side apply.
    pub atomic: bool,
    pub fields: BTreeMap<&'static str, Field>,
}

static TYPES: LazyLock<BTreeMap<&'static str, Type>> = LazyLock::new(|| parse(include_str!("fields.txt")));

/// The type called `name`.
pub fn type_of(name: &str) -> Option<&'static Type> {
    TYPES.get(name)
}

fn parse(text: &'static str) -> BTreeMap<&'static str, Type> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(": "))
        .map(|(name, fields)| {
            let fields = fields.split("; ").filter_map(|field| field.split_once(' ')).map(parse_field);
            (name.trim_end_matches('='), Type { atomic: name.ends_with('='), fields: fields.collect() })
        })
        .collect()
}

fn parse_field((name, shape): (&'static str, &'static str)) -> (&'static str, Field) {
    let (name, wire) = name.split_once('#').unwrap_or((name, ""));
    let wire = match wire.split_once('.') {
        Some((outer, inner)) => {
            outer.parse().ok().zip(inner.parse().ok()).map(|(outer, inner)| Wire::Embedded(outer, inner))
        }
        None => wire.parse().ok().map(Wire::Own),
    };
    let field = Field {
        required: name.ends_with('*'),
        zero_is_absent: shape.ends_with('0'),
        wire,
        shape: parse_shape(shape.trim_end_matches('0')),
    };
    (name.trim_end_matches('*'), field)
}

fn parse_shape(text: &'static str) -> Shape {
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let (item, keys) = match inner.split_once('@') {
            Some((item, keys)) => (item, Some(keys)),
            None => (inner, None),
        };
        let retain_keys = keys.is_some_and(|keys| keys.ends_with('!'));
        let keys = keys.map(|keys| keys.trim_end_matches('!').split(',').filter(|key| !key.is_empty()).collect());
        return Shape::List { item: Box::new(parse_shape(item)), keys, retain_keys };
    }
    if let Some(inner) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let item = Box::new(parse_shape(inner.trim_end_matches('=')));
        return Shape::Map { item, atomic: inner.ends_with('=') };
    }
    match text {
        "str" => Shape::Str,
        "int" => Shape::Int,
        "bool" => Shape::Bool,
        "num" => Shape::Num,
        "qty" => Shape::Quantity,
        "time" => Shape::Time,
        "bytes" => Shape::Bytes,
        "iors" => Shape::IntOrStr,
        "any" => Shape::Any,
        name => Shape::Struct { name: name.trim_end_matches('!'), retain_keys: name.ends_with('!') },
    }
}

impl Shape {
    /// The shape of a struct type.
    pub fn of_type(name: &'static str) -> Self {
        Self::Struct { name, retain_keys: false }
    }

    /// The shape of the child called `key`; fields nobody describes are not looked into.
    pub fn child(&self, key: &str) -> &Shape {
        static ANY: Shape = Shape::Any;
        match self {
            Self::Struct { name, .. } => {
                type_of(name).and_then(|known| known.fields.get(key)).map_or(&ANY, |field| &field.shape)
            }
            Self::Map { item, .. } => item,
            _ => &ANY,
        }
    }

    /// The shape of a list's items.
    pub fn item(&self) -> &Shape {
        static ANY: Shape = Shape::Any;
        match self {
            Self::List { item, .. } => item,
            _ => &ANY,
        }
    }

    /// Whether server-side apply replaces it as a whole although it has parts.
    pub fn is_atomic(&self) -> bool {
        match self {
            Self::Map { atomic, .. } => *atomic,
            Self::Struct { name, .. } => type_of(name).is_some_and(|known| known.atomic),
            _ => false,
        }
    }

    /// The keys a list is merged by: none if it is replaced, empty for a set.
    pub fn keys(&self) -> Option<&[&'static str]> {
        match self {
            Self::List { keys, .. } => keys.as_deref(),
            _ => None,
        }
    }

    fn go_name(&self) -> String {
        match self {
            Self::Str | Self::Quantity | Self::Time | Self::Bytes | Self::IntOrStr | Self::Any => "string".to_owned(),
            Self::Int => "int32".to_owned(),
            Self::Bool => "bool".to_owned(),
            Self::Num => "float64".to_owned(),
            Self::List { item, .. } => format!("[]{}", item.go_name()),
            Self::Map { item, .. } => format!("map[string]{}", item.go_name()),
            Self::Struct { name, .. } => format!("v1.{name}"),
        }
    }
}

/// Takes what the type does not know out of `value`, with nulls, empty lists and empty maps, as a server that
/// decodes into structs does. Returns the paths of unknown fields; a value of a wrong type is refused.
pub fn decode(type_name: &'static str, value: &mut Value) -> Result<Vec<String>, Refusal> {
    let mut decoder = Decoder { unknown: Vec::new() };
    let shape = Shape::of_type(type_name);
    decoder.visit(&shape, value, &mut Vec::new(), type_name, 0).map_err(Refusal::bad_request)?;
    Ok(decoder.unknown)
}

struct Decoder {
    unknown: Vec<String>,
}

/// Deep enough for every real object, shallow enough for any stack.
const DEEPEST: usize = 64;

impl Decoder {
    fn visit(
        &mut self,
        shape: &Shape,
        value: &mut Value,
        path: &mut Vec<String>,
        owner: &str,
        depth: usize,
    ) -> Result<(), String> {
        if depth > DEEPEST {
            return Err(format!("json: `{}` is nested too deeply", path_text(path)));
        }
        let wrong = |value: &Value, path: &[String]| Err(mismatch(shape, value, path, owner));
        match (shape, &mut *value) {
            (Shape::Any, _) | (_, Value::Null) => Ok(()),
            (Shape::Str | Shape::Time | Shape::Bytes, Value::String(_))
            | (Shape::Bool, Value::Bool(_))
            | (Shape::Num, Value::Number(_))
            | (Shape::Quantity | Shape::IntOrStr, Value::String(_)) => Ok(()),
            (Shape::Int, Value::Number(number)) if number.is_i64() => Ok(()),
            (Shape::IntOrStr, Value::Number(number)) if number.is_i64() => Ok(()),
            (Shape::Quantity, Value::Number(number)) => {
                *value = Value::String(number.to_string());
                Ok(())
            }
            (Shape::Int, Value::Number(number))
                if number.as_f64().is_some_and(|n| n.fract() == 0.0 && n.abs() < 9e15) =>
            {
                // YAML and some clients write whole numbers with a fraction of zero.
                #[allow(clippy::cast_possible_truncation)]
                let whole = number.as_f64().unwrap_or_default() as i64;
                *value = whole.into();
                Ok(())
            }
            (Shape::List { item, .. }, Value::Array(items)) => {
                for (index, entry) in items.iter_mut().enumerate() {
                    path.push(format!("[{index}]"));
                    self.visit(item, entry, path, owner, depth + 1)?;
                    path.pop();
                }
                Ok(())
            }
            (Shape::Map { item, .. }, Value::Object(entries)) => {
                for (key, entry) in entries.iter_mut() {
                    path.push(key.clone());
                    self.visit(item, entry, path, owner, depth + 1)?;
                    path.pop();
                }
                Ok(())
            }
            (Shape::Struct { name, .. }, Value::Object(entries)) => self.fields(name, entries, path, depth),
            _ => wrong(value, path),
        }
    }

    fn fields(
        &mut self,
        name: &'static str,
        entries: &mut Map<String, Value>,
        path: &mut Vec<String>,
        depth: usize,
    ) -> Result<(), String> {
        let Some(known) = type_of(name) else {
            return Ok(());
        };
        let mut dropped = Vec::new();
        for (key, entry) in entries.iter_mut() {
            path.push(key.clone());
            match known.fields.get(key.as_str()) {
                Some(field) => {
                    self.visit(&field.shape, entry, path, name, depth + 1)?;
                    let empty = match (&field.shape, &*entry) {
                        (Shape::List { .. }, Value::Array(items)) => items.is_empty(),
                        (Shape::Map { .. }, Value::Object(items)) => items.is_empty(),
                        (_, other) => other.is_null() || (field.zero_is_absent && is_zero(other)),
                    };
                    if empty && (entry.is_null() || !field.required) {
                        dropped.push(key.clone());
                    }
                }
                // Root type meta belongs to every kind.
                None if depth == 0 && (key == "apiVersion" || key == "kind") => {}
                None if name == "Custom" => {}
                None => {
                    self.unknown.push(path_text(path));
                    dropped.push(key.clone());
                }
            }
            path.pop();
        }
        for key in dropped {
            entries.remove(&key);
        }
        Ok(())
    }
}

fn is_zero(value: &Value) -> bool {
    *value == 0 || *value == false || *value == ""
}

fn path_text(path: &[String]) -> String {
    let mut text = String::new();
    for part in path {
        if !part.starts_with('[') && !text.is_empty() {
            text.push('.');
        }
        text.push_str(part);
    }
    text
}

fn mismatch(shape: &Shape, value: &Value, path: &[String], owner: &str) -> String {
    let found = match value {
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
        Value::Number(number) => return unmarshal(&format!("number {number}"), shape, path, owner),
        Value::Null => "null",
    };
    unmarshal(found, shape, path, owner)
}

fn unmarshal(found: &str, shape: &Shape, path: &[String], owner: &str) -> String {
    let names: Vec<&str> = path.iter().filter(|part| !part.starts_with('[')).map(String::as_str).collect();
    format!(
        "json: cannot unmarshal {found} into Go struct field {owner}.{} of type {}",
        names.join("."),
        shape.go_name()
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn every_named_type_is_described() {
        fn check(shape: &Shape, from: &str) {
            match shape {
                Shape::Struct { name, .. } => assert!(type_of(name).is_some(), "`{name}` of `{from}` is not described"),
                Shape::List { item, .. } | Shape::Map { item, .. } => check(item, from),
                _ => {}
            }
        }
        for (name, known) in TYPES.iter() {
            for field in known.fields.values() {
                check(&field.shape, name);
            }
        }
        for kind in super::super::kinds::KINDS {
            assert!(type_of(kind.fields).is_some(), "`{}` is not described", kind.fields);
        }
    }

    #[test]
    fn an_unknown_field_is_named_and_dropped() {
        let mut policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "x"},
            "spec": {"podSelector": {}, "ingres": [], "ingress": [{"from": [{"podSelecter": {}}]}], "egress": []}});
        let unknown = decode("NetworkPolicy", &mut policy).unwrap();
        assert_eq!(unknown, ["spec.ingres", "spec.ingress[0].from[0].podSelecter"]);
        assert_eq!(policy["spec"], json!({"podSelector": {}, "ingress": [{"from": [{}]}]}));
    }

    #[test]
    fn a_wrong_type_is_refused() {
        let mut pod = json!({"spec": {"containers": [{"name": "c", "ports": [{"containerPort": "x"}]}]}});
        let refusal = decode("Pod", &mut pod).unwrap_err();
        assert_eq!(
            refusal.message,
            "json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32"
        );
    }
}
