//! Options on a command line: letters in clusters (`-qO-`), long names (`--timeout=1`, `--timeout 1`), operands
//! anywhere between them. Which options there are is the program's affair.

/// An option that a program knows.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    letter: Option<char>,
    long: &'static str,
    takes: Takes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Nothing,
    Value,
    /// `--x` or `--x=false`.
    Truth,
}

/// `-q`, `--quiet`; an empty long name for an option that has only a letter.
pub const fn flag(letter: char, long: &'static str) -> Known {
    Known { letter: Some(letter), long, takes: Takes::Nothing }
}

/// `-T SEC`, `--timeout SEC`.
pub const fn value(letter: char, long: &'static str) -> Known {
    Known { letter: Some(letter), long, takes: Takes::Value }
}

/// `--port PORT`, without a letter.
pub const fn long_value(long: &'static str) -> Known {
    Known { letter: None, long, takes: Takes::Value }
}

/// `--spider`, without a letter.
pub const fn long_flag(long: &'static str) -> Known {
    Known { letter: None, long, takes: Takes::Nothing }
}

/// `--http`, `--http=false`.
pub const fn truth(long: &'static str) -> Known {
    Known { letter: None, long, takes: Takes::Truth }
}

/// What was given. Options are asked for by their long name, or by their letter where they have none.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Given {
    options: Vec<(String, String)>,
    pub operands: Vec<String>,
}

impl Given {
    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// The last value that was given.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.options.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn values(&self, name: &'static str) -> impl Iterator<Item = &str> {
        self.options.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether a truth holds.
    pub fn holds(&self, name: &str, unless_given: bool) -> bool {
        self.value(name).map_or(unless_given, |value| !matches!(value, "false" | "0" | "f" | "F" | "False" | "FALSE"))
    }

    /// A number, or what is wrong with it.
    pub fn number<N: std::str::FromStr>(&self, name: &str, unless_given: N) -> Result<N, String> {
        match self.value(name) {
            None => Ok(unless_given),
            Some(text) => text.parse().map_err(|_| format!("invalid argument '{text}' to '{name}'")),
        }
    }
}

impl Known {
    fn key(&self) -> String {
        match (self.long, self.letter) {
            ("", Some(letter)) => letter.to_string(),
            (long, _) => long.to_string(),
        }
    }
}

/// Reads `arguments`; the error is in the words of getopt.
pub fn read(arguments: &[String], known: &[Known]) -> Result<Given, String> {
    let mut given = Given::default();
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        if word == "--" {
            given.operands.extend(rest.by_ref().cloned());
        } else if let Some(long) = word.strip_prefix("--") {
            let (name, attached) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
            let option = known.iter().find(|option| !option.long.is_empty() && option.long == name);
            let option = option.ok_or_else(|| format!("unrecognized option '--{name}'"))?;
            let value = match (option.takes, attached) {
                (Takes::Value, Some(value)) => value.to_string(),
                (Takes::Value, None) => {
                    rest.next().cloned().ok_or_else(|| format!("option '--{name}' requires an argument"))?
                }
                (Takes::Truth, Some(value)) => value.to_string(),
                (Takes::Nothing, Some(_)) => return Err(format!("option '--{name}' doesn't allow an argument")),
                (_, None) => "true".into(),
            };
            given.options.push((option.key(), value));
        } else if word.len() > 1 && word.starts_with('-') {
            read_cluster(&word[1..], &mut rest, known, &mut given)?;
        } else {
            given.operands.push(word.clone());
        }
    }
    Ok(given)
}

fn read_cluster<'a>(
    cluster: &str,
    rest: &mut impl Iterator<Item = &'a String>,
    known: &[Known],
    given: &mut Given,
) -> Result<(), String> {
    for (at, letter) in cluster.char_indices() {
        let option = known.iter().find(|option| option.letter == Some(letter));
        let option = option.ok_or_else(|| format!("invalid option -- '{letter}'"))?;
        if option.takes != Takes::Value {
            given.options.push((option.key(), "true".into()));
            continue;
        }
        let attached = &cluster[at + letter.len_utf8()..];
        let value = if attached.is_empty() { rest.next().cloned() } else { Some(attached.to_string()) };
        let value = value.ok_or_else(|| format!("option requires an argument -- '{letter}'"))?;
        given.options.push((option.key(), value));
        break;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rstest::rstest;

    const KNOWN: &[Known] =
        &[flag('q', "quiet"), value('O', "output"), value('T', "timeout"), flag('z', ""), truth("http")];

    fn given(line: &str) -> Result<Given, String> {
        read(&line.split_whitespace().map(String::from).collect::<Vec<_>>(), KNOWN)
    }

    #[rstest]
    #[case("-qO- --timeout=2 http://web")]
    #[case("-q -O - -T2 http://web")]
    #[case("http://web --quiet --output - --timeout 2")]
    fn one_meaning_has_many_spellings(#[case] line: &str) {
        let given = given(line).unwrap();
        assert!(given.has("quiet") && !given.has("z"));
        assert_eq!((given.value("output"), given.number("timeout", 9)), (Some("-"), Ok(2)));
        assert_eq!(given.operands, ["http://web"]);
    }

    #[rstest]
    #[case("", true)]
    #[case("--http", true)]
    #[case("--http=false", false)]
    fn a_truth_may_be_denied(#[case] line: &str, #[case] expected: bool) {
        assert_eq!(given(line).unwrap().holds("http", true), expected);
    }

    #[rstest]
    #[case("-x", "invalid option -- 'x'")]
    #[case("--nope", "unrecognized option '--nope'")]
    #[case("-O", "option requires an argument -- 'O'")]
    #[case("--output", "option '--output' requires an argument")]
    fn an_error_has_the_words_of_getopt(#[case] line: &str, #[case] expected: &str) {
        assert_eq!(given(line).unwrap_err(), expected);
    }

    #[test]
    fn what_follows_two_dashes_is_no_option() {
        assert_eq!(given("-z -- -q").unwrap().operands, ["-q"]);
    }
}
