//! Figures: medians, percentiles, and the machine they were taken on.

use std::time::Duration;

/// A budget and whether a figure keeps it.
pub fn within(figure: Duration, budget: Duration) -> String {
    let word = if figure <= budget { "kept" } else { "MISSED" };
    format!("budget {}: {word}", text(budget))
}

/// The value that `percent` of all are not above.
pub fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() - 1) * percent / 100]
}

pub fn median(times: &[Duration]) -> Duration {
    percentile(times, 50)
}

/// Median, 99th percentile and extremes in one line.
pub fn spread(times: &[Duration]) -> String {
    let at = |percent| text(percentile(times, percent));
    format!("p50 {}, p99 {}, least {}, most {} (n = {})", at(50), at(99), at(0), at(100), times.len())
}

/// Milliseconds with a digit that means something.
pub fn text(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1000.0;
    match millis {
        _ if millis < 10.0 => format!("{millis:.2} ms"),
        _ if millis < 1000.0 => format!("{millis:.0} ms"),
        _ => format!("{:.2} s", millis / 1000.0),
    }
}

/// What else the machine is doing: load averages of 1, 5 and 15 minutes.
pub fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let about = read("/proc/cpuinfo");
    let model = about.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown processor");
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let model = model.trim_start_matches(['\t', ' ', ':']);
    format!("machine: {processors} x {model}, Linux {}, load {}", kernel.trim(), load())
}
