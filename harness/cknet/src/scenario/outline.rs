//! Owns what can be cited of a document: its headings by their anchors, and its blocks of code by the heading above them.
//! Must not know what the code means.

use std::collections::BTreeMap;

/// A fenced block of code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeBlock {
    /// The anchor of the last heading before it.
    pub anchor: String,
    /// The word after the opening fence, `yaml`, `bash`; empty if there is none.
    pub language: String,
    /// Its lines, as they stand.
    pub text: String,
}

/// Headings and code of a document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Outline {
    /// The anchors that GitHub gives the headings: lower case, spaces to `-`, punctuation and symbols removed, a number
    /// behind repeated ones.
    pub anchors: Vec<String>,
    pub code: Vec<CodeBlock>,
}

impl Outline {
    pub fn of(text: &str) -> Self {
        let mut outline = Self::default();
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut open: Option<CodeBlock> = None;
        for line in text.lines() {
            let fence = line.trim_start().strip_prefix("```");
            match (&mut open, fence) {
                (Some(_), Some(_)) => outline.code.extend(open.take()),
                (Some(block), None) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                (None, Some(language)) => {
                    let anchor = outline.anchors.last().cloned().unwrap_or_default();
                    open = Some(CodeBlock { anchor, language: language.trim().to_owned(), text: String::new() });
                }
                (None, None) => outline.anchors.extend(heading(line).map(|heading| {
                    let slug = slug(heading);
                    let times = seen.entry(slug.clone()).or_default();
                    *times += 1;
                    if *times == 1 { slug } else { format!("{slug}-{}", *times - 1) }
                })),
            }
        }
        outline
    }
}

/// The words of a line that is a heading.
fn heading(line: &str) -> Option<&str> {
    let words = line.trim_start_matches('#');
    let level = line.len() - words.len();
    ((1..=6).contains(&level) && words.starts_with(' ')).then(|| words.trim())
}

fn slug(heading: &str) -> String {
    heading
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .flat_map(char::to_lowercase)
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Top\n```bash\n# not a heading\n```\n### ❌ WRONG: Firewall blocks Calico VXLAN\n## Node-to-Node (Host)\n## Top\n#nothing\n```\na\n\n b\n```\n";

    #[test]
    fn anchors_are_those_of_github() {
        let anchors = ["top", "-wrong-firewall-blocks-calico-vxlan", "node-to-node-host", "top-1"];
        assert_eq!(Outline::of(TEXT).anchors, anchors);
    }

    #[test]
    fn code_belongs_to_the_heading_above_it() {
        let block = |anchor: &str, language: &str, text: &str| CodeBlock {
            anchor: anchor.into(),
            language: language.into(),
            text: text.into(),
        };
        assert_eq!(
            Outline::of(TEXT).code,
            [block("top", "bash", "# not a heading\n"), block("top-1", "", "a\n\n b\n")]
        );
    }
}
