//! Places that cannot be written to: full disks, read-only folders, files in the place of folders, closed pipes.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::workplace::{Ended, SOON, Workplace};
use crate::{Case, Needs};

pub const TRIALS: &[Case] = &[
    (Needs::Root, "output::a_full_disk_keeps_the_reports_of_the_run_before", a_full_disk),
    (Needs::Root, "output::a_disk_that_fills_up_leaves_whole_lines", a_disk_that_fills_up),
    (Needs::Root, "output::a_read_only_folder_for_reports", a_read_only_folder_for_reports),
    (Needs::Root, "output::a_read_only_state_directory", a_read_only_state_directory),
    (Needs::Nothing, "output::a_file_in_the_place_of_the_reports", a_file_in_the_place_of_the_reports),
    (Needs::Nothing, "output::a_file_in_the_place_of_the_state_directory", a_file_in_the_place_of_the_state),
    (Needs::Namespaces, "output::no_folder_for_temporary_files", no_folder_for_temporary_files),
    (Needs::Namespaces, "output::a_state_directory_deep_down", a_state_directory_deep_down),
    (Needs::Nothing, "output::an_argument_that_is_not_text", an_argument_that_is_not_text),
    (Needs::Nothing, "output::a_reader_that_has_had_enough", a_reader_that_has_had_enough),
    (Needs::Nothing, "output::a_full_standard_output", a_full_standard_output),
    (Needs::Namespaces, "output::a_run_whose_reader_has_gone", a_run_whose_reader_has_gone),
    (Needs::Namespaces, "output::a_run_without_standard_streams", a_run_without_standard_streams),
];

/// Runs a script in a mount namespace of its own; `$CKNET` is the executable.
fn apart(workplace: &Workplace, script: &str) -> Ended {
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-euc", script]).env("CKNET", env!("CARGO_BIN_EXE_cknet"));
    command.env("REPORTS", workplace.reports()).env("OUT", workplace.path("out"));
    fs::create_dir(workplace.path("out")).unwrap();
    workplace.settle(&mut command);
    let ended = workplace.start(command).ended(SOON);
    workplace.await_nothing_left();
    ended
}

fn an_argument_that_is_not_text() {
    let workplace = Workplace::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cknet"));
    command.arg("explain").arg(OsStr::from_bytes(b"\xff\xfe"));
    workplace.settle(&mut command);
    let ended = workplace.start(command).ended(SOON).expect(2);
    assert!(ended.stderr.contains("UTF-8"), "{}", ended.stderr);
}

fn a_full_disk() {
    let workplace = Workplace::new();
    let script = "
        mount -t tmpfs -o size=256k,nr_inodes=64 none $REPORTS
        $CKNET run policy.deny-all-ingress --reports $REPORTS > /dev/null
        cp -a $REPORTS/. $OUT
        head -c 1m /dev/zero > $REPORTS/filler 2> /dev/null || true
        code=0; $CKNET run policy.deny-all-ingress --reports $REPORTS || code=$?
        for file in $OUT/*; do cmp $file $REPORTS/${file##*/} >&2; done
        ls -A $REPORTS > $OUT/listing
        exit $code";
    let ended = apart(&workplace, script).expect(3);
    for report in ["TEST-cknet-all.xml", "events.ndjson", "report.html"] {
        let path = workplace.reports().join(report).display().to_string();
        assert!(ended.stderr.contains(&path), "`{path}` is not named: {}", ended.stderr);
    }
    // The verdicts are told all the same.
    assert!(ended.stdout.contains("6 passed"), "{}", ended.stdout);
    let listing = fs::read_to_string(workplace.path("out/listing")).unwrap();
    assert_eq!(listing, "TEST-cknet-all.xml\nevents.ndjson\nfiller\nreport.html\n");
}

/// The disk has room for the first events and not for all of them.
fn a_disk_that_fills_up() {
    let workplace = Workplace::new();
    let script = "
        mount -t tmpfs -o size=32k none $REPORTS
        code=0; $CKNET run policy.deny-all-ingress firewall.vxlan-port-blocked --reports $REPORTS > /dev/null || code=$?
        cp -a $REPORTS/. $OUT
        exit $code";
    let ended = apart(&workplace, script).expect(3);
    assert!(ended.stderr.contains("No space left"), "{}", ended.stderr);
    let events = fs::read_to_string(workplace.path("out/events.ndjson")).unwrap();
    assert!(events.ends_with('\n'), "half a line: {}", events.lines().last().unwrap_or_default());
    for line in events.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    if let Ok(junit) = fs::read_to_string(workplace.path("out/TEST-cknet-all.xml")) {
        roxmltree::Document::parse(&junit).unwrap();
    }
}

fn a_read_only_folder_for_reports() {
    let workplace = Workplace::new();
    let script = "mount -t tmpfs -o ro none $REPORTS; exec $CKNET run policy.deny-all-ingress --reports $REPORTS";
    let ended = apart(&workplace, script).expect(3);
    assert!(ended.stderr.contains(&workplace.reports().display().to_string()), "{}", ended.stderr);
    let gc = workplace.run(["gc"]).expect(0);
    assert!(gc.stdout.starts_with("0 open runs"), "a run that did not begin is closed: {}", gc.stdout);
}

