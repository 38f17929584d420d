//! Owns reading typed values from the tree, telling all problems instead of the first one.
//! Must not know what a single key means: the field tables are made beside the types.
//!
//! `None` means that a problem has been told (or that one told elsewhere makes this unreadable);
//! reading then goes on with the next field, item or entry.

use super::declared::Declared;
use super::fixtures::{Code, Manifests};
use super::late::Text;
use super::nearest::{listed, nearest};
use super::premises::Premises;
use super::problem::Problem;
use super::reference::{Facts, Wrong};
use super::source::{Source, Span};
use super::tree::{Node, Style, Value};

/// What all reading functions of one file share.
pub(super) struct Reading<'a> {
    pub source: &'a Source,
    pub root: &'a Node,
    pub declared: Declared<'a>,
    pub facts: Facts,
    pub manifests: &'a Manifests,
    pub code: &'a Code,
    pub premises: Option<&'a Premises>,
    pub problems: Vec<Problem>,
    /// What the file refers to and this CNI does not have.
    pub absent: Vec<Problem>,
}

impl Reading<'_> {
    pub fn problem(&mut self, span: Span, message: impl Into<String>) {
        self.problems.push(Problem::at(span, message));
    }

    pub fn line(&self, node: &Node) -> usize {
        self.source.position(node.point().start).line
    }

    /// Tells that `name` is not one of those this file (or the harness) has.
    pub fn no_such(&mut self, span: Span, what: &str, name: &str, known: &[&str]) {
        let message = match (nearest(name, known.iter().copied()), known) {
            (Some(near), _) => format!("no {what} has this name; did you mean `{near}`?"),
            (None, []) => format!("no {what} has this name; this file defines none"),
            (None, known) => format!("no {what} has this name; this file defines {}", listed(known.iter().copied())),
        };
        self.problem(span, message);
    }

    /// The text of a scalar with its references kept apart.
    pub fn text(&mut self, node: &Node, wanted: &str) -> Option<Text> {
        match &node.value {
            _ if node.is_null() => {
                self.problem(node.span, format!("nothing is given; this wants {wanted}"));
                None
            }
            Value::Scalar { text, .. } => self.expanded(text, node.span),
            _ => {
                let message = format!("this wants {wanted}, found {}", node.kind());
                self.problem(node.point(), message);
                None
            }
        }
    }

    fn expanded(&mut self, text: &str, span: Span) -> Option<Text> {
        let mut wrong = Vec::new();
        let expanded = self.facts.expand(text, &self.declared, &mut wrong);
        for Wrong { written, why, absent } in wrong {
            let raw = self.source.text().get(span.start..span.end).unwrap_or_default();
            let place =
                raw.find(&written).map_or(span, |at| Span::new(span.start + at, span.start + at + written.len()));
            let told = if absent { &mut self.absent } else { &mut self.problems };
            told.push(Problem::at(place, why));
        }
        expanded
    }

    /// The text of a scalar in a place where a fact that only a run knows is of no use.
    pub fn fixed_text(&mut self, node: &Node, wanted: &str) -> Option<String> {
        let text = self.text(node, wanted)?;
        if let Some(fixed) = text.fixed() {
            return Some(fixed);
        }
        self.problem(node.span, format!("`{text}` is known only while the scenario runs; this wants {wanted}"));
        None
    }
}

/// A type that can be read from the tree.
pub(super) trait Read: Sized {
    fn read(node: &Node, r: &mut Reading<'_>) -> Option<Self>;

    /// The value of a key that is not there; `None` if the key has to be there.
    fn absent() -> Option<Self> {
        None
    }
}

/// A type written as one word or number.
pub(super) trait FromText: Sized {
    /// What is wanted, with its article: `` "a port with its protocol, like `8080/tcp`" ``.
    const WANTED: &'static str;
    /// The value, or what is wrong with the text.
    fn from_text(text: &str) -> Result<Self, String>;
}

/// Reads any [`FromText`], saying what a reference stood for if the value is wrong.
pub(super) fn read_text<T: FromText>(node: &Node, r: &mut Reading<'_>) -> Option<T> {
    let text = r.fixed_text(node, T::WANTED)?;
    match T::from_text(&text) {
        Ok(value) => Some(value),
        Err(wrong) if node.text() == Some(text.as_str()) => {
            r.problem(node.span, wrong);
            None
        }
        Err(wrong) => {
            r.problem(node.span, format!("{wrong} (with its references: `{text}`)"));
            None
        }
    }
}

/// A record of which the fields can be looked at, for the test that schema and reader agree.
#[cfg(test)]
pub(super) trait Record {
    /// All keys, with whether each has to be there.
    fn keys() -> Vec<(String, bool)>;
}

/// The keys of one mapping while they are taken out one by one.
pub(super) struct Keys<'n> {
    node: &'n Node,
    noun: &'static str,
    taken: Vec<&'static str>,
}

impl<'n> Keys<'n> {
    /// `noun` is what the mapping describes, with its article.
    pub fn of(node: &'n Node, noun: &'static str, r: &mut Reading<'_>) -> Option<Self> {
        if !matches!(node.value, Value::Map(_)) {
            let message = format!("this wants {noun}, a mapping; found {}", node.kind());
            r.problem(node.point(), message);
            return None;
        }
        Some(Self { node, noun, taken: Vec::new() })
    }

