//! One line of a container's log as the container runtime interface writes it:
//! `<RFC 3339 time with nanoseconds> <stdout|stderr> <F|P> <text>`, where `P` marks a part of a longer line. Pure.

use jiff::Timestamp;

/// Longer lines are written in parts of this size, in bytes, as container runtimes do.
pub const LONGEST_LINE: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Cuts the bytes of one stream into lines.
#[derive(Debug)]
pub struct Lines {
    stream: Stream,
    pending: Vec<u8>,
}

impl Lines {
    pub fn new(stream: Stream) -> Self {
        Self { stream, pending: Vec::new() }
    }

    /// The lines that `bytes` complete, formatted.
    pub fn push(&mut self, bytes: &[u8], now: Timestamp) -> Vec<u8> {
        let mut formatted = Vec::with_capacity(bytes.len() + 64);
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = LONGEST_LINE - self.pending.len();
            let reach = rest.len().min(room);
            if let Some(end) = rest[..reach].iter().position(|byte| *byte == b'\n') {
                self.pending.extend_from_slice(&rest[..end]);
                self.emit(&mut formatted, now, 'F');
                rest = &rest[end + 1..];
                continue;
            }
            self.pending.extend_from_slice(&rest[..reach]);
            rest = &rest[reach..];
            if self.pending.len() == LONGEST_LINE && rest.first() != Some(&b'\n') {
                self.emit(&mut formatted, now, 'P');
            } else if self.pending.len() == LONGEST_LINE {
                self.emit(&mut formatted, now, 'F');
                rest = &rest[1..];
            }
        }
        formatted
    }

    /// What was written after the last line end.
    pub fn finish(&mut self, now: Timestamp) -> Vec<u8> {
        let mut formatted = Vec::new();
        if !self.pending.is_empty() {
            self.emit(&mut formatted, now, 'P');
        }
        formatted
    }

    fn emit(&mut self, formatted: &mut Vec<u8>, now: Timestamp, tag: char) {
        let stamp = now.strftime("%Y-%m-%dT%H:%M:%S.%9fZ");
        formatted.extend_from_slice(format!("{stamp} {} {tag} ", self.stream.name()).as_bytes());
        formatted.append(&mut self.pending);
        formatted.push(b'\n');
    }
}

/// A line that was read back.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub stamp: &'a str,
    pub stream: Stream,
    /// Whether a line end belongs after the text.
    pub complete: bool,
    pub text: &'a [u8],
}

impl Entry<'_> {
    /// When it was written; `None` when the stamp is no time.
    pub fn time(&self) -> Option<Timestamp> {
        self.stamp.parse().ok()
    }
}

/// Reads a line without its line end; `None` when it is not in the format.
pub fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let stamp = std::str::from_utf8(parts.next()?).ok()?;
    let stream = match parts.next()? {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let complete = match parts.next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    Some(Entry { stamp, stream, complete, text: parts.next()? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn now() -> Timestamp {
        Timestamp::new(1_800_000_000, 123_000_000).unwrap()
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn lines_are_stamped_once_they_are_complete() {
        let mut lines = Lines::new(Stream::Stdout);
        assert_eq!(text(lines.push(b"listening", now())), "");
        let two = "2027-01-15T08:00:00.123000000Z stdout F listening on 80\n2027-01-15T08:00:00.123000000Z stdout F \n";
        assert_eq!(text(lines.push(b" on 80\n\nrest", now())), two);
        assert_eq!(text(lines.finish(now())), "2027-01-15T08:00:00.123000000Z stdout P rest\n");
        assert_eq!(text(lines.finish(now())), "");
    }

    #[test]
    fn a_long_line_comes_in_parts_and_is_whole_again_when_read() {
        let mut lines = Lines::new(Stream::Stderr);
        let mut written = vec![b'x'; LONGEST_LINE * 2 + 10];
        written.push(b'\n');
        let formatted = lines.push(&written, now());
        let mut read = Vec::new();
        let tags: Vec<bool> = formatted
            .split(|byte| *byte == b'\n')
            .filter_map(parse)
            .map(|entry| {
                read.extend_from_slice(entry.text);
                entry.complete
            })
            .collect();
        assert_eq!(tags, [false, false, true]);
        assert_eq!(read, written[..written.len() - 1]);
    }

    #[test]
    fn a_line_of_exactly_the_longest_size_is_one_line() {
        let mut lines = Lines::new(Stream::Stdout);
        let mut written = vec![b'x'; LONGEST_LINE];
        written.push(b'\n');
        let formatted = lines.push(&written, now());
        assert_eq!(formatted.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert!(parse(formatted.strip_suffix(b"\n").unwrap()).unwrap().complete);
    }

    #[test]
    fn what_is_not_in_the_format_is_not_read() {
        let entry = parse(b"2027-01-15T08:00:00.5Z stderr F a b").unwrap();
        assert_eq!((entry.stream, entry.text), (Stream::Stderr, &b"a b"[..]));
        assert_eq!(entry.time(), Some(Timestamp::new(1_800_000_000, 500_000_000).unwrap()));
        for wrong in [&b"text"[..], b"t stdout X a", b"t stdin F a", b""] {
            assert_eq!(parse(wrong), None);
        }
    }
}
