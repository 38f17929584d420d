//! One line on stderr for each thing worth telling, in the form that Kubernetes' own components use:
//! level and date, time, process id, component, message.
//!
//! Nothing here decides what is worth telling.

use std::fmt::Display;
use std::io::Write;

use jiff::Timestamp;

pub(crate) fn info(component: &str, message: impl Display) {
    line('I', component, &message);
}

pub(crate) fn warn(component: &str, message: impl Display) {
    line('W', component, &message);
}

pub(crate) fn error(component: &str, message: impl Display) {
    line('E', component, &message);
}

fn line(level: char, component: &str, message: &dyn Display) {
    let text = render(level, Timestamp::now(), std::process::id(), component, message);
    // A closed stderr is no reason to stop a controller.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

fn render(level: char, now: Timestamp, pid: u32, component: &str, message: &dyn Display) -> String {
    let stamp = now.strftime("%m%d %H:%M:%S%.6f");
    let message = message.to_string().replace('\n', "\\n");
    format!("{level}{stamp} {pid:>7} {component}] {message}\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn one_line_however_many_the_message_has() {
        let now: Timestamp = "2026-11-23T09:23:30.25Z".parse().unwrap();
        let line = render('W', now, 17, "scheduler", &"a\nb");
        assert_eq!(line, "W1123 09:23:30.250000      17 scheduler] a\\nb\n");
    }
}
