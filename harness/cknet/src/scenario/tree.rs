//! Owns YAML: text to a tree in which each node knows its place, within fixed limits.
//! Must not know what the keys mean.
//!
//! The format is a strict part of YAML: no anchors and aliases, no merge keys, no tags, no
//! directives, no duplicate keys, one document. What is left cannot blow up while it is read.

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, StrInput, options};

use super::problem::Problem;
use super::source::Span;

/// Longest text that is read at all.
pub(super) const MAX_BYTES: usize = 1 << 20;
const MAX_NODES: usize = 20_000;
const MAX_DEPTH: usize = 32;

/// One value in the text.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub span: Span,
    pub value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Scalar { text: String, style: Style },
    Map(Vec<Entry>),
    List(Vec<Node>),
}

/// How a scalar was written; only a plain one can be anything but a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Quoted,
    Literal,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub key: String,
    pub key_span: Span,
    pub value: Node,
}

impl Node {
    /// The place to point at: the scalar itself, the first key, the first item.
    pub fn point(&self) -> Span {
        match &self.value {
            Value::Scalar { .. } => self.span,
            Value::Map(entries) => entries.first().map_or(self.span, |entry| entry.key_span),
            Value::List(items) => items.first().map_or(self.span, Self::point),
        }
    }

    /// The entries, if this is a mapping.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items, if this is a list.
    pub fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The text, if this is a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.value)
    }

    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// Whether the value was left out: `key:` with nothing behind it, `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, style: Style::Plain }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What kind of value this is, for a message.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Map(_) => "a mapping",
            Value::List(_) => "a list",
            Value::Scalar { .. } if self.is_null() => "nothing",
            Value::Scalar { .. } => "a single value",
        }
    }

    /// This tree with the values of `over` laid over it, mapping by mapping.
    pub fn merged(&self, over: &Self) -> Self {
        let (Value::Map(base), Value::Map(top)) = (&self.value, &over.value) else {
            return over.clone();
        };
        let mut entries = base.clone();
        for entry in top {
            match entries.iter_mut().find(|old| old.key == entry.key) {
                Some(old) => {
                    old.value = old.value.merged(&entry.value);
                    old.key_span = entry.key_span;
                }
                None => entries.push(entry.clone()),
            }
        }
        Self { span: over.span, value: Value::Map(entries) }
    }
}

/// Reads the one document of a scenario file.
pub(super) fn parse_one(text: &str, problems: &mut Vec<Problem>) -> Option<Node> {
    let mut documents = parse_all(text, problems)?.into_iter();
    let first = documents.next();
    if let Some(second) = documents.next() {
        problems.push(Problem::at(second.point(), "a second document starts here; a file holds one scenario"));
    }
    first
}

/// Reads each document of a text; `None` if it cannot be read to its end.
pub(super) fn parse_all(text: &str, problems: &mut Vec<Problem>) -> Option<Vec<Node>> {
    let parsed = Builder::new(text, problems).documents();
    match parsed {
        Ok(documents) => Some(documents),
        Err(problem) => {
            problems.push(problem);
            None
        }
    }
}

struct Builder<'t, 'p> {
    events: Parser<'t, StrInput<'t>>,
    text: &'t str,
    nodes: usize,
    problems: &'p mut Vec<Problem>,
}

type Step<'t> = Result<(Event<'t>, Span), Problem>;

fn bytes(span: granit_parser::Span) -> Span {
    let range = span.byte_range().unwrap_or(0..0);
    Span::new(range.start, range.end)
}

impl<'t, 'p> Builder<'t, 'p> {
    fn new(text: &'t str, problems: &'p mut Vec<Problem>) -> Self {
        let options = options! {
            emit_comments: false,
            emit_anchor_events: true,
            disallow_directives: true,
            flow_nesting_limit: 2 * MAX_DEPTH,
            block_nesting_limit: 2 * MAX_DEPTH,
        };
        Self { events: Parser::new_from_str_with_options(text, options), text, nodes: 0, problems }
    }