fn a_read_only_state_directory() {
    let workplace = Workplace::new();
    let script = "mount -t tmpfs -o ro none $CKNET_STATE; exec $CKNET run policy";
    let ended = apart(&workplace, script).expect(3);
    assert!(ended.stderr.contains(&workplace.state().display().to_string()), "{}", ended.stderr);
    assert!(ended.stderr.contains("Read-only"), "{}", ended.stderr);
}

fn a_file_in_the_place_of_the_reports() {
    let workplace = Workplace::new();
    let file = workplace.path("a-file");
    fs::write(&file, "mine").unwrap();
    let mut command = workplace.cknet(["run", "policy.deny-all-ingress", "--reports"]);
    command.arg(&file);
    let ended = workplace.start(command).ended(SOON).expect(3);
    assert!(ended.stderr.contains(&file.display().to_string()), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    assert!(workplace.run(["gc"]).expect(0).stdout.starts_with("0 open runs"));
}

fn a_file_in_the_place_of_the_state() {
    let workplace = Workplace::new();
    fs::remove_dir(workplace.state()).unwrap();
    fs::write(workplace.state(), "mine").unwrap();
    for command in ["run", "up", "gc", "status"] {
        let ended = workplace.run([command]).expect(3);
        let path = workplace.state().display().to_string();
        assert!(ended.stderr.contains(&path), "{command}: `{path}` is not named: {}", ended.stderr);
    }
}

fn no_folder_for_temporary_files() {
    let workplace = Workplace::new();
    fs::remove_dir(workplace.path("tmp")).unwrap();
    workplace.run(["run", "policy.deny-all-ingress"]).expect(0);
    workplace.run(["up"]).expect(0);
    workplace.run(["down"]).expect(0);
    workplace.await_nothing_left();
}

/// The path of a socket is short (unix(7): 108 bytes); that of a folder is not.
fn a_state_directory_deep_down() {
    let workplace = Workplace::new();
    let deep = workplace.state().join("a-folder-with-a-long-name".repeat(6));
    let mut command = workplace.cknet(["run", "policy.deny-all-ingress"]);
    command.env("CKNET_STATE", &deep);
    workplace.start(command).ended(SOON).expect(0);
    let mut gc = workplace.cknet(["gc"]);
    gc.env("CKNET_STATE", &deep);
    let gc = workplace.start(gc).ended(SOON).expect(0);
    assert!(gc.stdout.starts_with("0 open runs"), "{}", gc.stdout);
}

fn a_reader_that_has_had_enough() {
    let workplace = Workplace::new();
    let mut command = Command::new("bash");
    let script = "\"$CKNET\" list --cases | head -n 1; exit ${PIPESTATUS[0]}";
    command.args(["-c", script]).env("CKNET", env!("CARGO_BIN_EXE_cknet"));
    workplace.settle(&mut command);
    let ended = workplace.start(command).ended(SOON).expect(0);
    assert_eq!(ended.stderr, "");
    assert_eq!(ended.stdout.lines().count(), 1);
}

fn a_full_standard_output() {
    let workplace = Workplace::new();
    for arguments in [&["list"][..], &["schema"], &["status"], &["explain", "policy"], &["completions", "bash"]] {
        let mut command = workplace.cknet(arguments);
        command.stdout(File::options().write(true).open("/dev/full").unwrap()).stderr(std::process::Stdio::piped());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {said}");
        assert!(said.contains("standard output") && said.contains("No space left"), "{arguments:?}: `{said}`");
    }
}

/// A closed reader loses the text and not the run: the reports are whole, and the exit code says what was lost.
fn a_run_whose_reader_has_gone() {
    let workplace = Workplace::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = workplace.cknet(["run", "policy.deny-all-ingress", "--reports"]);
    command.arg(workplace.reports()).stdout(writer).stderr(std::process::Stdio::piped());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("terminal report"), "{said}");
    assert_eq!(workplace.outcomes().len(), 6);
    workplace.await_nothing_left();
}

fn a_run_without_standard_streams() {
    let workplace = Workplace::new();
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$CKNET\" run policy.deny-all-ingress --reports \"$REPORTS\" <&- >&- 2>&-"]);
    command.env("CKNET", env!("CARGO_BIN_EXE_cknet")).env("REPORTS", workplace.reports());
    workplace.settle(&mut command);
    let code = workplace.start(command).ended(SOON).code();
    // std opens /dev/null in their place, so nothing is lost that was wanted.
    assert_eq!(code, 0);
    assert!(written(&workplace.reports().join("TEST-cknet-all.xml")));
    workplace.await_nothing_left();
}

fn written(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|data| data.len() > 0 && data.permissions().mode() & 0o400 != 0)
}
