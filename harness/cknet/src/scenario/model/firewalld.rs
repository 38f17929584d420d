//! Owns what a firewalld step says.
//! Must not know how firewalld is run.

use super::super::late::Text;
use super::super::nearest::{listed, nearest};
use super::super::read::{Read, Reading, record, words};
use super::super::tree::Node as TreeNode;
use super::{Citation, NodeSet};

/// Puts the nodes behind firewalld, which closes everything, and tells it what to open in its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firewalld {
    /// The nodes.
    pub nodes: NodeSet,
    /// The command lines of `firewall-cmd`, in order.
    pub commands: Vec<Text>,
    /// Where they are from, if they were taken from a document.
    pub recipe: Option<Citation>,
    /// By what it is done.
    pub engine: FirewallEngine,
}

words! {
    "a firewall";
    /// By what a firewalld step is done.
    #[derive(Default)]
    pub enum FirewallEngine {
        /// By firewalld where it is installed, elsewhere by the rules that it would make.
        #[default]
        Any = "any",
        /// By firewalld itself.
        Firewalld = "firewalld",
        /// By the rules that firewalld would make.
        BuiltIn = "built-in",
    }
}

record! {
    "a firewalld step";
    /// How a firewalld step is written.
    pub struct FirewalldSpec {
        /// The nodes.
        pub nodes: NodeSet,
        /// The passage of a document from which the command lines are taken as they stand.
        pub recipe: Option<Citation>,
        /// Only those under these comments of the recipe; lines under no comment are always taken.
        #[schemars(default)]
        pub parts: Vec<String> = Default::default(),
        /// The command lines, each `firewall-cmd ...`; after those of `recipe`.
        #[schemars(default)]
        pub commands: Vec<Text> = Default::default(),
        /// By what it is done; `any` unless given.
        #[schemars(default)]
        pub engine: FirewallEngine = FirewallEngine::default(),
    }
}

/// The program whose lines are taken.
const PROGRAM: &str = "firewall-cmd";

impl Read for Firewalld {
    fn read(node: &TreeNode, r: &mut Reading<'_>) -> Option<Self> {
        let spec = FirewalldSpec::read(node, r)?;
        let place = |key: &str| node.get(key).unwrap_or(node).point();
        let mut commands = match &spec.recipe {
            Some(recipe) => taken(recipe, &spec.parts, node, r)?,
            None if !spec.parts.is_empty() => {
                r.problem(place("parts"), "`parts` are those of a `recipe`; name it");
                return None;
            }
            None => Vec::new(),
        };
        let strange = |text: &Text| !text.to_string().starts_with(&format!("{PROGRAM} "));
        if spec.commands.iter().any(strange) {
            r.problem(place("commands"), "each command is one of `firewall-cmd`");
            return None;
        }
        commands.extend(spec.commands);
        Some(Self { nodes: spec.nodes, commands, recipe: spec.recipe, engine: spec.engine })
    }
}

/// The command lines of the recipe's passage.
fn taken(recipe: &Citation, parts: &[String], node: &TreeNode, r: &mut Reading<'_>) -> Option<Vec<Text>> {
    let blocks = r.code.get(&recipe.file).into_iter().flatten().filter(|block| block.anchor == recipe.anchor);
    let lines: Vec<Line> = blocks.flat_map(|block| lines(&block.text)).collect();
    let known: Vec<&str> = lines.iter().filter_map(|line| line.part.as_deref()).collect();
    let place = |key: &str| node.get(key).unwrap_or(node).point();
    if lines.is_empty() {
        r.problem(place("recipe"), format!("no line of `{PROGRAM}` stands there in the document"));
        return None;
    }
    if let Some(missing) = parts.iter().find(|part| !known.contains(&part.as_str())) {
        let near = nearest(missing, known.iter().copied());
        let mut known = known.clone();
        known.dedup();
        let message = match near {
            Some(near) => format!("the recipe has no part `{missing}`; did you mean `{near}`?"),
            None => format!("the recipe has no part `{missing}`; it has {}", listed(known)),
        };
        r.problem(place("parts"), message);
        return None;
    }
    let wanted = |line: &Line| parts.is_empty() || line.part.as_ref().is_none_or(|part| parts.contains(part));
    Some(lines.into_iter().filter(wanted).map(|line| Text::literal(line.text)).collect())
}

#[derive(Debug, PartialEq, Eq)]
struct Line {
    /// The comment above it, without an empty line between.
    part: Option<String>,
    text: String,
}

fn lines(code: &str) -> Vec<Line> {
    let (mut part, mut found) = (None, Vec::new());
    for line in code.lines().map(str::trim) {
        if line.is_empty() {
            part = None;
        } else if let Some(comment) = line.strip_prefix('#') {
            part = Some(comment.trim().to_owned());
        } else if line.strip_prefix(PROGRAM).is_some_and(|rest| rest.starts_with(' ')) {
            found.push(Line { part: part.clone(), text: line.to_owned() });
        }
    }
    found
}

impl schemars::JsonSchema for Firewalld {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Firewalld".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        FirewalldSpec::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_holds_until_an_empty_line() {
        let code = "# Worker\nfirewall-cmd --add-port=1/tcp\nfirewall-cmd --add-port=2/udp\n\nfirewall-cmd --reload\nk8s kubectl exec\nfirewall-cmdx y\n";
        let line = |part: Option<&str>, text: &str| Line { part: part.map(Into::into), text: text.into() };
        assert_eq!(
            lines(code),
            [
                line(Some("Worker"), "firewall-cmd --add-port=1/tcp"),
                line(Some("Worker"), "firewall-cmd --add-port=2/udp"),
                line(None, "firewall-cmd --reload"),
            ]
        );
    }
}
