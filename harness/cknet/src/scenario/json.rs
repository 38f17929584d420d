//! Owns the way from the tree to a JSON value, as Kubernetes would read the same text.
//! Must not know what the values mean.

use serde_json::{Map, Number, Value as JsonValue};

use super::late::{Lookup, ResolveError, Text};
use super::read::{Read, Reading};
use super::tree::{Node, Style, Value};

/// A JSON value of which texts may hold references that only a run knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Json {
    value: JsonValue,
    late: Vec<(Vec<Step>, Text)>,
}

/// One step on the way to a late text inside of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

impl Json {
    /// A value without references.
    #[must_use]
    pub const fn known(value: JsonValue) -> Self {
        Self { value, late: Vec::new() }
    }

    /// The value; texts that only a run knows stand in it as they were written.
    #[must_use]
    pub const fn written(&self) -> &JsonValue {
        &self.value
    }

    /// The value with each late fact filled in.
    ///
    /// # Errors
    /// [`ResolveError::Unknown`] with the first fact that `lookup` does not know.
    pub fn resolve(&self, lookup: Lookup<'_>) -> Result<JsonValue, ResolveError> {
        let mut value = self.value.clone();
        for (path, text) in &self.late {
            let place = path.iter().try_fold(&mut value, |value, step| match step {
                Step::Key(key) => value.get_mut(key),
                Step::Index(index) => value.get_mut(index),
            });
            if let Some(place) = place {
                *place = JsonValue::String(text.resolve(lookup)?);
            }
        }
        Ok(value)
    }

    pub(super) fn late_texts(&self) -> impl Iterator<Item = &Text> {
        self.late.iter().map(|(_, text)| text)
    }
}

impl Read for Json {
    fn read(node: &Node, r: &mut Reading<'_>) -> Option<Self> {
        let mut json = Self::known(JsonValue::Null);
        json.value = json.fill(node, &mut Vec::new(), r)?;
        Some(json)
    }
}

/// A value in which `${` means nothing, as in a file that kubectl is to read as well.
pub(super) fn verbatim(node: &Node) -> Result<JsonValue, (super::source::Span, String)> {
    match &node.value {
        Value::Scalar { text, style: Style::Plain } => plain(text).map_err(|why| (node.span, why)),
        Value::Scalar { text, .. } => Ok(JsonValue::String(text.clone())),
        Value::List(items) => items.iter().map(verbatim).collect::<Result<_, _>>().map(JsonValue::Array),
        Value::Map(entries) => entries
            .iter()
            .map(|entry| Ok((entry.key.clone(), verbatim(&entry.value)?)))
            .collect::<Result<Map<_, _>, _>>()
            .map(JsonValue::Object),
    }
}

impl Json {
    fn fill(&mut self, node: &Node, path: &mut Vec<Step>, r: &mut Reading<'_>) -> Option<JsonValue> {
        match &node.value {
            Value::Scalar { text, style } => self.scalar(node, text, *style, path, r),
            Value::List(items) => {
                let mut array = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    path.push(Step::Index(index));
                    array.extend(self.fill(item, path, r));
                    path.pop();
                }
                Some(JsonValue::Array(array))
            }
            Value::Map(entries) => {
                let mut object = Map::new();
                for entry in entries {
                    path.push(Step::Key(entry.key.clone()));
                    if let Some(value) = self.fill(&entry.value, path, r) {
                        object.insert(entry.key.clone(), value);
                    }
                    path.pop();
                }
                Some(JsonValue::Object(object))
            }
        }
    }

    fn scalar(
        &mut self,
        node: &Node,
        text: &str,
        style: Style,
        path: &[Step],
        r: &mut Reading<'_>,
    ) -> Option<JsonValue> {
        if style == Style::Plain && !text.contains("${") {
            return plain(text).map_err(|why| r.problem(node.span, why)).ok();
        }
        // Quotes are needed around a reference inside `{}` and say nothing; a text that looks like a number is written
        // as a block.
        if style != Style::Literal
            && let Some(number) = r.facts.number(text)
        {
            return Some(JsonValue::from(number));
        }
        let expanded = r.text(node, "a value")?;
        if let Some(fixed) = expanded.fixed() {
            return Some(JsonValue::String(fixed));
        }
        let written = expanded.to_string();
        self.late.push((path.to_vec(), expanded));
        Some(JsonValue::String(written))
    }
}

/// What an unquoted scalar means. The words on which YAML 1.1 (kubectl) and YAML 1.2 (most else)
/// disagree are refused.
pub(super) fn plain(text: &str) -> Result<JsonValue, String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(JsonValue::Null),
        "true" | "True" | "TRUE" => return Ok(JsonValue::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(JsonValue::Bool(false)),
        _ => {}
    }
    let word = text.to_ascii_lowercase();
    if matches!(word.as_str(), "yes" | "no" | "on" | "off" | "y" | "n") {
        return Err(format!("`{text}` is a boolean to some YAML readers and a text to others; quote it"));
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let numeric = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    if !numeric {
        return Ok(JsonValue::String(text.to_owned()));
    }
    let odd = (digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()))
        || (digits.contains('_') && digits.bytes().all(|b| b.is_ascii_digit() || b == b'_'));
    if odd {
        return Err(format!("`{text}` is a different number to different YAML readers; quote it"));
    }
    let integer = text.parse::<i64>().ok().map(Number::from);
    let is_float = || digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    let float = || is_float().then(|| text.parse::<f64>().ok().and_then(Number::from_f64)).flatten();
    Ok(integer.or_else(float).map_or_else(|| JsonValue::String(text.to_owned()), JsonValue::Number))
}

impl schemars::JsonSchema for Json {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Json".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "description": "Any value; texts in it may hold references" })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn unquoted_words_mean_what_kubernetes_reads() {
        assert_eq!(plain("4096").unwrap(), json!(4096));
        assert_eq!(plain("1.5").unwrap(), json!(1.5));
        assert_eq!(plain("10.1.0.0").unwrap(), json!("10.1.0.0"));
        assert_eq!(plain("10.1.0.0/16").unwrap(), json!("10.1.0.0/16"));
        assert_eq!(plain("true").unwrap(), json!(true));
        assert_eq!(plain("v1").unwrap(), json!("v1"));
        assert_eq!(plain("~").unwrap(), json!(null));
        assert_eq!(plain("-").unwrap(), json!("-"));
    }

    #[test]
    fn words_with_two_meanings_are_refused() {
        for word in ["no", "On", "yes", "0755", "1_000"] {
            assert!(plain(word).is_err(), "{word}");
        }
    }
}
