//! The event stream as a file.

use std::path::Path;

use cknet::event::Event;
use cknet::report::{Ndjson, Reporter};

use crate::stream;

#[test]
fn every_event_comes_back_from_its_line() {
    let events = stream::whole();
    let mut lines = Vec::new();
    let mut reporter = Ndjson::new(&mut lines, Path::new("events.ndjson"));
    for event in &events {
        reporter.event(event).unwrap();
    }
    let text = String::from_utf8(lines).unwrap();
    let back: Vec<Event> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(back, events);
}