    pub fn take(&mut self, key: &'static str) -> Option<&'n Node> {
        self.taken.push(key);
        self.node.get(key)
    }

    /// The value of a key, or what its absence means.
    pub fn field<T: Read>(&mut self, key: &'static str, r: &mut Reading<'_>) -> Option<T> {
        match self.take(key) {
            Some(node) => T::read(node, r),
            None => T::absent().or_else(|| {
                r.problem(self.node.point(), format!("{} needs `{key}`", self.noun));
                None
            }),
        }
    }

    /// The value of a key, or `otherwise` if it is not there.
    pub fn field_or<T: Read>(
        &mut self,
        key: &'static str,
        otherwise: impl FnOnce() -> T,
        r: &mut Reading<'_>,
    ) -> Option<T> {
        self.take(key).map_or_else(|| Some(otherwise()), |node| T::read(node, r))
    }

    /// Tells of each key that nobody took; `more` are keys known besides those taken.
    pub fn done(self, more: &[&'static str], r: &mut Reading<'_>) {
        let known: Vec<&str> = self.taken.iter().chain(more).copied().collect();
        for entry in self.node.entries() {
            if known.contains(&entry.key.as_str()) {
                continue;
            }
            let message = match nearest(&entry.key, known.iter().copied()) {
                Some(near) => format!("unknown key; did you mean `{near}`?"),
                None => format!("unknown key; {} has {}", self.noun, listed(known.iter().copied())),
            };
            r.problem(entry.key_span, message);
        }
    }
}

/// `pod_cidr` as it is written in a file: `podCidr`.
pub(super) fn camel(field: &str) -> String {
    let mut words = field.split('_');
    let mut key = words.next().unwrap_or_default().to_owned();
    for word in words {
        let (first, rest) = word.split_at(word.len().min(1));
        key.push_str(&first.to_uppercase());
        key.push_str(rest);
    }
    key
}

/// The one key of a mapping that chooses between kinds of things.
pub(super) fn only_key<'n>(
    node: &'n Node,
    noun: &str,
    kinds: &[&str],
    r: &mut Reading<'_>,
) -> Option<(&'n str, Span, &'n Node)> {
    match &node.value {
        Value::Map(entries) => match entries.as_slice() {
            [] => {
                let message = format!("{noun} is empty; give one of {}", listed(kinds.iter().copied()));
                r.problem(node.span, message);
                None
            }
            [one] => Some((&one.key, one.key_span, &one.value)),
            [first, second, ..] => {
                let message = format!("{noun} has one kind, and `{}` is given already", first.key);
                r.problem(second.key_span, message);
                None
            }
        },
        _ => {
            let message = format!(
                "this wants {noun}, a mapping with one of {}; found {}",
                listed(kinds.iter().copied()),
                node.kind()
            );
            r.problem(node.point(), message);
            None
        }
    }
}

/// Tells that a word is none of those allowed.
pub(super) fn not_a_word(span: Span, word: &str, what: &str, words: &[&str], r: &mut Reading<'_>) {
    let message = match nearest(word, words.iter().copied()) {
        Some(near) => format!("not {what}; did you mean `{near}`?"),
        None => format!("not {what}; use {}", listed(words.iter().copied())),
    };
    r.problem(span, message);
}

impl<T: Read> Read for Option<T> {
    fn read(node: &Node, r: &mut Reading<'_>) -> Option<Self> {
        Some(T::read(node, r))
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl<T: Read> Read for Vec<T> {
    fn read(node: &Node, r: &mut Reading<'_>) -> Option<Self> {
        let Value::List(items) = &node.value else {
            r.problem(node.point(), format!("this wants a list, found {}", node.kind()));
            return None;
        };
        Some(items.iter().filter_map(|item| T::read(item, r)).collect())
    }
}

impl<T: Read> Read for Box<T> {
    fn read(node: &Node, r: &mut Reading<'_>) -> Option<Self> {
        T::read(node, r).map(Self::new)
    }

    fn absent() -> Option<Self> {
        T::absent().map(Self::new)
    }
}

impl Read for Text {
    fn read(node: &Node, r: &mut Reading<'_>) -> Option<Self> {
        r.text(node, "a text")
    }
}

impl Read for String {
    fn read(node: &Node, r: &mut Reading<'_>) -> Option<Self> {
        let text = r.fixed_text(node, "a text")?;
        // Kubernetes reads an unquoted number or boolean as such and then refuses it as a text.
        let reads_otherwise = matches!(node.value, Value::Scalar { style: Style::Plain, .. })
            && super::json::plain(&text).is_ok_and(|value| !value.is_string());
        if reads_otherwise && node.text() == Some(text.as_str()) {
            r.problem(node.span, format!("this wants a text, found `{text}`; put it in quotes"));
            return None;
        }
        Some(text)
    }
}

impl Read for bool {
    fn read(node: &Node, r: &mut Reading<'_>) -> Option<Self> {
        match r.fixed_text(node, "`true` or `false`")?.as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => {
                r.problem(node.span, "this wants `true` or `false`");
                None
            }
        }
    }
}

macro_rules! number {
    ($($type:ty),*) => { $(
        impl FromText for $type {
            const WANTED: &'static str = "a whole number";
            fn from_text(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| {
                    format!("this wants a whole number from {} to {}", <$type>::MIN, <$type>::MAX)
                })
            }
        }
        impl Read for $type {
            fn read(node: &Node, r: &mut Reading<'_>) -> Option<Self> {
                read_text(node, r)
            }
        }
    )* };
}
number!(u8, u16, u32);

pub(super) use super::tables::{choice, record, text, words};

#[cfg(test)]
mod tests {
    use super::camel;

    #[test]
    fn field_names_become_keys() {
        assert_eq!(camel("pod_cidr"), "podCidr");
        assert_eq!(camel("is"), "is");
        assert_eq!(camel("node_address_from"), "nodeAddressFrom");
    }
}
