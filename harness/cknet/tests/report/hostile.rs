//! Anything at all may stand in a text: the report stays well-formed and keeps its rules.

use std::hash::{DefaultHasher, Hash, Hasher};

use cknet::event::Event;
use proptest::prelude::*;
use serde_json::Value;

use crate::junit::{GRANULARITIES, PROFILES, render};
use crate::{rules, stream};

/// Keys whose values are not free text.
const FIXED: [&str; 9] = ["at", "event", "run", "fidelity", "severity", "of", "cause", "interrupted", "is"];

/// The stream with something behind every text; equal texts stay equal, so that cases still find their scenario.
fn noisy(noise: &[String]) -> Vec<Event> {
    let events = stream::whole().into_iter().map(|event| {
        let mut value = serde_json::to_value(event).unwrap();
        add_noise(&mut value, noise);
        serde_json::from_value(value).unwrap()
    });
    events.collect()
}

fn add_noise(value: &mut Value, noise: &[String]) {
    match value {
        Value::String(text) if !text.starts_with("infra.") => {
            let mut hasher = DefaultHasher::new();
            text.hash(&mut hasher);
            let place = usize::try_from(hasher.finish() % noise.len() as u64).unwrap();
            text.push_str(&noise[place]);
        }
        Value::Array(values) => values.iter_mut().for_each(|value| add_noise(value, noise)),
        Value::Object(entries) => {
            let free = entries.iter_mut().filter(|(key, _)| !FIXED.contains(&key.as_str()));
            free.for_each(|(_, value)| add_noise(value, noise));
        }
        _ => {}
    }
}

fn text() -> impl Strategy<Value = String> {
    let bytes = any::<Vec<u8>>().prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let nasty = prop::sample::select(vec![
        "]]>",
        "<![CDATA[",
        "</failure>",
        "&#0;",
        "&amp",
        "\u{1b}[31m",
        "\u{1b}",
        "\u{fffe}",
        "\u{ffff}",
        "\u{0}",
        "\r\n",
        "\t",
        "\"'",
        "-->",
        "<?",
        "\u{feff}",
        "\u{2028}",
    ]);
    let chars = any::<String>();
    prop_oneof![bytes, chars, prop::collection::vec(nasty, 1..6).prop_map(|parts| parts.concat())]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn any_text_gives_a_sound_report(
        noise in prop::collection::vec(text(), 1..8),
        profile in prop::sample::select(PROFILES.to_vec()),
        granularity in prop::sample::select(GRANULARITIES.to_vec()),
    ) {
        let xml = render(&noisy(&noise), |options| {
            options.profile = profile;
            options.granularity = granularity;
        });
        rules::check(&xml, profile);
    }
}

#[test]
fn a_text_comes_back_as_it_was_shown() {
    let xml = render(&noisy(&["<\t&]]>\"\u{1b}[1mé\u{ffff}".into()]), |_| {});
    let document = roxmltree::Document::parse(&xml).unwrap();
    let output = document.descendants().find(|node| node.has_tag_name("system-out")).unwrap().text().unwrap();
    assert!(output.ends_with("nft:\tudp dport 4789 drop#x00<\t&]]>\"é#xFFFF"), "{output}");
}
