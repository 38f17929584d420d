//! Sets of field paths, as `fieldsV1` writes them: `f:` a field, `k:` a list item by its keys, `v:` a set's member.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::schema::{Shape, type_of};

/// A tree of paths; a node may itself be in the set, beside its children.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FieldSet {
    pub member: bool,
    pub children: BTreeMap<String, FieldSet>,
}

/// What differs between two versions of an object.
#[derive(Debug, Default)]
pub struct Difference {
    /// Added, or of another value.
    pub changed: FieldSet,
    pub removed: FieldSet,
}

/// Fields that belong to the system, whoever sends them.
const SYSTEM: &[&str] = &[
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "managedFields",
    "selfLink",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

/// How a value is looked into.
enum Inside {
    /// Nothing in it is owned apart from the whole.
    Leaf,
    /// A struct: its fields are owned, not itself.
    Fields,
    /// A map: its entries are owned, and itself.
    Entries,
    /// A list merged by these keys.
    Items(&'static [&'static str]),
    /// A list of values each owned by itself.
    Set,
}

fn inside(value: &Value, shape: &Shape) -> Inside {
    match (value, shape) {
        (Value::Object(map), Shape::Struct { name, .. }) => match type_of(name) {
            Some(known) if known.atomic || map.is_empty() => Inside::Leaf,
            _ => Inside::Fields,
        },
        (Value::Object(map), Shape::Map { atomic, .. }) if !atomic && !map.is_empty() => Inside::Entries,
        (Value::Object(map), Shape::Any) if !map.is_empty() => Inside::Entries,
        (Value::Array(items), Shape::List { keys: Some(_), .. }) if !items.is_empty() => match keys_of(shape) {
            Some([]) => Inside::Set,
            Some(keys) => Inside::Items(keys),
            None => Inside::Leaf,
        },
        _ => Inside::Leaf,
    }
}

fn keys_of(shape: &Shape) -> Option<&'static [&'static str]> {
    // The few key lists there are, as statics, so that a path can outlive the shape it came from.
    const KNOWN: &[&[&str]] = &[
        &[],
        &["name"],
        &["type"],
        &["uid"],
        &["ip"],
        &["mountPath"],
        &["devicePath"],
        &["resourceID"],
        &["containerPort", "protocol"],
        &["port", "protocol"],
        &["topologyKey", "whenUnsatisfiable"],
    ];
    let keys = shape.keys()?;
    KNOWN.iter().find(|known| **known == keys).copied()
}

/// The name of a list item in a path. A missing protocol is TCP, as the types default it.
pub fn item_key(item: &Value, keys: &[&str]) -> String {
    let mut named = Map::new();
    for key in keys {
        match item.get(*key) {
            Some(value) => named.insert((*key).to_owned(), value.clone()),
            None if *key == "protocol" => named.insert((*key).to_owned(), json!("TCP")),
            None => None,
        };
    }
    format!("k:{}", Value::Object(named))
}

/// The parts of a value that are looked into, by their name in a path, with their shapes.
pub fn parts<'a>(value: &'a Value, shape: &'a Shape) -> Option<BTreeMap<String, (&'a Value, &'a Shape)>> {
    let fields = |map: &'a Map<String, Value>| {
        map.iter().map(|(key, child)| (format!("f:{key}"), (child, shape.child(key)))).collect()
    };
    match (inside(value, shape), value) {
        (Inside::Fields | Inside::Entries, Value::Object(map)) => Some(fields(map)),
        (Inside::Items(keys), Value::Array(items)) => {
            Some(items.iter().map(|item| (item_key(item, keys), (item, shape.item()))).collect())
        }
        (Inside::Set, Value::Array(items)) => {
            Some(items.iter().map(|item| (format!("v:{item}"), (item, shape.item()))).collect())
        }
        _ => None,
    }
}

fn owns_itself(value: &Value, shape: &Shape) -> bool {
    matches!(inside(value, shape), Inside::Entries | Inside::Items(_) | Inside::Set | Inside::Leaf)
}

impl FieldSet {
    /// Whether no path is in it.
    pub fn is_empty(&self) -> bool {
        !self.member && self.children.values().all(Self::is_empty)
    }

    /// The paths an applied configuration claims.
    pub fn claimed(value: &Value, shape: &Shape) -> Self {
        let mut set = Self::claim(value, shape);
        set.member = false;
        set.without_system()
    }

    fn claim(value: &Value, shape: &Shape) -> Self {
        let Some(parts) = parts(value, shape) else {
            return Self { member: true, ..Self::default() };
        };
        // Entries and items are themselves in the set; fields of structs are there through what they hold.
        let entries = !matches!(inside(value, shape), Inside::Fields);
        let children = parts.into_iter().map(|(name, (child, shape))| {
            let mut set = Self::claim(child, shape);
            set.member |= entries;
            (name, set)
        });
        Self { member: false, children: children.collect() }
    }

