//! `ping`: echo requests, one after the other. The time to live of replies is not known here and not told.

use std::thread;
use std::time::{Duration, Instant};

use cknet_probe::engine::Prober;
use cknet_probe::wire::{Batch, Cell, Sight, Target, VantageId};

use super::{fail, options_of};
use crate::options::{Known, flag, value};
use crate::{names, say, time};

const OPTIONS: &[Known] = &[
    flag('q', ""),
    flag('4', ""),
    flag('n', ""),
    value('c', ""),
    value('W', ""),
    value('w', ""),
    value('i', ""),
    value('s', ""),
    value('I', ""),
    value('t', ""),
];

pub fn run(arguments: &[String]) -> u8 {
    match ping(arguments) {
        Ok(code) | Err(code) => code,
    }
}

fn ping(arguments: &[String]) -> Result<u8, u8> {
    let given = options_of("ping", arguments, OPTIONS)?;
    let wrong = |what: String| fail("ping", what);
    let count: u64 = given.number("c", 0).map_err(wrong)?;
    let size: u16 = given.number("s", 56).map_err(wrong)?;
    let seconds = |name: &str, unless_given: u64| {
        let text = given.value(name).map_or_else(|| unless_given.to_string(), str::to_string);
        time::seconds(&text).ok_or_else(|| wrong(format!("invalid number '{text}'")))
    };
    let (patience, interval, in_all) = (seconds("W", 10)?, seconds("i", 1)?, seconds("w", 0)?);
    let [host] = given.operands.as_slice() else { return Err(wrong("usage: ping [-c N] [-W SEC] HOST".into())) };
    let address = names::addresses(host).ok().and_then(|found| found.first().copied());
    let address = address.ok_or_else(|| wrong(format!("bad address '{host}'")))?;
    say::line(format_args!("PING {host} ({address}): {size} data bytes"));
    let here = VantageId::new("here");
    let mut prober = Prober::new().map_err(|error| wrong(error.to_string()))?;
    prober.attach(&here, "self").map_err(|error| wrong(error.to_string()))?;
    let begun = Instant::now();
    let (mut sent, mut times) = (0_u64, Vec::new());
    while (count == 0 || sent < count) && (in_all.is_zero() || begun.elapsed() < in_all) {
        let due = begun + interval.saturating_mul(u32::try_from(sent).unwrap_or(u32::MAX));
        // The pace that was asked for; nothing is waited for here.
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let cells =
            vec![Cell { id: 0, from: here.clone(), target: Target::Icmp { address, payload: size, whole: false } }];
        let pass = prober.probe(&Batch { pass: sent, cells, quiet: patience, cap: patience * 2 });
        match pass.observations.first().map(|seen| (&seen.sight, seen.rtt_us)) {
            Some((Sight::Answered, took)) => {
                let took = Duration::from_micros(took.unwrap_or_default());
                times.push(took);
                if !given.has("q") {
                    let bytes = u32::from(size) + 8;
                    say::line(format_args!("{bytes} bytes from {address}: seq={sent} time={} ms", milliseconds(took)));
                }
            }
            Some((Sight::Unreachable { reason, .. }, _)) => say::error(format_args!("ping: sendto: {reason}")),
            _ => {}
        }
        sent += 1;
    }
    say::line(summary(host, sent, &times));
    Ok(u8::from(times.is_empty()))
}

fn milliseconds(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64() * 1000.0)
}

fn summary(host: &str, sent: u64, times: &[Duration]) -> String {
    let received = times.len() as u64;
    let lost = (sent - received.min(sent)) * 100 / sent.max(1);
    let mut text = format!(
        "\n--- {host} ping statistics ---\n{sent} packets transmitted, {received} packets received, {lost}% packet loss"
    );
    if let (Some(least), Some(most)) = (times.iter().min(), times.iter().max()) {
        let mean = times.iter().sum::<Duration>() / u32::try_from(times.len()).unwrap_or(1);
        let [least, mean, most] = [*least, mean, *most].map(milliseconds);
        text += &format!("\nround-trip min/avg/max = {least}/{mean}/{most} ms");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statistics_read_as_busybox_prints_them() {
        let times = [Duration::from_micros(80), Duration::from_micros(120)];
        let expected = "\n--- web ping statistics ---\n4 packets transmitted, 2 packets received, 50% packet loss\n\
                        round-trip min/avg/max = 0.080/0.100/0.120 ms";
        assert_eq!(summary("web", 4, &times), expected);
        assert!(summary("web", 3, &[]).ends_with("3 packets transmitted, 0 packets received, 100% packet loss"));
    }
}