    fn next(&mut self) -> Step<'t> {
        match self.events.next() {
            Some(Ok((event, span))) => {
                if let Some(tag) = event.tag() {
                    let message = format!("the tag `{}` has no place here; remove it", tag.original());
                    let place = span.tag_span().map_or_else(|| bytes(span), bytes);
                    self.problems.push(Problem::at(place, message));
                }
                Ok((event, bytes(span)))
            }
            Some(Err(error)) => Err(self.not_yaml(&error)),
            None => Ok((Event::StreamEnd, Span::new(self.text.len(), self.text.len()))),
        }
    }

    fn not_yaml(&self, error: &ScanError) -> Problem {
        let at = error.marker().byte_offset().unwrap_or(self.text.len());
        let span = Span::new(at, at + 1);
        if let Some(tab) = tab_in_indentation(self.text, at) {
            return Problem::at(tab, "a tab in the indentation; indent with spaces");
        }
        if let Some(line) = shallower_than_first(self.text, at) {
            let message = format!(
                "less indented than the first line of the block text that starts in line {line}; \
                 start a table with `from`, or write `|2` in place of `|`"
            );
            return Problem::at(span, message);
        }
        match error.kind() {
            ErrorKind::UnknownAnchor => Problem::at(span, NO_ANCHORS),
            ErrorKind::RecursionLimitExceeded => Problem::at(span, too_deep()),
            _ => Problem::at(span, format!("this is not YAML: {}", lower_first(&error.info()))),
        }
    }

    fn documents(&mut self) -> Result<Vec<Node>, Problem> {
        let mut documents = Vec::new();
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(documents),
                (Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd, _) => {}
                (event, span) => documents.push(self.node(event, span, 1)?),
            }
        }
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, Problem> {
        self.within_limits(span, depth)?;
        if event.is_alias() {
            return Err(Problem::at(span, NO_ANCHORS));
        }
        if event.anchor_id().is_some_and(|id| id != 0) {
            let (_, anchor) = self.next()?;
            return Err(Problem::at(anchor, NO_ANCHORS));
        }
        match event {
            Event::Scalar(text, style, ..) => Ok(Node {
                span: tight(self.text, span, style),
                value: Value::Scalar {
                    text: text.into_owned(),
                    style: match style {
                        ScalarStyle::Plain => Style::Plain,
                        ScalarStyle::Literal => Style::Literal,
                        _ => Style::Quoted,
                    },
                },
            }),
            Event::SequenceStart(..) => self.list(span, depth),
            Event::MappingStart(..) => self.map(span, depth),
            _ => Err(Problem::at(span, "this is not YAML: a value is missing here")),
        }
    }

    fn within_limits(&mut self, span: Span, depth: usize) -> Result<(), Problem> {
        self.nodes += 1;
        if depth > MAX_DEPTH {
            return Err(Problem::at(span, too_deep()));
        }
        if self.nodes > MAX_NODES {
            let message = format!("more than {MAX_NODES} values in one file");
            return Err(Problem::at(span, message));
        }
        Ok(())
    }

    fn list(&mut self, start: Span, depth: usize) -> Result<Node, Problem> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, end) => {
                    return Ok(Node { span: Span::new(start.start, end.end), value: Value::List(items) });
                }
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, start: Span, depth: usize) -> Result<Node, Problem> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(Node { span: Span::new(start.start, span.end), value: Value::Map(entries) });
            }
            let key = self.node(event, span, depth + 1)?;
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            self.entry(&mut entries, &key, value);
        }
    }

    fn entry(&mut self, entries: &mut Vec<Entry>, key: &Node, value: Node) {
        let Some(text) = key.text() else {
            let message = format!("a key is a word, found {}", key.kind());
            return self.problems.push(Problem::at(key.point(), message));
        };
        if text == "<<" {
            let message = "merge keys are not part of this format; write the keys out";
            return self.problems.push(Problem::at(key.span, message));
        }
        if let Some(first) = entries.iter().find(|entry| entry.key == text) {
            let line = 1 + self.text[..first.key_span.start].matches('\n').count();
            let message = format!("`{text}` is given twice; the first is in line {line}");
            return self.problems.push(Problem::at(key.span, message));
        }
        entries.push(Entry { key: text.to_owned(), key_span: key.span, value });
    }
}

fn too_deep() -> String {
    format!("nested more than {MAX_DEPTH} levels deep")
}

