//! Owns how a Markdown document is divided: its headings, their anchors, and which of them have a text of their own.
//! Must not know scenarios and claims.

use std::collections::BTreeMap;

/// A document under test.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Document {
    /// Its headings in order.
    pub sections: Vec<Section>,
    /// Headings without anything that a cluster could confirm or refute, by anchor, and why.
    pub untestable: BTreeMap<String, String>,
}

/// A heading and what follows it up to the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// 1 for `#`.
    pub level: usize,
    pub title: String,
    /// As GitHub makes it: lower case, spaces to `-`, punctuation and symbols removed, a number behind repeated ones.
    pub anchor: String,
    /// Whether there is more in it than other headings.
    pub has_text: bool,
}

impl Document {
    /// Divides a text.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let mut sections: Vec<Section> = Vec::new();
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut in_code = false;
        for line in text.lines() {
            if line.trim_start().starts_with("```") {
                in_code = !in_code;
            }
            let title = line.trim_start_matches('#');
            let level = line.len() - title.len();
            if in_code || level == 0 || level > 6 || !title.starts_with(' ') {
                let rule = line.trim().is_empty() || line.trim().chars().all(|c| c == '-');
                if let (Some(section), false) = (sections.last_mut(), rule) {
                    section.has_text = true;
                }
                continue;
            }
            let slug = slug(title.trim());
            let times = seen.entry(slug.clone()).or_default();
            let anchor = if *times == 0 { slug } else { format!("{slug}-{times}") };
            *times += 1;
            sections.push(Section { level, title: title.trim().to_string(), anchor, has_text: false });
        }
        Self { sections, untestable: BTreeMap::new() }
    }

    /// The section with that anchor.
    #[must_use]
    pub fn section(&self, anchor: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.anchor == anchor)
    }
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

    #[test]
    fn anchors_are_those_of_github() {
        let text = "# Top\n```bash\n# not a heading\n```\n### ❌ WRONG: Firewall blocks Calico VXLAN\n## Node-to-Node (Host)\n## Top\n#nothing\n";
        let document = Document::read(text);
        let anchors: Vec<&str> = document.sections.iter().map(|section| section.anchor.as_str()).collect();
        assert_eq!(anchors, ["top", "-wrong-firewall-blocks-calico-vxlan", "node-to-node-host", "top-1"]);
    }

    #[test]
    fn a_heading_over_headings_has_no_text() {
        let document = Document::read("# A\n\n## B\ntext\n\n---\n\n## C\n---\n");
        let texts: Vec<bool> = document.sections.iter().map(|section| section.has_text).collect();
        assert_eq!(texts, [false, true, false]);
    }
}
