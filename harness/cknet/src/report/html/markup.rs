//! Owns how text becomes part of a page: everything foreign is cleaned and escaped here and nowhere else.

use crate::report::clean;

/// A page under construction. Tags are written by us; texts go through [`Markup::text`].
#[derive(Default)]
pub struct Markup {
    out: String,
}

impl Markup {
    /// Markup of our own.
    pub fn raw(&mut self, markup: &str) -> &mut Self {
        self.out.push_str(markup);
        self
    }

    /// Text of anybody.
    pub fn text(&mut self, text: &str) -> &mut Self {
        for c in clean::text(text).chars() {
            match c {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '>' => self.out.push_str("&gt;"),
                '"' => self.out.push_str("&quot;"),
                '\'' => self.out.push_str("&#39;"),
                c => self.out.push(c),
            }
        }
        self
    }

    /// `<tag class="class">text</tag>`.
    pub fn element(&mut self, tag: &str, class: &str, text: &str) -> &mut Self {
        self.open(tag, class).text(text).raw("</").raw(tag).raw(">")
    }

    /// `<tag class="class">`.
    pub fn open(&mut self, tag: &str, class: &str) -> &mut Self {
        self.raw("<").raw(tag);
        if !class.is_empty() {
            self.raw(" class=\"").raw(class).raw("\"");
        }
        self.raw(">")
    }

    /// A link to a file beside the page. Whatever is not plain in the path is encoded, so that it can only be a path.
    pub fn link(&mut self, path: &str, text: &str) -> &mut Self {
        self.raw("<a href=\"");
        for byte in path.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' | b'~' => {
                    self.out.push(char::from(byte));
                }
                other => self.out.push_str(&format!("%{other:02X}")),
            }
        }
        self.raw("\">").text(text).raw("</a>")
    }

    pub fn done(self) -> String {
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_a_path_and_nothing_else() {
        let mut markup = Markup::default();
        markup.link("evidence/a.b/c-d/index.txt", "a<b").link("javascript:x(\"y\")", "z");
        let expected = "<a href=\"evidence/a.b/c-d/index.txt\">a&lt;b</a><a href=\"javascript%3Ax%28%22y%22%29\">z</a>";
        assert_eq!(markup.done(), expected);
    }

    #[test]
    fn nothing_foreign_becomes_markup() {
        let mut markup = Markup::default();
        markup.element("td", "a", "<script>\"&'\u{1b}[31mred\u{7}");
        assert_eq!(markup.done(), "<td class=\"a\">&lt;script&gt;&quot;&amp;&#39;red#x07</td>");
    }
}
