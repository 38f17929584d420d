//! Owns the XML: elements, attributes and their order, in one level of suites. All text is cleaned here, so that
//! none can be forgotten.
//!
//! quick-junit is not used to write, since it drops tabs, always puts `skipped` on the root, which strict readers
//! refuse, and prints a fraction and an offset in timestamps, on which some choke.

use std::fmt::Write as _;

use jiff::{Timestamp, tz::TimeZone};
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};

use super::Profile;
use super::document::{Document, Numbers, Suite};
use super::testcase::{Rerun, TestCase, Trouble, Verdict};
use crate::report::clean::{self, Caps};

/// Readers show the message on one line.
const LONGEST_MESSAGE: usize = 200;
/// Paths, addresses and the like.
const LONGEST_ATTRIBUTE: usize = 2_000;

/// The document as a file of the given profile, with long texts cut to `caps`.
pub fn xml(document: &Document, profile: Profile, caps: Caps) -> String {
    let mut xml = Xml { writer: Writer::new_with_indent(Vec::new(), b' ', 2), caps };
    xml.event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)));
    xml.root(document, profile);
    let mut bytes = xml.writer.into_inner();
    bytes.push(b'\n');
    // Only strings went in.
    String::from_utf8_lossy(&bytes).into_owned()
}

struct Xml {
    writer: Writer<Vec<u8>>,
    caps: Caps,
}

type Attributes = Vec<(&'static str, String)>;

impl Xml {
    fn root(&mut self, document: &Document, profile: Profile) {
        let numbers = Numbers::of(document.suites.iter().flat_map(|suite| &suite.cases));
        let mut attributes = vec![("name", "cknet".to_owned())];
        attributes.extend(counts(numbers));
        // junit-10.xsd has neither on the root.
        if profile != Profile::Xunit10 {
            attributes.push(("skipped", numbers.skipped.to_string()));
            attributes.push(("timestamp", timestamp(document.timestamp)));
        }
        attributes.push(("time", seconds(document.time_ms)));
        self.open("testsuites", attributes);
        for suite in &document.suites {
            self.suite(suite, profile);
        }
        self.close("testsuites");
    }

    fn suite(&mut self, suite: &Suite, profile: Profile) {
        let numbers = Numbers::of(&suite.cases);
        let mut attributes = vec![("name", suite.name.clone())];
        attributes.extend(counts(numbers));
        attributes.push(("skipped", numbers.skipped.to_string()));
        attributes.push(("timestamp", timestamp(suite.timestamp)));
        attributes.push(("time", seconds(suite.time_ms)));
        attributes.push(("hostname", suite.hostname.clone()));
        attributes.extend(suite.file.iter().map(|file| ("file", file.clone())));
        self.open("testsuite", attributes);
        let properties = suite.properties.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        self.properties(properties.collect());
        for case in &suite.cases {
            self.case(&suite.classname, case, profile);
        }
        self.close("testsuite");
    }

    fn case(&mut self, classname: &str, case: &TestCase, profile: Profile) {
        let mut attributes =
            vec![("name", case.name.clone()), ("classname", classname.to_owned()), ("time", seconds(case.time_ms))];
        if profile == Profile::Rich {
            attributes.push(("assertions", case.assertions.to_string()));
        }
        if let (Some((file, line)), true) = (&case.location, profile != Profile::Xunit10) {
            attributes.push(("file", file.clone()));
            attributes.push(("line", line.to_string()));
        }
        self.open("testcase", attributes);
        if profile != Profile::Xunit10 {
            self.properties(case.properties.iter().map(|(name, value)| (*name, value.as_str())).collect());
        }
        self.verdict(&case.verdict);
        self.reruns(case);
        self.output(case, profile);
        self.close("testcase");
    }

    fn properties(&mut self, properties: Vec<(&str, &str)>) {
        if properties.is_empty() {
            return;
        }
        self.open("properties", Vec::new());
        for (name, value) in properties {
            let tag = start("property", vec![("name", name.to_owned()), ("value", value.to_owned())]);
            self.event(Event::Empty(tag));
        }
        self.close("properties");
    }

    fn verdict(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Passed => {}
            Verdict::Skipped { kind, message } => {
                let mut attributes = Attributes::new();
                attributes.extend(kind.map(|kind| ("type", kind.to_owned())));
                attributes.push(("message", message.clone()));
                self.event(Event::Empty(start("skipped", attributes)));
            }
            Verdict::Failure(trouble) => self.trouble("failure", trouble),
            Verdict::Error(trouble) => self.trouble("error", trouble),
        }
    }

    fn trouble(&mut self, tag: &'static str, trouble: &Trouble) {
        self.text(tag, trouble_attributes(trouble), &trouble.text);
    }

    /// The Surefire schema wants failures before errors, and knows reruns only beside a failure or a pass.
    fn reruns(&mut self, case: &TestCase) {
        let (of_failure, of_error) = match case.verdict {
            Verdict::Passed => ("flakyFailure", "flakyError"),
            Verdict::Failure(_) => ("rerunFailure", "rerunError"),
            Verdict::Error(_) | Verdict::Skipped { .. } => return,
        };
        let (failures, errors): (Vec<&Rerun>, Vec<&Rerun>) = case.reruns.iter().partition(|rerun| rerun.refuted);
        for (tag, reruns) in [(of_failure, failures), (of_error, errors)] {
            for rerun in reruns {
                self.open(tag, trouble_attributes(&rerun.trouble));
                self.text("stackTrace", Vec::new(), &rerun.trouble.text);
                self.close(tag);
            }
        }
    }

    fn output(&mut self, case: &TestCase, profile: Profile) {
        let quiet: &[String] = if profile == Profile::Rich { &case.quiet_output } else { &[] };
        let printed: Vec<&str> = case.output.iter().chain(quiet).map(String::as_str).collect();
        if !printed.is_empty() {
            self.text("system-out", Vec::new(), &printed.join("\n"));
        }
    }

    fn text(&mut self, tag: &'static str, attributes: Attributes, text: &str) {
        let clean = clean::capped(clean::text(text), self.caps);
        if clean.is_empty() {
            return self.event(Event::Empty(start(tag, attributes)));
        }
        self.open(tag, attributes);
        self.event(Event::Text(BytesText::new(&clean)));
        self.close(tag);
    }

    fn open(&mut self, tag: &'static str, attributes: Attributes) {
        self.event(Event::Start(start(tag, attributes)));
    }

    fn close(&mut self, tag: &'static str) {
        self.event(Event::End(BytesEnd::new(tag)));
    }

    fn event(&mut self, event: Event<'_>) {
        // A vector takes whatever it is given.
        let written = self.writer.write_event(event);
        debug_assert!(written.is_ok());
    }
}

