//! Lines for the `sh` of a machine, and what they answer.
//!
//! Whether a program ran to its end is said by a mark behind its standard error and never by the exit code of whatever
//! carried it: ssh, lxc and multipass have exit codes of their own in the same numbers, and multipass runs a command
//! that ended with 4 again for ever.

use std::time::Duration;

use super::FOLDER;
use crate::provider::{Exit, Invocation};

/// A signal's number added to this is the exit code by which `sh` tells of it (POSIX, 2.8.2).
const SIGNALLED: i32 = 128;

/// Where on a machine the logs of services lie, and what is known of them.
pub const RUN: &str = "/run/cknet";

/// One word for `sh`, whatever is in it.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The words by which a program is started with its environment.
fn words(invocation: &Invocation) -> String {
    let path = format!("PATH={FOLDER}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin");
    let variables = invocation.environment.iter().map(|(name, value)| format!("{name}={value}"));
    let all = ["env".to_string(), path].into_iter().chain(variables).chain(invocation.argv.iter().cloned());
    all.map(|word| quoted(&word)).collect::<Vec<_>>().join(" ")
}

/// Runs a program to its end, but no longer than `deadline`: then its whole group is killed there.
pub fn run(invocation: &Invocation, deadline: Duration, mark: &str) -> String {
    let seconds = deadline.as_secs() + 1;
    marked(&format!("timeout -s KILL {seconds} {}", words(invocation)), mark)
}

/// Runs a line and says behind it how it ended.
pub fn marked(line: &str, mark: &str) -> String {
    format!("cd /; {line}; printf '\\n%s %s\\n' {mark} $? >&2; exit 0")
}

/// Becomes the program.
pub fn exec(invocation: &Invocation) -> String {
    format!("cd /; exec {}", words(invocation))
}

/// Starts a program that outlives the shell; its process id and how it ends are written down below `folder`.
pub fn start(folder: &str, service: &str, invocation: &Invocation) -> String {
    let (log, file) = (format!("{folder}/log/{service}.log"), format!("{folder}/services/{service}"));
    let inner = format!("\"$@\" >>{} 2>&1 </dev/null; echo $? >{}", quoted(&log), quoted(&format!("{file}.ended")));
    format!(
        "mkdir -p {folder}/log {folder}/services; rm -f {ended}; \
         setsid sh -c {inner} sh {words} >/dev/null 2>&1 </dev/null & echo $! >{pid}",
        folder = quoted(folder),
        ended = quoted(&format!("{file}.ended")),
        inner = quoted(&inner),
        words = words(invocation),
        pid = quoted(&format!("{file}.pid")),
    )
}

/// Kills a started program's group and waits until the kernel knows it no more. The pid is given without `--`, which
/// the `kill` of dash takes for one.
pub fn stop(folder: &str, service: &str) -> String {
    let file = quoted(&format!("{folder}/services/{service}"));
    format!(
        "if p=$(cat {file}.pid 2>/dev/null); then kill -KILL -$p 2>/dev/null || kill -KILL $p 2>/dev/null; \
         while kill -0 -$p 2>/dev/null; do sleep 0.02; done; rm -f {file}.pid {file}.ended; fi; true"
    )
}

/// Says `running`, `gone`, or the exit code of a started program; `never` of one that was not started.
pub fn look(folder: &str, service: &str) -> String {
    let file = quoted(&format!("{folder}/services/{service}"));
    // The process and not its group: it is there from the start, the group only when `setsid` has made it.
    format!(
        "if [ -s {file}.ended ]; then cat {file}.ended; \
         elif ! p=$(cat {file}.pid 2>/dev/null); then echo never; \
         elif kill -0 $p 2>/dev/null; then echo running; else echo gone; fi"
    )
}

/// Takes a machine that is there already for a run, if no other one has it: says who has it, and succeeds only for
/// `holder`.
pub fn take(holder: &str) -> String {
    let (file, holder) = (format!("{FOLDER}/taken"), quoted(holder));
    format!(
        "mkdir -p {FOLDER}; (set -C; echo {holder} >{file}) 2>/dev/null; cat {file}; [ \"$(cat {file})\" = {holder} ]"
    )
}

