//! Into containers: logs, and commands with their streams, exit codes and terminals.

use libtest_mimic::Trial;

use super::cluster::{IMAGE, SOON, shared};
use super::program::eventually;
use super::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("containers::logs_are_read", logs_are_read),
        trial("containers::logs_are_followed", logs_are_followed),
        trial("containers::logs_of_the_last_attempt_are_kept", logs_of_the_last_attempt_are_kept),
        trial("containers::streams_and_exit_codes_come_back", streams_and_exit_codes_come_back),
        trial("containers::a_command_talks_back_at_once", a_command_talks_back_at_once),
        trial("containers::a_terminal_is_a_terminal", a_terminal_is_a_terminal),
        trial("containers::what_cannot_be_entered_says_why", what_cannot_be_entered_says_why),
        trial("containers::a_container_has_its_own_names", a_container_has_its_own_names),
    ]
}

fn logs_are_read() {
    let space = shared().space("logs");
    space.pods(&[("one", "one", "w1", &["8080/tcp", "53/udp"])]);
    let said = "listening on [::]:8080/tcp\nlistening on [::]:53/udp\n";
    assert_eq!(space.ok("logs one"), said);
    assert_eq!(space.ok("logs one --tail=1"), "listening on [::]:53/udp\n");
    assert_eq!(space.ok("logs one -c probe --limit-bytes=12"), "listening on");
    let stamped = space.ok("logs one --timestamps --tail=1");
    let (stamp, line) = stamped.split_once(' ').unwrap();
    assert!(stamp.parse::<jiff::Timestamp>().is_ok(), "{stamped}");
    assert_eq!(line, "listening on [::]:53/udp\n");
    assert_eq!(space.ok("logs -l app=one --prefix --tail=1"), "[pod/one/probe] listening on [::]:53/udp\n");
    assert_eq!(space.fails("logs one -c other", ""), "error: container other is not valid for pod one\n");
    assert_eq!(
        space.fails("logs one --previous", ""),
        "Error from server (BadRequest): previous terminated container \"probe\" in pod \"one\" not found\n"
    );
}

fn logs_are_followed() {
    let space = shared().space("follows");
    let script = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.1; done";
    space.ok(&format!("run one --image={IMAGE} --command -- sh -c '{script}'"));
    space.ok("wait --for=condition=Ready pod/one --timeout=20s");
    let mut logs = space.start("logs -f one");
    let seen: Vec<String> = (0..12).map(|_| logs.next()).collect();
    let expected: Vec<String> = (1..=12).map(|number| format!("line {number}")).collect();
    assert_eq!(seen, expected);
}

fn logs_of_the_last_attempt_are_kept() {
    let space = shared().space("attempts");
    space.ok(&format!("run one --image={IMAGE} --command -- sh -c 'echo try of $$; exit 3'"));
    eventually("it is started again", SOON, || {
        let seen = space.field("pod one", ".status.containerStatuses[0].restartCount");
        if matches!(seen.as_str(), "" | "0") { Err(seen) } else { Ok(()) }
    });
    let before = eventually("the attempt before has a log", SOON, || {
        let done = space.run("logs one --previous");
        if done.code == 0 { Ok(done.out) } else { Err(done.err) }
    });
    assert!(before.starts_with("try of ") && before.lines().count() == 1, "{before}");
    assert_eq!(space.field("pod one", ".status.containerStatuses[0].lastState.terminated.exitCode"), "3");
}

fn streams_and_exit_codes_come_back() {
    let space = shared().space("streams");
    space.pods(&[("one", "one", "w1", &[])]);
    let done = space.run("exec one -- sh -c 'echo to out; echo to err >&2; exit 7'");
    assert_eq!(done.code, 7);
    assert_eq!((done.out.as_str(), done.err.as_str()), ("to out\n", "to err\ncommand terminated with exit code 7\n"));
    let done = space.run("exec one -- true");
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (0, "", ""));
    assert_eq!(space.run("exec one -- sh -c 'kill -9 $$'").code, 137);

    let long: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
    assert_eq!(space.ok_with("exec -i one -- cat", &long), long, "everything comes back, in order");
    let counted = space.ok_with("exec -i one -- wc -c", &long);
    assert_eq!(counted.trim(), long.len().to_string(), "the end of the input is passed on");
    assert_eq!(space.ok_with("exec one -- cat", "not passed on without -i"), "");

    let done = space.run("exec one -- no-such-program");
    assert_ne!(done.code, 0);
    assert!(done.err.contains("exec: \"no-such-program\": executable file not found in $PATH"), "{}", done.err);
}

fn a_command_talks_back_at_once() {
    let space = shared().space("talks");
    space.pods(&[("one", "one", "w1", &[])]);
    let mut talk = space.start("exec -i one -- sh -c 'while read -r word; do echo heard $word; done; echo end'");
    for word in ["one", "two", "three"] {
        talk.say(word);
        assert_eq!(talk.next(), format!("heard {word}"));
    }
}

fn a_terminal_is_a_terminal() {
    let space = shared().space("terminals");
    space.pods(&[("one", "one", "w1", &[])]);
    // kubectl tells the size of the terminal after the command has started.
    let script =
        "tty; while [ \\\"\\$(stty size)\\\" != \\\"33 101\\\" ]; do sleep 0.02; done; echo to err >&2; exit 5";
    let done = space.on_terminal(&format!("exec -it one -- sh -c \"{script}\""), "");
    let lines: Vec<&str> = done.out.lines().map(|line| line.trim_start_matches("^@").trim()).collect();
    assert_eq!(done.code, 5, "{}", done.out);
    assert!(lines[0].starts_with("/dev/pts/"), "{}", done.out);
    assert_eq!(&lines[1..], ["to err", "command terminated with exit code 5"], "{}", done.out);

    let done = space.on_terminal("exec -it one -- sh", "echo the answer is $((40+2))\nexit 6\n");
    assert_eq!(done.code, 6, "{}", done.out);
    // The shell's prompt stands before what the command prints.
    assert!(done.out.lines().any(|line| line.trim_end().ends_with("the answer is 42")), "{}", done.out);
}

fn what_cannot_be_entered_says_why() {
    let space = shared().space("closed");
    space.ok("run web --image=postgres");
    assert_eq!(space.fails("exec nope -- true", ""), "Error from server (NotFound): pods \"nope\" not found\n");
    eventually("the image is refused", SOON, || {
        match space.field("pod web", ".status.containerStatuses[0].state.waiting.reason") {
            reason if reason.ends_with("ImagePull") || reason.ends_with("BackOff") => Ok(()),
            reason => Err(reason),
        }
    });
    let complaint = space.fails("exec web -- true", "");
    assert!(complaint.contains("container not found (\"web\")"), "{complaint}");
}

fn a_container_has_its_own_names() {
    let space = shared().space("names");
    space.pods(&[("one", "one", "w1", &[])]);
    assert_eq!(space.ok("exec one -- hostname"), "one\n");
    let hosts = space.ok("exec one -- cat /etc/hosts");
    assert_eq!(hosts.lines().last(), Some(format!("{}\tone", space.address("one")).as_str()));
    assert_eq!(
        space.ok("exec one -- cat /etc/resolv.conf"),
        "search names.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.152.183.10\noptions ndots:5\n"
    );
    let links = space.ok("exec one -- ls /sys/class/net");
    let links: Vec<&str> = links.split_whitespace().collect();
    assert!(links.contains(&"eth0") && links.contains(&"lo"), "{links:?}");
}
