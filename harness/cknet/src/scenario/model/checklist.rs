//! Owns how an expectation names the points of a checklist that it covers.
//! Must not know what the points say.

use std::fmt;

use super::super::read::text;

/// A point of a checklist, `LIST/NUMBER`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point {
    /// File under `fixtures/checklists`, without `.md`.
    pub list: String,
    /// The number of the point in the list.
    pub number: u16,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.list, self.number)
    }
}

text!(Point, "Point", "a point of a checklist, like `netpol/12`",
pattern r"^[a-z][a-z0-9-]*/[1-9][0-9]*$",
parse |text: &str| {
    let wrong = || format!("`{text}` is not {}", Self::WANTED);
    let (list, number) = text.split_once('/').ok_or_else(wrong)?;
    let named = list.starts_with(|c: char| c.is_ascii_lowercase())
        && list.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    match number.parse() {
        Ok(number) if named && number > 0 => Ok(Self { list: list.to_owned(), number }),
        _ => Err(wrong()),
    }
});
