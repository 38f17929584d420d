//! The rules that every JUnit report keeps, checked by a walk over the document with a parser of its own.

use std::collections::HashSet;

use cknet::report::junit::Profile;
use roxmltree::{Document, Node};

/// Panics with the rule that the report breaks.
pub fn check(xml: &str, profile: Profile) {
    let document = Document::parse(xml).unwrap_or_else(|error| panic!("not well-formed: {error}\n{xml}"));
    let root = document.root_element();
    assert_eq!(root.tag_name().name(), "testsuites");
    let strict = profile == Profile::Xunit10;
    let root_only: &[&str] = if strict { &[] } else { &["skipped", "timestamp"] };
    attributes(root, &[&["name", "tests", "failures", "errors", "time"], root_only].concat(), &[]);
    counts(root, strict);
    let mut names = HashSet::new();
    for suite in children(root) {
        check_suite(suite, profile);
        for case in children(suite).filter(|node| node.has_tag_name("testcase")) {
            let name = (case.attribute("classname").unwrap(), case.attribute("name").unwrap());
            assert!(names.insert(name), "two cases are named {name:?}");
        }
    }
    for node in root.descendants() {
        for attribute in node.attributes() {
            assert!(!attribute.value().contains(['\n', '\t', '\r', '\u{1b}']), "{attribute:?}");
        }
    }
}

fn check_suite(suite: Node<'_, '_>, profile: Profile) {
    assert_eq!(suite.tag_name().name(), "testsuite", "one level of suites");
    let always = ["name", "tests", "failures", "errors", "skipped", "timestamp", "time", "hostname"];
    attributes(suite, &always, &["file"]);
    counts(suite, false);
    let timestamp = suite.attribute("timestamp").unwrap();
    assert!(timestamp.len() == 19 && timestamp.parse::<jiff::civil::DateTime>().is_ok(), "{timestamp}");
    let mut children = children(suite);
    check_properties(children.next().unwrap());
    let cases: Vec<_> = children.collect();
    assert!(!cases.is_empty(), "a suite without cases is not recorded");
    for case in cases {
        check_case(case, profile);
    }
}

fn check_properties(properties: Node<'_, '_>) {
    assert_eq!(properties.tag_name().name(), "properties");
    assert!(children(properties).count() > 0);
    for property in children(properties) {
        assert_eq!(property.tag_name().name(), "property");
        attributes(property, &["name", "value"], &[]);
    }
}

fn check_case(case: Node<'_, '_>, profile: Profile) {
    assert_eq!(case.tag_name().name(), "testcase");
    let optional: &[&str] = match profile {
        Profile::Xunit10 => &[],
        Profile::Portable => &["file", "line"],
        Profile::Rich => &["file", "line", "assertions"],
    };
    attributes(case, &["name", "classname", "time"], optional);
    assert_eq!(case.has_attribute("file"), case.has_attribute("line"), "readers need both or neither");
    seconds(case);
    let tags: Vec<&str> = children(case).map(|child| child.tag_name().name()).collect();
    order(&tags);
    for child in children(case) {
        match child.tag_name().name() {
            "properties" => {
                assert_ne!(profile, Profile::Xunit10, "junit-10.xsd has no properties on cases");
                check_properties(child);
            }
            "skipped" => attributes(child, &["message"], &["type"]),
            "failure" | "error" => attributes(child, &["type", "message"], &[]),
            "system-out" => assert!(!child.text().unwrap().is_empty()),
            _ => {
                attributes(child, &["type", "message"], &[]);
                let inside: Vec<&str> = children(child).map(|node| node.tag_name().name()).collect();
                assert_eq!(inside, ["stackTrace"]);
            }
        }
        let message = child.attribute("message").unwrap_or_default();
        assert!(message.chars().count() <= 200, "{message}");
        // A reader shows an annotation for 65 535 bytes at most; what was cut says so in a line more.
        let longest = child.descendants().filter_map(|node| node.text()).map(str::len).max();
        assert!(longest.unwrap_or(0) <= (64 << 10) + 100);
    }
}

