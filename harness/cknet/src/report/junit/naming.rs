//! Owns the names in the report. They are the same from run to run, since readers compare runs by them, and no
//! two cases share one, since readers drop or merge cases that do.

use std::collections::{BTreeMap, HashSet};

use crate::report::clean;

/// Longer names are cut: the title of a GitHub check ends at 255.
const LONGEST: usize = 250;

/// ` [cni=cilium,channel=1.36]`, or nothing.
pub fn suffix(variant: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = variant.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if pairs.is_empty() { String::new() } else { format!(" [{}]", pairs.join(",")) }
}

/// The `classname` of a scenario's cases. Its dots make the tree that Jenkins shows.
pub fn classname(scenario: &str) -> String {
    clean::line(&format!("cknet.{scenario}"))
}

/// Hands out each name once.
#[derive(Debug, Default)]
pub struct Names {
    taken: HashSet<(String, String)>,
}

impl Names {
    /// `name`, or `name (2)` and so on where the class has it already. The plan is in a fixed order, so the
    /// numbers are the same in every run.
    pub fn unique(&mut self, classname: &str, name: &str) -> String {
        let name = clean::message(name, LONGEST);
        let mut candidate = name.clone();
        let mut number = 1;
        while !self.taken.insert((classname.to_owned(), candidate.clone())) {
            number += 1;
            candidate = format!("{name} ({number})");
        }
        candidate
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_name_is_given_once_in_a_class() {
        let mut names = Names::default();
        let given: Vec<_> = ["x", "x", "x\n", "y"].iter().map(|name| names.unique("a", name)).collect();
        assert_eq!(given, ["x", "x (2)", "x (3)", "y"]);
        assert_eq!(names.unique("b", "x"), "x");
    }

    #[test]
    fn cut_names_still_differ() {
        let mut names = Names::default();
        let long = "x".repeat(300);
        assert_ne!(names.unique("a", &long), names.unique("a", &format!("{long}y")));
    }

    #[test]
    fn suffix_lists_what_tells_runs_apart() {
        assert_eq!(suffix(&BTreeMap::new()), "");
        let variant = [("cni", "cilium"), ("channel", "1.36")];
        let variant = variant.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        assert_eq!(suffix(&variant), " [channel=1.36,cni=cilium]");
    }
}
