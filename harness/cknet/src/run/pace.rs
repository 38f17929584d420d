//! How long each expectation took to become true without a sabotage, and what follows from it for the time that a
//! sabotaged one is given. It must not know how an expectation is looked at.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A sabotaged expectation gets so many times the time that it took without the sabotage.
const TIMES: u32 = 5;

/// And at least so much.
const AT_LEAST: Duration = Duration::from_secs(1);

/// Times by case, as scenarios are carried out.
pub struct Pace {
    /// Give each expectation its whole `within`, whatever it took.
    whole_within: bool,
    took: Mutex<HashMap<String, Duration>>,
}

impl Pace {
    /// Nothing is known yet. With `whole_within` that stays so.
    pub fn new(whole_within: bool) -> Self {
        Self { whole_within, took: Mutex::default() }
    }

    /// Notes that a case held after `took`, without a sabotage.
    pub fn note(&self, case: String, took: Duration) {
        self.took.lock().unwrap_or_else(PoisonError::into_inner).insert(case, took);
    }

    /// The time that a sabotaged case is given to become true all the same, of the `within` in its file.
    ///
    /// The whole, where it is not known how long it takes.
    pub fn within(&self, case: &str, whole: Duration) -> Duration {
        if self.whole_within {
            return whole;
        }
        let took = self.took.lock().unwrap_or_else(PoisonError::into_inner).get(case).copied();
        took.map_or(whole, |took| (took * TIMES).max(AT_LEAST).min(whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn it_is_several_times_what_was_needed_and_never_more_than_the_file_says() {
        let pace = Pace::new(false);
        assert_eq!(pace.within("a", ms(10_000)), ms(10_000), "nothing is known of it");
        pace.note("a".into(), ms(60));
        assert_eq!(pace.within("a", ms(10_000)), ms(1000));
        assert_eq!(pace.within("a", ms(500)), ms(500));
        pace.note("a".into(), ms(700));
        assert_eq!(pace.within("a", ms(10_000)), ms(3500));
        assert_eq!(pace.within("b", ms(10_000)), ms(10_000));
        let patient = Pace::new(true);
        patient.note("a".into(), ms(60));
        assert_eq!(patient.within("a", ms(10_000)), ms(10_000));
    }
}
