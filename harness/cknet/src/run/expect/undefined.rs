//! Expectations about what no specification says: demanded of the CNI whose way the scenario file tells, and noted of
//! any other. Must not know what was looked at.

use crate::event::{Detail, Outcome};

/// Where no specification says what happens, what another CNI does differently is noted and no failure. Of a CNI that
/// goes the way that the scenario file tells, it is demanded.
pub fn judged(ways_of: Option<&str>, outcome: Outcome, detail: &mut Detail) -> Outcome {
    let told = match (&outcome, ways_of) {
        (Outcome::Pass, _) => detail.note.take().unwrap_or_default(),
        (Outcome::Fail { failure, .. }, None) => {
            let seen = failure.observed.seen.first().map_or("something else", |seen| seen.is.as_str());
            format!("not as Calico does it: {seen}")
        }
        _ => return outcome,
    };
    detail.note = Some(format!("undefined by the specification; here: {told}"));
    Outcome::Pass
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Expected, Failure, Observed, Seen, Window};

    fn failed() -> Outcome {
        let window = Window { within_ms: None, for_ms: None };
        let seen = vec![Seen { is: "allowed".into(), times: 3 }];
        let failure = Failure {
            kind: "connectivity.allowed".into(),
            expected: Expected::State { subject: "flows".into(), is: "as the table says".into(), window },
            observed: Observed { seen, over_ms: 1, last_ago_ms: None, controls: Vec::new() },
            lost_at: None,
            cause: None,
            advice: None,
            rules: Vec::new(),
            matrix: None,
            again: None,
            shell: None,
            evidence: Vec::new(),
        };
        Outcome::Fail { failure: Box::new(failure), earlier: Vec::new() }
    }

    #[test]
    fn what_nobody_specifies_is_noted_of_strangers_and_demanded_of_calico() {
        let mut detail = Detail::default();
        assert!(matches!(judged(None, failed(), &mut detail), Outcome::Pass));
        let note = detail.note.clone().unwrap_or_default();
        assert_eq!(note, "undefined by the specification; here: not as Calico does it: allowed");
        assert!(matches!(judged(Some("calico"), failed(), &mut Detail::default()), Outcome::Fail { .. }));

        let mut held = Detail { note: Some("dropped".into()), ..Detail::default() };
        assert!(matches!(judged(Some("calico"), Outcome::Pass, &mut held), Outcome::Pass));
        assert_eq!(held.note.as_deref(), Some("undefined by the specification; here: dropped"));
    }
}