/// Whether a line is noted already.
fn remembered(line: &str) -> String {
    format!("grep -qxF -- {} {FOLDER}/undo 2>/dev/null", quoted(line))
}

/// Notes a line that undoes a change; lines that are noted already are not noted again.
pub fn remember_undo(line: &str) -> String {
    format!("{} || echo {} >>{FOLDER}/undo", remembered(line), quoted(line))
}

/// Keeps a file as it is now, and notes how it is brought back, before it is written for the first time.
pub fn keep(path: &str) -> String {
    let kept = format!("{FOLDER}/kept/{}", path.trim_start_matches('/').replace('/', "%"));
    let (path, kept) = (quoted(path), quoted(&kept));
    // Other lines may name the path as well.
    let (back, away) = (format!("mv -f {kept} {path}"), format!("rm -f {path}"));
    format!(
        "{} || {} || if [ -e {path} ]; then mkdir -p {FOLDER}/kept && cp -a {path} {kept} && {{ {}; }}; else {}; fi",
        remembered(&back),
        remembered(&away),
        remember_undo(&back),
        remember_undo(&away),
    )
}

/// Undoes all changes, the newest first, and gives a machine back that `holder` has; one that it has not is left alone.
/// What could not be undone is told and can be tried again.
pub fn give_back(holder: &str) -> String {
    let holder = quoted(holder);
    format!(
        "[ \"$(cat {FOLDER}/taken 2>/dev/null)\" = {holder} ] || exit 0; export PATH={FOLDER}/bin:$PATH:/usr/sbin:/sbin:/snap/bin; \
         failed=0; [ ! -e {FOLDER}/undo ] || tac {FOLDER}/undo >{FOLDER}/undoing; touch {FOLDER}/undoing; \
         while IFS= read -r line; do sh -c \"$line\" </dev/null || {{ echo \"not undone: $line\" >&2; failed=1; }}; \
         done <{FOLDER}/undoing; [ $failed = 0 ] && rm -rf {FOLDER} {RUN}"
    )
}

/// Writes what comes on standard input to a file, if all of it came.
pub fn put(path: &str, mode: u32, length: usize, mark: &str) -> String {
    let folder = path.rsplit_once('/').map_or("/", |(folder, _)| if folder.is_empty() { "/" } else { folder });
    let (folder, draft, path) = (quoted(folder), quoted(&format!("{path}.{mark}")), quoted(path));
    format!(
        "mkdir -p {folder} && (umask 077; cat >{draft}) && \
         if [ $(wc -c <{draft}) -eq {length} ]; then chmod {mode:o} {draft} && mv -f {draft} {path}; \
         else rm -f {draft}; echo 'not all of it came' >&2; false; fi"
    )
}

/// What a marked line wrote to standard error, and how it ended; `None` if its end was never told.
pub fn ended(stderr: &[u8], mark: &str) -> Option<(Vec<u8>, Exit)> {
    let mark = format!("\n{mark} ");
    let at = stderr.windows(mark.len()).rposition(|window| window == mark.as_bytes())?;
    let (said, rest) = stderr.split_at_checked(at)?;
    let code = std::str::from_utf8(rest.get(mark.len()..)?).ok()?.split_whitespace().next()?.parse().ok()?;
    Some((said.to_vec(), exit(code)))
}