const NO_ANCHORS: &str = "anchors and aliases are not part of this format; write the value out";

/// The span of a scalar without white space after it. A block scalar is pointed at by its first
/// line of text.
fn tight(text: &str, span: Span, style: ScalarStyle) -> Span {
    let raw = text.get(span.start..span.end).unwrap_or_default();
    let trimmed = match style {
        ScalarStyle::Literal | ScalarStyle::Folded => raw.lines().next().unwrap_or_default(),
        _ => raw,
    };
    Span::new(span.start, span.start + trimmed.trim_end().len())
}

/// A tab before the first word of the line at `at` or of the one after it.
fn tab_in_indentation(text: &str, at: usize) -> Option<Span> {
    let start = text.get(..at)?.rfind('\n').map_or(0, |before| before + 1);
    let mut offset = start;
    for line in text[start..].split_inclusive('\n').take(2) {
        let indentation = &line[..line.len() - line.trim_start_matches([' ', '\t']).len()];
        if let Some(tab) = indentation.find('\t') {
            return Some(Span::new(offset + tab, offset + tab + 1));
        }
        offset += line.len();
    }
    None
}

/// The line (from 1) of the `|` before `at`, if the text behind it starts deeper than it goes on
/// at `at`: YAML takes the indentation of a block text from its first line.
fn shallower_than_first(text: &str, at: usize) -> Option<usize> {
    let indentation = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let end = text.get(..at)?.rfind('\n')?;
    let here = indentation(text[end + 1..].lines().next()?);
    let before: Vec<&str> = text[..end].lines().collect();
    let bar = before.iter().rposition(|line| line.trim_end().ends_with('|'))?;
    let first = indentation(before.get(bar + 1)?);
    (first > here && here > indentation(before[bar])).then_some(bar + 1)
}

/// A word of capitals like `YAML` stays as it is.
fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return String::new() };
    if chars.clone().next().is_some_and(char::is_uppercase) {
        return text.to_owned();
    }
    first.to_lowercase().chain(chars).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn one(text: &str) -> (Option<Node>, Vec<Problem>) {
        let mut problems = Vec::new();
        (parse_one(text, &mut problems), problems)
    }

    #[test]
    fn scalars_know_where_they_stand() {
        let text = "a:\n  - {b: word, c: 'quoted # text'} # comment\n  - plain words   # more\n";
        let (tree, problems) = one(text);
        assert!(problems.is_empty());
        let tree = tree.unwrap();
        let a = tree.get("a").unwrap();
        let slice = |node: &Node| &text[node.span.start..node.span.end];
        assert_eq!(slice(a.items()[0].get("b").unwrap()), "word");
        assert_eq!(slice(a.items()[0].get("c").unwrap()), "'quoted # text'");
        assert_eq!(slice(&a.items()[1]), "plain words");
    }

    #[test]
    fn a_second_document_and_anchors_are_refused() {
        assert!(one("a: 1\n---\nb: 2\n").1[0].message.contains("second document"));
        assert!(one("a: &x 1\nb: *x\n").1[0].message.contains("anchors"));
        assert!(one("a: *x\n").1[0].message.contains("anchors"));
        assert!(one("%YAML 1.2\n---\na: 1\n").0.is_none());
    }

    #[test]
    fn depth_and_size_are_limited() {
        let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
        assert!(one(&deep).1[0].message.contains("levels deep"));
        let wide = format!("[{}]", "1,".repeat(MAX_NODES));
        assert!(one(&wide).1[0].message.contains("values in one file"));
        assert!(!one(&"[".repeat(5_000)).1.is_empty());
    }

    #[test]
    fn laying_one_tree_over_another_keeps_the_rest() {
        let base = one("a: {b: 1, c: 2}\nd: 3\n").0.unwrap();
        let over = one("a: {c: 9, e: 4}\n").0.unwrap();
        let both = base.merged(&over);
        let a = both.get("a").unwrap();
        assert_eq!(a.get("b").unwrap().text(), Some("1"));
        assert_eq!(a.get("c").unwrap().text(), Some("9"));
        assert_eq!(a.get("e").unwrap().text(), Some("4"));
        assert_eq!(both.get("d").unwrap().text(), Some("3"));
    }
}
