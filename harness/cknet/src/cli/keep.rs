//! How long clusters are kept for a person: the moment when they are taken down by themselves, and what is said of them
//! until then.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use super::clusters::{Running, left_behind, running};
use super::note;

/// Longest time for which something can be kept.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// A time of the command line: `90m`, `4h`, `1h 30m`.
///
/// # Errors
/// When it is none.
pub fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time to keep something; write 30m, 4h or 1h30m");
    let parsed: SignedDuration = text.parse().map_err(|_| wrong())?;
    let time = Duration::try_from(parsed).map_err(|_| wrong())?;
    if time.is_zero() || time > LONGEST { Err(wrong()) } else { Ok(time) }
}

/// When what is kept so long from now on is taken down.
pub fn until(time: Option<Duration>) -> Option<Timestamp> {
    Timestamp::now().checked_add(time?).ok()
}

/// Asks to stop when the time is over; not before, and not at all without one.
pub async fn over(until: Option<Timestamp>) {
    let Some(until) = until else { return std::future::pending().await };
    let left = Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default();
    tokio::time::sleep(left).await;
    note("the time to keep the cluster is over: it is taken down");
}

/// The same beside whatever else is done.
pub fn end_at(until: Option<Timestamp>, stop: CancellationToken) {
    if until.is_some() {
        tokio::spawn(async move {
            over(until).await;
            stop.cancel();
        });
    }
}

/// How long a cluster is still kept, in words.
pub fn left(cluster: &Running) -> String {
    let Some(until) = cluster.until else { return "until it is ended".into() };
    let minutes = until.duration_since(Timestamp::now()).as_secs().max(0) / 60;
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("for {minutes} min more"),
        (hours, minutes) => format!("for {hours} h {minutes} min more"),
    }
}

/// Reminds of what other runs keep, and of what they have left.
pub fn remind() {
    // Whoever cannot be asked is no reason not to begin.
    for cluster in running().unwrap_or_default().iter().filter(|cluster| cluster.kubeconfig().is_some()) {
        let (run, what) = (&cluster.run, cluster.what());
        note(&format!("reminder: cluster {run} ({what}) is kept {}; end it: cknet down {run}", left(cluster)));
    }
    for left in left_behind().unwrap_or_default() {
        note(&format!("reminder: {}", left.abandoned()));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_time_is_read_or_refused_with_the_way_to_write_it() {
        assert_eq!(time("90m").unwrap(), Duration::from_secs(5400));
        assert_eq!(time("1h30m").unwrap(), Duration::from_secs(5400));
        assert_eq!(time("2s").unwrap(), Duration::from_secs(2));
        for text in ["", "4", "0s", "-3h", "soon", "9999999h"] {
            let said = time(text).unwrap_err();
            assert_eq!(said, format!("`{text}` is no time to keep something; write 30m, 4h or 1h30m"));
        }
    }
}
