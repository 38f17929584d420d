//! Owns how a time or a number of things is worded.

/// A demanded time, exact: `30 s`, `1.5 s`, `200 ms`.
pub fn exact(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        _ if ms.is_multiple_of(1000) => format!("{} s", ms / 1000),
        _ => format!("{}.{} s", ms / 1000, format!("{:03}", ms % 1000).trim_end_matches('0')),
    }
}

/// A measured time, to a tenth of a second: `30.0 s`, `2 min 05 s`.
pub fn measured(ms: u64) -> String {
    let tenths = ms.saturating_add(50) / 100;
    if tenths < 600 {
        format!("{}.{} s", tenths / 10, tenths % 10)
    } else {
        let seconds = ms.saturating_add(500) / 1000;
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    }
}

/// `1 case`, `2 cases`.
pub fn counted(number: u32, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {one}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(0, "0 ms")]
    #[case(999, "999 ms")]
    #[case(30_000, "30 s")]
    #[case(1_500, "1.5 s")]
    #[case(1_050, "1.05 s")]
    fn exact_times(#[case] ms: u64, #[case] expected: &str) {
        assert_eq!(exact(ms), expected);
    }

    #[rstest]
    #[case(0, "0.0 s")]
    #[case(449, "0.4 s")]
    #[case(59_949, "59.9 s")]
    #[case(59_950, "1 min 00 s")]
    #[case(125_400, "2 min 05 s")]
    #[case(u64::MAX, "307445734561825 min 51 s")]
    fn measured_times(#[case] ms: u64, #[case] expected: &str) {
        assert_eq!(measured(ms), expected);
    }
}