    fn without_system(mut self) -> Self {
        self.children.remove("f:apiVersion");
        self.children.remove("f:kind");
        if let Some(meta) = self.children.get_mut("f:metadata") {
            meta.member = false;
            meta.children.retain(|name, _| !SYSTEM.contains(&name.trim_start_matches("f:")));
        }
        self.children.retain(|_, child| !child.is_empty());
        self
    }

    /// What changed from `old` to `new`.
    pub fn compare(old: Option<&Value>, new: Option<&Value>, shape: &Shape) -> Difference {
        let mut found = Difference::default();
        Self::compare_into(old, new, shape, &mut found.changed, &mut found.removed);
        found.changed.member = false;
        found.removed.member = false;
        Difference { changed: found.changed.without_system(), removed: found.removed.without_system() }
    }

    fn compare_into(old: Option<&Value>, new: Option<&Value>, shape: &Shape, changed: &mut Self, removed: &mut Self) {
        if old == new {
            return;
        }
        let old_parts = old.and_then(|value| parts(value, shape));
        let new_parts = new.and_then(|value| parts(value, shape));
        match (old, new) {
            (None, Some(value)) => changed.member |= owns_itself(value, shape),
            (Some(value), None) => removed.member |= owns_itself(value, shape),
            _ if old_parts.is_none() || new_parts.is_none() => changed.member = true,
            _ => {}
        }
        let old_parts = old_parts.unwrap_or_default();
        let new_parts = new_parts.unwrap_or_default();
        let names: std::collections::BTreeSet<&String> = old_parts.keys().chain(new_parts.keys()).collect();
        for name in names {
            let (before, after) = (old_parts.get(name), new_parts.get(name));
            let Some((_, shape)) = after.or(before) else {
                continue;
            };
            let mut sub_changed = Self::default();
            let mut sub_removed = Self::default();
            Self::compare_into(before.map(|b| b.0), after.map(|a| a.0), shape, &mut sub_changed, &mut sub_removed);
            // A list item that comes or goes is itself in the set.
            if name.starts_with("k:") {
                sub_changed.member |= before.is_none();
                sub_removed.member |= after.is_none();
            }
            for (set, sub) in [(&mut *changed, sub_changed), (&mut *removed, sub_removed)] {
                if !sub.is_empty() {
                    set.children.insert(name.clone(), sub);
                }
            }
        }
    }

    /// Takes out everything under these fields of the root.
    pub fn forget(&mut self, roots: &[&str]) {
        self.children.retain(|name, _| !roots.contains(&name.trim_start_matches("f:")));
    }

    /// Takes the paths of `other` out.
    pub fn subtract(&mut self, other: &Self) {
        self.member &= !other.member;
        for (name, theirs) in &other.children {
            if let Some(own) = self.children.get_mut(name) {
                own.subtract(theirs);
            }
        }
        self.children.retain(|_, child| !child.is_empty());
    }

    /// Adds the paths of `other`.
    pub fn union(&mut self, other: &Self) {
        self.member |= other.member;
        for (name, theirs) in &other.children {
            self.children.entry(name.clone()).or_default().union(theirs);
        }
    }

    /// The paths in both, worded as messages name them.
    pub fn shared_paths(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        self.shared(other, &mut String::new(), &mut found);
        found
    }

    fn shared(&self, other: &Self, path: &mut String, found: &mut Vec<String>) {
        // A container that both merely hold things in is no quarrel.
        if self.member && other.member && self.children.is_empty() && other.children.is_empty() {
            found.push(path.clone());
        }
        for (name, own) in &self.children {
            if let Some(theirs) = other.children.get(name) {
                let length = path.len();
                path.push_str(&worded(name));
                own.shared(theirs, path, found);
                path.truncate(length);
            }
        }
    }

    /// As `fieldsV1`.
    pub fn to_json(&self) -> Value {
        let mut map: Map<String, Value> =
            self.children.iter().map(|(name, child)| (name.clone(), child.to_json())).collect();
        if self.member && !map.is_empty() {
            map.insert(".".to_owned(), json!({}));
        }
        Value::Object(map)
    }

    /// From `fieldsV1`.
    pub fn from_json(value: &Value) -> Self {
        let mut set = Self::tree(value);
        set.member = false;
        set
    }

    fn tree(value: &Value) -> Self {
        let map = value.as_object();
        let children: BTreeMap<String, Self> = map
            .into_iter()
            .flatten()
            .filter(|(name, _)| *name != ".")
            .map(|(name, child)| (name.clone(), Self::tree(child)))
            .collect();
        Self { member: children.is_empty() || map.is_some_and(|map| map.contains_key(".")), children }
    }
}

fn worded(name: &str) -> String {
    if let Some(field) = name.strip_prefix("f:") {
        return format!(".{field}");
    }
    if let Some(keys) = name.strip_prefix("k:") {
        let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
        let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
        return format!("[{}]", keys.join(","));
    }
    format!("[={}]", name.trim_start_matches("v:"))
}