fn start(tag: &'static str, attributes: Attributes) -> BytesStart<'static> {
    let mut start = BytesStart::new(tag);
    for (name, value) in attributes {
        let limit = if name == "message" { LONGEST_MESSAGE } else { LONGEST_ATTRIBUTE };
        start.push_attribute((name, clean::message(&value, limit).as_str()));
    }
    start
}

fn trouble_attributes(trouble: &Trouble) -> Attributes {
    vec![("type", trouble.kind.clone()), ("message", trouble.message.clone())]
}

fn counts(numbers: Numbers) -> Attributes {
    vec![
        ("tests", numbers.tests.to_string()),
        ("failures", numbers.failures.to_string()),
        ("errors", numbers.errors.to_string()),
    ]
}

/// Seconds with three decimals, never with an exponent.
fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// UTC, without a fraction and an offset.
fn timestamp(at: Timestamp) -> String {
    let utc = at.to_zoned(TimeZone::UTC);
    let mut text = String::new();
    let written = write!(text, "{}", utc.strftime("%Y-%m-%dT%H:%M:%S"));
    debug_assert!(written.is_ok());
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn times() {
        assert_eq!(seconds(0), "0.000");
        assert_eq!(seconds(61_005), "61.005");
        assert_eq!(seconds(u64::MAX), "18446744073709551.615");
        let at: Timestamp = "2026-07-02T20:02:11.987+02:00".parse().unwrap();
        assert_eq!(timestamp(at), "2026-07-02T18:02:11");
    }
}