/// The order that Surefire's schema demands, and never two verdicts.
fn order(tags: &[&str]) {
    const ORDER: [&str; 9] = [
        "properties",
        "failure",
        "rerunFailure",
        "flakyFailure",
        "skipped",
        "error",
        "rerunError",
        "flakyError",
        "system-out",
    ];
    let places: Vec<usize> = tags
        .iter()
        .map(|tag| ORDER.iter().position(|known| known == tag).unwrap_or_else(|| panic!("<{tag}> in a case")))
        .collect();
    assert!(places.is_sorted(), "{tags:?}");
    let verdicts = tags.iter().filter(|tag| matches!(**tag, "failure" | "error" | "skipped")).count();
    assert!(verdicts <= 1, "{tags:?}");
    let once = |tag: &str| tags.iter().filter(|other| **other == tag).count() <= 1;
    assert!(once("properties") && once("system-out"), "{tags:?}");
    let flaky = tags.iter().any(|tag| tag.starts_with("flaky"));
    let rerun = tags.iter().any(|tag| tag.starts_with("rerun"));
    assert!(!(flaky && verdicts > 0), "flaky means that it passed: {tags:?}");
    assert!(!rerun || tags.contains(&"failure"), "rerun means that it failed: {tags:?}");
}

/// What is counted on an element is what is in it.
fn counts(node: Node<'_, '_>, without_skipped: bool) {
    let cases: Vec<_> = node.descendants().filter(|node| node.has_tag_name("testcase")).collect();
    let with = |tag: &str| {
        let has = |case: &&Node<'_, '_>| case.children().any(|child| child.has_tag_name(tag));
        cases.iter().filter(has).count()
    };
    let number = |name: &str| node.attribute(name).unwrap().parse::<usize>().unwrap();
    assert_eq!(number("tests"), cases.len());
    assert_eq!(number("failures"), with("failure"));
    assert_eq!(number("errors"), with("error"));
    if !without_skipped {
        assert_eq!(number("skipped"), with("skipped"));
    }
    seconds(node);
}

fn seconds(node: Node<'_, '_>) {
    let time = node.attribute("time").unwrap();
    let (whole, part) = time.split_once('.').unwrap();
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    assert!(!whole.is_empty() && part.len() == 3 && digits(whole) && digits(part), "{time}");
}

fn attributes(node: Node<'_, '_>, required: &[&str], optional: &[&str]) {
    for name in required {
        assert!(node.has_attribute(*name), "<{}> lacks `{name}`", node.tag_name().name());
    }
    for attribute in node.attributes() {
        let known = required.contains(&attribute.name()) || optional.contains(&attribute.name());
        assert!(known, "<{}> has `{}`", node.tag_name().name(), attribute.name());
    }
}

fn children<'a, 'input>(node: Node<'a, 'input>) -> impl Iterator<Item = Node<'a, 'input>> {
    node.children().filter(Node::is_element)
}

mod tests {
    use super::*;

    const SOUND: &str = r#"<testsuites name="cknet" tests="1" failures="1" errors="0" time="1.000">
<testsuite name="s" tests="1" failures="1" errors="0" skipped="0" timestamp="2026-07-02T18:02:11" time="1.000" hostname="h">
<properties><property name="a" value="b"/></properties>
<testcase name="n" classname="c" time="1.000"><failure type="t" message="m"/></testcase>
</testsuite></testsuites>"#;

    /// Each rule finds the fault that it is there for.
    #[test]
    fn faults_are_found() {
        check(SOUND, Profile::Xunit10);
        let suite = SOUND.lines().skip(1).take(3).collect::<Vec<_>>().join("\n");
        let faults = [
            (r#"tests="1" failures="1" errors="0" time"#, r#"tests="2" failures="1" errors="0" time"#),
            (r#"skipped="0""#, r#"skipped="1""#),
            (r#" hostname="h""#, ""),
            (r#" hostname="h""#, r#" hostname="h" id="1""#),
            ("2026-07-02T18:02:11", "2026-07-02T18:02:11Z"),
            (r#"classname="c" time="1.000""#, r#"classname="c" time="1e3""#),
            (r#"classname="c""#, r#"classname="c" line="3""#),
            (r#"message="m""#, "message=\"a&#10;b\""),
            (r#"<failure type="t" message="m"/>"#, r#"<failure type="t" message="m"/><skipped message="m"/>"#),
            (r#"<failure type="t" message="m"/>"#, r#"<system-out>x</system-out><failure type="t" message="m"/>"#),
            (r#" value="b""#, ""),
            (suite.as_str(), &format!("<testsuite>{suite}</testsuite></testsuite>")),
        ];
        for (sound, fault) in faults {
            let faulty = SOUND.replacen(sound, fault, 1);
            assert_ne!(faulty, SOUND, "{sound}");
            let found = std::panic::catch_unwind(|| check(&faulty, Profile::Xunit10));
            assert!(found.is_err(), "not found: {fault}");
        }
    }
}
