//! Owns the one way by which foreign text gets into a report: commands on nodes print colours, control
//! characters and broken encodings, and a report must show them, not obey them. It must not know what the text
//! means.

/// A terminal sequence longer than this is not believed to be one.
const LONGEST_SEQUENCE: usize = 4096;

/// Text of any number of lines. Terminal sequences are taken out, line ends become `\n`, and every other
/// character that XML 1.0 forbids or that a terminal would obey is shown as `#x1B`.
pub fn text(raw: &str) -> String {
    let mut clean = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(next) = rest.chars().next() {
        let mut taken = next.len_utf8();
        match next {
            '\u{1b}' => match sequence_length(rest.as_bytes()) {
                Some(length) => taken = length,
                None => show(&mut clean, next),
            },
            '\r' => {
                if !rest.starts_with("\r\n") {
                    clean.push('\n');
                }
            }
            '\n' | '\t' => clean.push(next),
            // C0 and C1 controls, DEL, and the two characters of the basic plane that XML 1.0 excludes:
            // https://www.w3.org/TR/xml/#charsets
            '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => show(&mut clean, next),
            _ => clean.push(next),
        }
        rest = &rest[taken..];
    }
    clean
}

/// The same, from bytes in any encoding: for emitters, since an event holds text only.
pub fn bytes(raw: &[u8]) -> String {
    text(&String::from_utf8_lossy(raw))
}

/// The same on one line: XML readers turn line ends in attributes into spaces anyhow, and a name with a line end
/// could pass for a line of the report.
pub fn line(raw: &str) -> String {
    let mut clean = String::with_capacity(raw.len());
    for word in text(raw).split(['\n', '\t']).map(str::trim).filter(|word| !word.is_empty()) {
        if !clean.is_empty() {
            clean.push(' ');
        }
        clean.push_str(word);
    }
    clean
}

/// One line of at most `limit` characters.
pub fn message(raw: &str, limit: usize) -> String {
    let clean = line(raw);
    if clean.chars().count() <= limit {
        return clean;
    }
    let mut short: String = clean.chars().take(limit.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// How much of a long text stays, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    pub head: usize,
    pub tail: usize,
}

/// The beginning and the end of a long text, and a line on what is missing.
pub fn capped(clean: String, caps: Caps) -> String {
    match ends(&clean, caps) {
        Some((head, tail)) => joined(head, clean.len() - head.len() - tail.len(), tail),
        None => clean,
    }
}

/// The beginning and the end of a text that is longer than both.
pub fn ends(text: &str, caps: Caps) -> Option<(&str, &str)> {
    if text.len() <= caps.head + caps.tail {
        return None;
    }
    let head = text.floor_char_boundary(caps.head);
    let tail = text.ceil_char_boundary(text.len() - caps.tail);
    Some((&text[..head], &text[tail..]))
}

/// Both with a line on what was between them.
pub fn joined(head: &str, cut: usize, tail: &str) -> String {
    format!("{head}\n… {cut} bytes cut\n{tail}")
}

fn show(clean: &mut String, character: char) {
    clean.push_str(&format!("#x{:02X}", u32::from(character)));
}

/// The length of the terminal sequence (ECMA-48) that `text` begins with, if it is a whole one.
fn sequence_length(text: &[u8]) -> Option<usize> {
    let text = &text[..text.len().min(LONGEST_SEQUENCE)];
    match text.get(1)? {
        b'[' => {
            let parameters = 2 + count(&text[2..], 0x30..=0x3f);
            let last = parameters + count(&text[parameters..], 0x20..=0x2f);
            matches!(text.get(last)?, 0x40..=0x7e).then_some(last + 1)
        }
        // Strings, such as window titles and links, end with BEL or ESC \.
        b']' | b'P' | b'X' | b'^' | b'_' => {
            let end = text.iter().skip(2).position(|byte| matches!(byte, 0x07 | 0x1b))? + 2;
            match text[end] {
                0x07 => Some(end + 1),
                _ => (text.get(end + 1) == Some(&b'\\')).then_some(end + 2),
            }
        }
        _ => {
            let last = 1 + count(&text[1..], 0x20..=0x2f);
            matches!(text.get(last)?, 0x30..=0x7e).then_some(last + 1)
        }
    }
}

fn count(text: &[u8], range: std::ops::RangeInclusive<u8>) -> usize {
    text.iter().take_while(|byte| range.contains(byte)).count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case::plain("käse\n\ttab", "käse\n\ttab")]
    #[case::colour("\u{1b}[1;31mred\u{1b}[0m", "red")]
    #[case::title("\u{1b}]0;window\u{7}x", "x")]
    #[case::link("\u{1b}]8;;http://a\u{1b}\\x\u{1b}]8;;\u{1b}\\", "x")]
    #[case::character_set("\u{1b}(Bx", "x")]
    #[case::half_a_sequence("\u{1b}[1;", "#x1B[1;")]
    #[case::string_without_end("\u{1b}]0;x", "#x1B]0;x")]
    #[case::escape_at_the_end("x\u{1b}", "x#x1B")]
    #[case::sequence_before_wide_letter("\u{1b}ä", "#x1Bä")]
    #[case::controls("a\0b\u{7}c\u{7f}d\u{9b}", "a#x00b#x07c#x7Fd#x9B")]
    #[case::not_characters("\u{fffe}\u{ffff}", "#xFFFE#xFFFF")]
    #[case::line_ends("a\r\nb\rc", "a\nb\nc")]
    fn is_shown_not_obeyed(#[case] raw: &str, #[case] expected: &str) {
        assert_eq!(text(raw), expected);
    }

    #[test]
    fn broken_encoding_is_shown() {
        assert_eq!(bytes(b"a\xff\xfeb"), "a\u{fffd}\u{fffd}b");
    }

    #[rstest]
    #[case("a\nb\t\tc\r\n", "a b c")]
    #[case("  a  b ", "a  b")]
    #[case("\n", "")]
    fn one_line(#[case] raw: &str, #[case] expected: &str) {
        assert_eq!(line(raw), expected);
    }

    #[test]
    fn message_is_cut_by_characters() {
        assert_eq!(message("ääää", 4), "ääää");
        assert_eq!(message("äääää", 4), "äää…");
    }

    #[test]
    fn long_text_keeps_both_ends() {
        let caps = Caps { head: 4, tail: 3 };
        assert_eq!(capped("1234567".into(), caps), "1234567");
        assert_eq!(capped("12345678".into(), caps), "1234\n… 1 bytes cut\n678");
        // `ä` takes two bytes: a cut through one leaves it out.
        assert_eq!(capped("123äxxxäbc".into(), caps), "123\n… 7 bytes cut\nbc");
    }

    proptest! {
        #[test]
        fn nothing_forbidden_is_left_and_twice_is_once(raw in any::<Vec<u8>>()) {
            let once = bytes(&raw);
            let forbidden = |c: char| (c.is_control() && !matches!(c, '\n' | '\t')) || matches!(c, '\u{fffe}' | '\u{ffff}');
            prop_assert!(!once.contains(forbidden), "{once:?}");
            prop_assert_eq!(text(&once), once);
        }

        #[test]
        fn text_without_controls_is_not_touched(raw in "[^\\p{Cc}\u{fffe}\u{ffff}]*") {
            prop_assert_eq!(text(&raw), raw);
        }
    }
}