/// How a program ended whose shell told this code.
pub fn exit(code: i32) -> Exit {
    match code - SIGNALLED {
        signal @ 1..=64 => Exit::Signal(signal),
        _ => Exit::Code(code),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::process::{Command, Output};

    use super::*;

    fn sh(script: &str) -> Output {
        Command::new("sh").args(["-c", script]).output().unwrap()
    }

    #[test]
    fn words_reach_the_program_as_they_are() {
        let odd = "a 'b' \"c\" $d `e` \\ \n ü *";
        let invocation = Invocation::new(["printf", "%s|%s", odd, ""]);
        assert_eq!(String::from_utf8(sh(&exec(&invocation)).stdout).unwrap(), format!("{odd}|"));
    }

    #[test]
    fn the_mark_tells_how_it_ended_and_the_shell_always_ends_well() {
        for (script, wanted) in
            [("exit 4", Exit::Code(4)), ("kill -TERM $$", Exit::Signal(15)), ("true", Exit::Code(0))]
        {
            let invocation = Invocation::new(["sh", "-c", &format!("echo complaint >&2; {script}")]);
            let output = sh(&run(&invocation, Duration::from_secs(5), "m4rk"));
            assert_eq!(output.status.code(), Some(0));
            let (said, exit) = ended(&output.stderr, "m4rk").unwrap();
            // Some shells add a word on the signal.
            assert!(said.starts_with(b"complaint\n"), "{script}");
            assert_eq!(exit, wanted, "{script}");
        }
    }

    #[test]
    fn without_its_mark_nothing_has_ended() {
        assert!(ended(b"Connection closed by remote host\n", "m4rk").is_none());
        assert!(ended(b"", "m4rk").is_none());
        assert!(ended(b"\nm4rk x", "m4rk").is_none());
    }

    #[test]
    fn a_file_is_written_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/it's here");
        let path = path.to_str().unwrap();
        let written = |length: usize| {
            let script = format!("printf four | ({})", put(path, 0o640, length, "m4rk"));
            sh(&script).status.success()
        };
        assert!(!written(5));
        assert!(!std::path::Path::new(path).exists());
        assert!(written(4));
        assert_eq!(std::fs::read_to_string(path).unwrap(), "four");
        let left = std::fs::read_dir(folder.path().join("deep")).unwrap().count();
        assert_eq!(left, 1, "no draft is left");
    }

    /// With a folder of its own in the place of the machine's.
    fn on_a_machine(folder: &std::path::Path, script: &str) {
        let run = folder.join("run");
        let script = script.replace(RUN, run.to_str().unwrap()).replace(FOLDER, folder.to_str().unwrap());
        let output = sh(&script);
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    }

    #[test]
    fn a_file_is_kept_once_whatever_else_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
        std::fs::create_dir_all(&ours).unwrap();
        std::fs::create_dir_all(&theirs).unwrap();
        let (there, new) = (theirs.join("k3s"), theirs.join("it's new"));
        std::fs::write(&there, "theirs").unwrap();
        let script = |line: &str| on_a_machine(&ours, line);
        script(&format!("echo me >{FOLDER}/taken"));
        for path in [&there, &new] {
            let path = path.to_str().unwrap();
            script(&remember_undo(&format!("[ ! -x {0} ] || exec {0}", quoted(&format!("{path}-uninstall.sh")))));
            for _ in 0..2 {
                script(&keep(path));
                script(&format!("echo ours >{}", quoted(path)));
            }
        }
        let noted = std::fs::read_to_string(ours.join("undo")).unwrap();
        assert_eq!(noted.lines().count(), 4, "{noted}");
        script(&give_back("me"));
        assert_eq!(std::fs::read_to_string(&there).unwrap(), "theirs");
        assert!(!new.exists() && !ours.exists());
    }

    #[test]
    fn a_service_runs_until_it_is_stopped_and_says_how_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().to_str().unwrap();
        let said = |script: &str| String::from_utf8(sh(script).stdout).unwrap().trim().to_string();
        let await_said = |wanted: &str| {
            let started = std::time::Instant::now();
            while said(&look(folder, "site")) != wanted {
                assert!(
                    started.elapsed() < Duration::from_secs(10),
                    "{} instead of {wanted}",
                    said(&look(folder, "site"))
                );
            }
        };
        let long = Invocation::new(["sh", "-c", "echo up; sleep 4243.5 & wait"]);
        assert!(sh(&start(folder, "site", &long)).status.success());
        await_said("running");
        let alive = || sh("pgrep -f 'sleep 4243[.]5'").status.success();
        let started = std::time::Instant::now();
        while !alive() {
            assert!(started.elapsed() < Duration::from_secs(10), "the service was not started");
        }
        assert!(sh(&stop(folder, "site")).status.success());
        assert!(!alive(), "its group is gone when stopping ends");
        assert_eq!(said(&look(folder, "site")), "never");
        assert_eq!(std::fs::read_to_string(format!("{folder}/log/site.log")).unwrap(), "up\n");
        sh(&start(folder, "site", &Invocation::new(["sh", "-c", "exit 7"])));
        await_said("7");
    }
}
