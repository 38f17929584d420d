//! Times as they are given to programs: durations of Go (`1s`, `500ms`), seconds of the others.

use std::time::Duration;

/// A duration as Go reads it: `1m30s`, `500ms`, `0`; `None` for other texts.
pub fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let scale = match &rest[digits..unit] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += rest[..digits].parse::<f64>().ok()? * scale;
        rest = &rest[unit..];
    }
    if text.is_empty() { None } else { Duration::try_from_secs_f64(total).ok() }
}

/// Seconds, perhaps with a fraction.
pub fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("1s", Some(1000))]
    #[case("500ms", Some(500))]
    #[case("1m30s", Some(90_000))]
    #[case("1.5s", Some(1500))]
    #[case("0", Some(0))]
    #[case("", None)]
    #[case("5", None)]
    #[case("1x", None)]
    fn durations_read_as_in_go(#[case] text: &str, #[case] milliseconds: Option<u64>) {
        assert_eq!(go_duration(text), milliseconds.map(Duration::from_millis));
    }
}
