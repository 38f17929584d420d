//! Owns what is wrong with a file, and the one way in which that is printed.
//! Must not know how a problem is found.

use std::fmt;
use std::sync::Arc;

use super::source::{Position, Source, Span};

/// At most this many problems of one file are printed; the rest is counted.
const SHOWN_PER_FILE: usize = 20;
/// At most this many characters of a source line are printed.
const LINE_WIDTH: usize = 110;

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The offending text; `None` when the problem is the file as a whole.
    pub span: Option<Span>,
    /// What is wrong and what would be right: lower case, no full stop, names in backticks.
    pub message: String,
}

impl Problem {
    /// A problem with the text at `span`.
    #[must_use]
    pub fn at(span: Span, message: impl Into<String>) -> Self {
        Self { span: Some(span), message: message.into() }
    }

    /// A problem with the file as a whole.
    #[must_use]
    pub fn whole(message: impl Into<String>) -> Self {
        Self { span: None, message: message.into() }
    }
}

/// All problems of one file, in the order of the text.
#[derive(Debug, Clone)]
pub struct FileProblems {
    source: Arc<Source>,
    problems: Vec<Problem>,
}

impl FileProblems {
    /// Sorts the problems and removes those said twice.
    #[must_use]
    pub fn new(source: Arc<Source>, mut problems: Vec<Problem>) -> Self {
        problems.sort();
        problems.dedup();
        Self { source, problems }
    }

    /// The name of the file.
    #[must_use]
    pub fn file(&self) -> &str {
        self.source.name()
    }

    /// Each problem with its position, for a machine reader; a problem with the whole file is at 1:1.
    pub fn located(&self) -> impl Iterator<Item = (Position, &Problem)> {
        self.problems.iter().map(|problem| {
            let start = problem.span.map_or(0, |span| span.start);
            (self.source.position(start), problem)
        })
    }

    fn render(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        write!(f, "error: `{}` has {count} {noun}", self.file())?;
        for (position, problem) in self.located().take(SHOWN_PER_FILE) {
            match problem.span {
                None => write!(f, "\n  {}: {}", self.file(), told(&problem.message))?,
                Some(span) => self.render_at(f, position, span, &told(&problem.message))?,
            }
        }
        match count.checked_sub(SHOWN_PER_FILE) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, "\n  and {more} more"),
        }
    }

    /// The place, the source line, and the message behind the carets under the offending text.
    fn render_at(&self, f: &mut fmt::Formatter<'_>, position: Position, span: Span, message: &str) -> fmt::Result {
        let whole = self.source.line(position.line);
        let (line, column) = window(whole, position.column);
        let left = line.chars().count().saturating_sub(column - 1);
        let text = self.source.text();
        let wanted = text
            .get(span.start..span.end.min(text.len()))
            .map_or(1, |offending| offending.chars().take_while(|c| *c != '\n').count());
        let carets = "^".repeat(wanted.clamp(1, left.max(1)));
        let number = position.line.to_string();
        let gutter = " ".repeat(number.len());
        let indent = " ".repeat(column - 1);
        write!(f, "\n  {}:{position}", self.file())?;
        write!(f, "\n{number} │ {}", line.trim_end())?;
        write!(f, "\n{gutter} │ {indent}{carets} {message}")
    }
}

/// The character, or a space for one that would act on the terminal: control characters, and those that change the
/// direction of what follows or show nothing (Unicode's bidirectional controls and zero-width characters).
fn harmless(c: char) -> char {
    let hidden = matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    if hidden || c.is_control() && c != '\n' { ' ' } else { c }
}

/// A message may quote what stands in the file.
fn told(message: &str) -> String {
    message.chars().map(harmless).collect()
}

/// The part of a long line around `column`, with tabs and control characters made harmless,
/// and the column in that part.
fn window(line: &str, column: usize) -> (String, usize) {
    let length = line.chars().count();
    if length <= LINE_WIDTH {
        return (line.chars().map(harmless).collect(), column);
    }
    let skip = column.saturating_sub(LINE_WIDTH / 2).min(length - LINE_WIDTH);
    let before = if skip > 0 { "…" } else { "" };
    let after = if skip + LINE_WIDTH < length { "…" } else { "" };
    let part: String = line.chars().skip(skip).take(LINE_WIDTH).map(harmless).collect();
    let shift = before.chars().count();
    (format!("{before}{part}{after}"), column - skip + shift)
}

/// Everything that is wrong with the files that were read; never empty when it is an error.
#[derive(Debug, Clone, Default)]
pub struct Problems {
    files: Vec<FileProblems>,
}

impl Problems {
    /// The problems of one file.
    #[must_use]
    pub fn of(source: Arc<Source>, problems: Vec<Problem>) -> Self {
        let mut all = Self::default();
        all.add(source, problems);
        all
    }

    /// Adds the problems of one file; nothing if there are none.
    pub fn add(&mut self, source: Arc<Source>, problems: Vec<Problem>) {
        if !problems.is_empty() {
            self.files.push(FileProblems::new(source, problems));
        }
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: Self) {
        self.files.extend(other.files);
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The files that have problems, in the order in which they were read.
    #[must_use]
    pub fn files(&self) -> &[FileProblems] {
        &self.files
    }

    /// How many problems there are in all files.
    #[must_use]
    pub fn count(&self) -> usize {
        self.files.iter().map(|file| file.problems.len()).sum()
    }

    /// `value` if nothing is wrong, the problems otherwise.
    pub(super) fn or<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, file) in self.files.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            file.render(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(text: &str, offending: &str, message: &str) -> String {
        let start = text.find(offending).unwrap_or_default();
        let span = Span::new(start, start + offending.len());
        let source = Arc::new(Source::new("a.yaml", text));
        Problems::of(source, vec![Problem::at(span, message)]).to_string()
    }

    #[test]
    fn carets_stand_under_the_offending_text() {
        let text = "x: 1\n  to: wéb-backend\n";
        assert_eq!(
            printed(text, "wéb-backend", "no workload has this name"),
            "error: `a.yaml` has 1 problem\n  a.yaml:2:7\n2 │   to: wéb-backend\n  │       ^^^^^^^^^^^ no workload has this name"
        );
    }

    #[test]
    fn long_lines_are_cut_around_the_problem() {
        let text = format!("{} here {}", "a".repeat(500), "b".repeat(500));
        let printed = printed(&text, "here", "this");
        let lines: Vec<&str> = printed.lines().collect();
        assert!(lines[2].starts_with("1 │ …a"), "{printed}");
        let column = lines[3].chars().position(|c| c == '^').unwrap_or_default();
        let under: String = lines[2].chars().skip(column).take(4).collect();
        assert_eq!(under, "here");
    }

    #[test]
    fn nothing_that_acts_on_a_terminal_is_printed() {
        let text = "to: a\u{202e}b\u{1b}[31m";
        let printed = printed(text, "b", "no workload is called `b\u{7}\u{2066}`");
        assert!(printed.chars().all(|c| c == '\n' || c == harmless(c)), "{printed:?}");
        assert!(printed.contains("1 │ to: a b [31m\n  │       ^ no workload is called `b  `"), "{printed:?}");
    }

    #[test]
    fn many_problems_are_counted_not_printed() {
        let source = Arc::new(Source::new("a.yaml", "x".repeat(100)));
        let problems = (0..30).map(|i| Problem::at(Span::new(i, i + 1), "no")).collect();
        let printed = Problems::of(source, problems).to_string();
        assert!(printed.ends_with("and 10 more"), "{printed}");
    }
}
