//! The report against schemas, by `xmllint`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cknet::report::junit::Profile;
use tempfile::TempDir;

use crate::junit::{GRANULARITIES, render};
use crate::stream;

fn own_schema() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/xsd/junit-core.xsd")
}

fn validate(xml: &str, schema: &Path) -> Result<(), String> {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("report.xml");
    fs::write(&file, xml).unwrap();
    let output = Command::new("xmllint")
        .args(["--nonet", "--noout", "--schema"])
        .args([schema, &file])
        .output()
        .expect("`xmllint` must be there (Debian: libxml2-utils)");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn strict_reports() -> Vec<String> {
    let mut reports = Vec::new();
    for events in [stream::whole(), stream::killed(), stream::whole()[..1].to_vec()] {
        for granularity in GRANULARITIES {
            reports.push(render(&events, |options| {
                options.profile = Profile::Xunit10;
                options.granularity = granularity;
            }));
        }
    }
    reports
}

#[test]
#[ignore = "needs xmllint (Debian: libxml2-utils)"]
fn strict_profile_keeps_our_schema() {
    for xml in strict_reports() {
        validate(&xml, &own_schema()).unwrap();
    }
    let portable = render(&stream::whole(), |_| {});
    assert!(validate(&portable, &own_schema()).is_err(), "the schema must refuse what the profile leaves out");
}

#[test]
#[ignore = "needs xmllint, and CKNET_XSD_DIR with junit-10.xsd and surefire-test-report.xsd; see fixtures/xsd"]
fn strict_profile_keeps_the_readers_schemas() {
    let folder = std::env::var_os("CKNET_XSD_DIR").expect("`CKNET_XSD_DIR` must name the folder with the schemas");
    let folder = PathBuf::from(folder);
    for xml in strict_reports() {
        validate(&xml, &folder.join("junit-10.xsd")).unwrap();
        for suite in suites(&xml) {
            validate(&suite, &folder.join("surefire-test-report.xsd")).unwrap();
        }
    }
}

/// Each suite as a document of its own, without what Surefire's schema does not know.
fn suites(xml: &str) -> Vec<String> {
    let mut suites: Vec<String> = Vec::new();
    for line in xml.lines().skip(2).filter(|line| !line.starts_with("</testsuites>")) {
        let mut line = line.to_owned();
        if line.starts_with("  <testsuite ") {
            suites.push(String::new());
            ["hostname", "timestamp", "file"].into_iter().for_each(|name| drop_attribute(&mut line, name));
        } else if line.trim_start().starts_with("<skipped ") {
            drop_attribute(&mut line, "type");
        }
        let suite = suites.last_mut().unwrap();
        suite.push_str(&line);
        suite.push('\n');
    }
    suites
}

fn drop_attribute(line: &mut String, name: &str) {
    let begin = format!(" {name}=\"");
    if let Some(start) = line.find(&begin) {
        let value = start + begin.len();
        let end = value + line[value..].find('"').unwrap() + 1;
        line.replace_range(start..end, "");
    }
}
