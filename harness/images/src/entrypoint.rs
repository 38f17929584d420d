//! Programs that become another one: the shell under its other name, and an entrypoint that takes options for its
//! program as well as a whole command.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::say;

/// `ash`: the shell of busybox is the machine's here.
pub fn shell(arguments: &[String]) -> u8 {
    become_program("/bin/sh", arguments)
}

/// `entrypoint PROGRAM WORD ...`: the words are a command when the first one is found on the path, else arguments
/// for PROGRAM.
pub fn run(words: &[String]) -> u8 {
    let Some((program, words)) = words.split_first() else { return 2 };
    match words.split_first() {
        Some((command, arguments)) if is_program(command) => become_program(command, arguments),
        _ => become_program(program, words),
    }
}

fn is_program(word: &str) -> bool {
    if word.contains("://") || word.starts_with('-') {
        return false;
    }
    if word.starts_with('/') {
        return std::path::Path::new(word).is_file();
    }
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').any(|folder| std::path::Path::new(folder).join(word).is_file())
}

fn become_program(program: &str, arguments: &[String]) -> u8 {
    let error = Command::new(program).args(arguments).exec();
    say::error(format_args!("{program}: {}", crate::errors::in_c_words(&error)));
    127
}
