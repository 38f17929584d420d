//! Owns a mapping from names to things that keeps the order of the file.
//! Must not know what is named.

use super::super::read::{FromText, Read, Reading};
use super::super::tree::{Node, Value};

/// Things by name, in the order in which the file declares them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named<K, V>(Vec<(K, V)>);

impl<K, V> Default for Named<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: PartialEq, V> Named<K, V> {
    /// The thing of that name.
    pub fn get(&self, name: &K) -> Option<&V> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// Each name with its thing.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// Each name with its thing, to be changed.
    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = (&K, &mut V)> {
        self.0.iter_mut().map(|(key, value)| (&*key, value))
    }

    /// Each name.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K, V> FromIterator<(K, V)> for Named<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(things: I) -> Self {
        Self(things.into_iter().collect())
    }
}

impl<K: FromText, V: Read> Read for Named<K, V> {
    fn read(node: &Node, r: &mut Reading<'_>) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            let message = format!("this wants a mapping from names, found {}", node.kind());
            r.problem(node.point(), message);
            return None;
        };
        let mut things = Vec::with_capacity(entries.len());
        for entry in entries {
            let key = K::from_text(&entry.key).map_err(|wrong| r.problem(entry.key_span, wrong)).ok();
            let value = V::read(&entry.value, r);
            things.extend(key.zip(value));
        }
        Some(Self(things))
    }
}

impl<K: schemars::JsonSchema, V: schemars::JsonSchema> schemars::JsonSchema for Named<K, V> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("{}By{}", V::schema_name(), K::schema_name()).into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let value = generator.subschema_for::<V>();
        let names = K::json_schema(&mut schemars::SchemaGenerator::default());
        let pattern = names.get("pattern").cloned().unwrap_or_else(|| "".into());
        schemars::json_schema!({
            "type": "object",
            "propertyNames": { "pattern": pattern },
            "additionalProperties": value,
        })
    }
}

impl<K, V> IntoIterator for Named<K, V> {
    type Item = (K, V);
    type IntoIter = std::vec::IntoIter<(K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
