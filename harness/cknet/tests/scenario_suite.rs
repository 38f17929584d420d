//! The suite in `scenarios/` is sound, and the committed schema is that of the types.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use cknet::scenario::{Filter, Fixtures, Profile, Roots, locate, read_suite, schema};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned()
}

fn fixtures(profile: &str) -> Fixtures {
    let profile = Profile::embedded(profile).unwrap().unwrap();
    Fixtures::open(&repository().join("fixtures"), profile)
        .unwrap_or_else(|wrong| panic!("{wrong}"))
}

#[test]
fn the_suite_is_sound() {
    let roots = Roots::find(None, &repository()).unwrap();
    let found = locate(&roots, &Filter::default()).unwrap();
    let scenarios =
        read_suite(&found, &fixtures("reference")).unwrap_or_else(|wrong| panic!("{wrong}"));
    let ids: Vec<&str> = scenarios
        .iter()
        .map(|scenario| scenario.id().as_str())
        .collect();
    for id in [
        "cidr.custom-cidrs",
        "cidr.default-cidrs",
        "firewall.vxlan-port-blocked",
        "interfaces.overlay-on-second-nic",
        "policy.deny-all-ingress",
    ] {
        assert!(ids.contains(&id), "{id} is missing: {ids:?}");
    }
}

/// `UPDATE_SCHEMA=1` writes the file instead.
#[test]
fn the_committed_schema_is_current() {
    let path = repository().join("fixtures/scenario.schema.json");
    let current = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &current).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == current,
        "fixtures/scenario.schema.json is not that of the types; write it with UPDATE_SCHEMA=1"
    );
}
