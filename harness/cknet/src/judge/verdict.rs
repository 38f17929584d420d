//! From looks over time to a verdict: `within` and `for` of an expectation.

use std::time::Duration;

use super::{Look, Seen};

/// What an expectation came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Holds {
        note: String,
    },
    Refuted {
        seen: Seen,
    },
    /// Nothing was proved or disproved.
    Inconclusive {
        why: String,
    },
}

/// A verdict and how it was reached.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    pub verdict: Verdict,
    /// Time until the expectation held first, if it ever did.
    pub time_to_true: Option<Duration>,
    /// How often each thing was seen that refuted it, the most frequent first.
    pub counts: Vec<(String, u32)>,
    pub samples: u32,
    pub watched: Duration,
}

impl Judgement {
    /// The judgement of two watches of the same expectation, of which this is the later: its verdict decides.
    #[must_use]
    pub fn after(self, earlier: Self) -> Self {
        let mut counts = earlier.counts;
        for (word, times) in self.counts {
            count(&mut counts, &word, times);
        }
        counts.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
        Self {
            verdict: self.verdict,
            time_to_true: earlier.time_to_true.or(self.time_to_true),
            counts,
            samples: earlier.samples + self.samples,
            watched: earlier.watched + self.watched,
        }
    }
}

fn count(counts: &mut Vec<(String, u32)>, word: &str, more: u32) {
    match counts.iter_mut().find(|(known, _)| known == word) {
        Some((_, times)) => *times += more,
        None => counts.push((word.to_string(), more)),
    }
}

/// An expectation under observation: it is told each look and when it was made, and says when to stop.
#[derive(Debug)]
pub struct Watch {
    within: Duration,
    hold: Duration,
    /// It held at the last look that said anything.
    held: bool,
    /// Since when it has been seen to hold without a gap.
    held_since: Option<Duration>,
    time_to_true: Option<Duration>,
    counts: Vec<(String, u32)>,
    samples: u32,
}

/// How long something inconclusive is tried again where the expectation itself gives no time.
const SECOND_CHANCE: Duration = Duration::from_secs(2);

impl Watch {
    /// `within`: time to become true; `hold`: time to stay true.
    pub fn new(within: Option<Duration>, hold: Option<Duration>) -> Self {
        Self {
            within: within.unwrap_or_default(),
            hold: hold.unwrap_or_default(),
            held: false,
            held_since: None,
            time_to_true: None,
            counts: Vec::new(),
            samples: 0,
        }
    }

    /// Takes a look into account, made `at` after the watch began; the judgement, once there is one.
    pub fn see(&mut self, look: Look, at: Duration) -> Option<Judgement> {
        self.samples += 1;
        match look {
            Look::Holds(note) => {
                self.held = true;
                self.time_to_true.get_or_insert(at);
                let since = *self.held_since.get_or_insert(at);
                (at.saturating_sub(since) >= self.hold).then(|| self.judge(Verdict::Holds { note }, at))
            }
            Look::Refuted(seen) => {
                count(&mut self.counts, &seen.word, 1);
                self.held_since = None;
                // What was true and is not any more broke its promise to stay so.
                let broken = std::mem::take(&mut self.held) && !self.hold.is_zero();
                (broken || at >= self.within).then(|| self.judge(Verdict::Refuted { seen }, at))
            }
            Look::Inconclusive(why) => {
                // Nobody knows what it was like meanwhile: the time that it has to hold begins anew.
                self.held_since = None;
                let limit = self.within.max(SECOND_CHANCE);
                (at >= limit).then(|| self.judge(Verdict::Inconclusive { why }, at))
            }
        }
    }

    fn judge(&mut self, verdict: Verdict, watched: Duration) -> Judgement {
        let mut counts = std::mem::take(&mut self.counts);
        counts.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
        Judgement { verdict, time_to_true: self.time_to_true, counts, samples: self.samples, watched }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn yes() -> Look {
        Look::Holds(String::new())
    }

    fn no() -> Look {
        Look::Refuted(Seen::word("dropped"))
    }

    #[test]
    fn without_time_the_first_look_decides() {
        assert!(matches!(Watch::new(None, None).see(yes(), ms(1)).unwrap().verdict, Verdict::Holds { .. }));
        assert!(matches!(Watch::new(None, None).see(no(), ms(1)).unwrap().verdict, Verdict::Refuted { .. }));
    }

    #[test]
    fn it_may_become_true_until_the_time_is_over() {
        let mut watch = Watch::new(Some(ms(100)), None);
        assert_eq!(watch.see(no(), ms(10)), None);
        assert_eq!(watch.see(no(), ms(90)), None);
        let judgement = watch.see(yes(), ms(95)).unwrap();
        assert_eq!((judgement.time_to_true, judgement.samples), (Some(ms(95)), 3));
        assert_eq!(judgement.counts, [("dropped".to_string(), 2)]);

        let mut late = Watch::new(Some(ms(100)), None);
        assert!(matches!(late.see(no(), ms(100)).unwrap().verdict, Verdict::Refuted { .. }));
    }

    #[test]
    fn once_true_it_has_to_stay_true() {
        let mut stays = Watch::new(Some(ms(100)), Some(ms(50)));
        assert_eq!(stays.see(yes(), ms(20)), None);
        assert_eq!(stays.see(yes(), ms(60)), None);
        assert!(matches!(stays.see(yes(), ms(70)).unwrap().verdict, Verdict::Holds { .. }));

        let mut breaks = Watch::new(Some(ms(100)), Some(ms(50)));
        assert_eq!(breaks.see(yes(), ms(20)), None);
        assert!(matches!(breaks.see(no(), ms(40)).unwrap().verdict, Verdict::Refuted { .. }));
    }

    #[test]
    fn the_later_of_two_watches_decides() {
        let first = Watch::new(None, None).see(yes(), ms(3)).unwrap();
        let last = Watch::new(None, None).see(no(), ms(5)).unwrap();
        let both = last.after(first);
        assert!(matches!(both.verdict, Verdict::Refuted { .. }));
        assert_eq!((both.time_to_true, both.samples, both.watched), (Some(ms(3)), 2, ms(8)));
        assert_eq!(both.counts, [("dropped".to_string(), 1)]);
    }

    #[test]
    fn a_gap_does_not_count_as_holding() {
        let doubt = || Look::Inconclusive("agent gone".into());
        let mut watch = Watch::new(None, Some(ms(1000)));
        assert_eq!(watch.see(yes(), ms(10)), None);
        assert_eq!(watch.see(doubt(), ms(500)), None);
        assert_eq!(watch.see(yes(), ms(600)), None);
        assert_eq!(watch.see(yes(), ms(1500)), None, "only 900 ms were seen");
        assert!(matches!(watch.see(yes(), ms(1600)).unwrap().verdict, Verdict::Holds { .. }));

        let mut breaks = Watch::new(Some(ms(5000)), Some(ms(1000)));
        assert_eq!(breaks.see(yes(), ms(10)), None);
        assert_eq!(breaks.see(doubt(), ms(500)), None);
        assert!(matches!(breaks.see(no(), ms(600)).unwrap().verdict, Verdict::Refuted { .. }));
    }

    #[test]
    fn doubt_is_tried_again_and_never_turns_into_an_answer() {
        let doubt = || Look::Inconclusive("agent gone".into());
        let mut watch = Watch::new(None, None);
        assert_eq!(watch.see(doubt(), ms(5)), None);
        assert_eq!(watch.see(doubt(), ms(500)), None);
        assert!(matches!(watch.see(doubt(), SECOND_CHANCE).unwrap().verdict, Verdict::Inconclusive { .. }));
    }
}
