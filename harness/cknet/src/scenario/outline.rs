//! Owns what can be cited of a document: its headings by their anchors, and its blocks of code by the heading above them.
//! Must not know what the code means.

use std::collections::BTreeMap;

use super::document::Section;

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
    pub sections: Vec<Section>,
    pub code: Vec<CodeBlock>,
}

impl Outline {
    pub fn of(text: &str) -> Self {
        let mut outline = Self::default();
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut open: Option<CodeBlock> = None;
        for line in text.lines() {
            let fence = line.trim_start().strip_prefix("```");
            let heading = heading(line).filter(|_| open.is_none() && fence.is_none());
            if let Some((level, title)) = heading {
                let slug = slug(title);
                let times = seen.entry(slug.clone()).or_default();
                *times += 1;
                let anchor = if *times == 1 { slug } else { format!("{slug}-{}", *times - 1) };
                outline.sections.push(Section { level, title: title.to_owned(), anchor, has_text: false });
                continue;
            }
            if let (Some(section), false) = (outline.sections.last_mut(), is_rule(line)) {
                section.has_text = true;
            }
            match (&mut open, fence) {
                (Some(_), Some(_)) => outline.code.extend(open.take()),
                (Some(block), None) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                (None, Some(language)) => {
                    let anchor = outline.sections.last().map(|section| section.anchor.clone()).unwrap_or_default();
                    open = Some(CodeBlock { anchor, language: language.trim().to_owned(), text: String::new() });
                }
                (None, None) => {}
            }
        }
        outline
    }
}

/// The level and the words of a line that is a heading.
fn heading(line: &str) -> Option<(usize, &str)> {
    let words = line.trim_start_matches('#');
    let level = line.len() - words.len();
    ((1..=6).contains(&level) && words.starts_with(' ')).then(|| (level, words.trim()))
}

/// A line that says nothing: empty, or a rule across the page.
fn is_rule(line: &str) -> bool {
    line.trim().chars().all(|c| c == '-')
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
        let sections = Outline::of(TEXT).sections;
        assert_eq!(sections.iter().map(|section| section.anchor.as_str()).collect::<Vec<_>>(), anchors);
    }

    #[test]
    fn a_heading_over_headings_has_no_text() {
        let outline = Outline::of("# A\n\n## B\ntext\n\n---\n\n## C\n---\n");
        let texts: Vec<bool> = outline.sections.iter().map(|section| section.has_text).collect();
        assert_eq!(texts, [false, true, false]);
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
