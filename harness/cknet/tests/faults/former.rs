//! What is done with former runs: `rerun` and `diff`, and the sharing out of scenarios, through the built executable.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use cknet::event::{Case as Judged, Detail, Event, ExpectationJudged, Fidelity, InfraKind, Outcome, RunStarted};
use cknet::event::{PlannedScenario, Severity};
use jiff::Timestamp;
use serde_json::Value;

use crate::workplace::Workplace;
use crate::{Case, Needs};

pub const TRIALS: &[Case] = &[
    (Needs::Nothing, "former::groups_are_shared_out_whole", groups_are_shared_out_whole),
    (
        Needs::Nothing,
        "former::jobs_are_planned_for_channels_that_there_are",
        jobs_are_planned_for_channels_that_there_are,
    ),
    (Needs::Nothing, "former::a_share_that_is_none_is_refused", a_share_that_is_none_is_refused),
    (Needs::Nothing, "former::a_comparison_names_what_changed", a_comparison_names_what_changed),
    (Needs::Nothing, "former::clusters_are_compared_with_their_like", clusters_are_compared_with_their_like),
    (Needs::Nothing, "former::what_is_no_run_is_refused", what_is_no_run_is_refused),
    (Needs::Nothing, "former::nothing_to_do_again", nothing_to_do_again),
    (Needs::Nothing, "former::a_run_is_done_again_as_it_was_begun", a_run_is_done_again_as_it_was_begun),
    (Needs::Namespaces, "former::what_failed_is_done_again", what_failed_is_done_again),
    (Needs::Namespaces, "former::a_run_that_was_killed_is_resumed", a_run_that_was_killed_is_resumed),
    (Needs::Namespaces, "former::a_share_of_a_run_names_itself", a_share_of_a_run_names_itself),
];

/// The id of a scenario of the suite and what its only case comes to; nothing where the run did not come to it.
type Outcomes<'a> = &'a [(&'a str, Option<Outcome>)];

fn refuted() -> Outcome {
    // What the machine could do and what was seen are of no interest here.
    Outcome::XPass { reason: "a defect that is gone".into(), reference: None }
}

fn broken() -> Outcome {
    Outcome::Error { kind: InfraKind::Provision, message: "no room".into() }
}

/// The event stream of a run with these outcomes.
fn stream(outcomes: Outcomes, variant: &[(&str, &str)]) -> String {
    let case = |id: &str| Judged {
        id: format!("{id}/p/e").into(),
        scenario: id.into(),
        phase: "p".into(),
        expectation: "e".into(),
        file: format!("scenarios/{}.yaml", id.replace('.', "/")),
        line: 1,
        claim: None,
        severity: Severity::Medium,
        owner: None,
    };
    let planned = |id: &str| PlannedScenario {
        id: id.into(),
        title: id.into(),
        file: format!("scenarios/{}.yaml", id.replace('.', "/")),
        cases: vec![case(id)],
    };
    let started = RunStarted {
        run: "r2gk0c47zq".parse().unwrap(),
        seed: 7,
        provider: "netns".into(),
        distribution: "reference".into(),
        fidelity: Fidelity::Model,
        host: "h".into(),
        kernel: "k".into(),
        arch: "a".into(),
        cni: None,
        versions: [].into(),
        variant: variant.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        shard: None,
        again: vec![],
        planned: outcomes.iter().map(|(id, _)| planned(id)).collect(),
    };
    let judged = outcomes.iter().filter_map(|(id, outcome)| {
        let (case, outcome) = (case(id), outcome.clone()?);
        let detail = Detail::default();
        let judged = ExpectationJudged { case, outcome, took_ms: 1, time_to_true_ms: None, samples: 1, detail };
        Some(Event::new(Timestamp::UNIX_EPOCH, judged))
    });
    let events = std::iter::once(Event::new(Timestamp::UNIX_EPOCH, started)).chain(judged);
    events.map(|event| serde_json::to_string(&event).unwrap() + "\n").collect()
}

impl Workplace {
    /// A folder with the event stream of a run.
    fn former(&self, name: &str, outcomes: Outcomes, variant: &[(&str, &str)]) -> PathBuf {
        let folder = self.path(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("events.ndjson"), stream(outcomes, variant)).unwrap();
        folder
    }
}

fn zipped(path: &Path, name: &str, text: &str) {
    let mut archive = zip::ZipWriter::new(File::create(path).unwrap());
    archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
    archive.write_all(text.as_bytes()).unwrap();
    archive.finish().unwrap();
}

fn tarred(path: &Path, name: &str, text: &str) {
    let packed = flate2::write::GzEncoder::new(File::create(path).unwrap(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(packed);
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, name, text.as_bytes()).unwrap();
    archive.into_inner().unwrap().finish().unwrap();
}

fn ids(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.split(' ').next()).map(String::from).collect()
}

fn groups_are_shared_out_whole() {
    let workplace = Workplace::new();
    let channels = ["--channel", "1.32-classic/stable", "--channel", "1.36-classic/stable"];
    let arguments = ["list", "--format", "gha-matrix", "--groups", "3"].iter().chain(&channels);
    let listed = workplace.run(arguments).expect(0).stdout;
    assert_eq!(listed.lines().count(), 1, "an output of a step is one line: {listed}");
    let matrix: Value = serde_json::from_str(&listed).unwrap();
    let jobs = matrix["include"].as_array().unwrap();
    assert_eq!(jobs.len(), 6);
    let all = ids(&workplace.run(["list"]).expect(0).stdout).len() as u64;
    for channel in ["1.32-classic/stable", "1.36-classic/stable"] {
        let on = jobs.iter().filter(|job| job["channel"] == channel);
        assert_eq!(on.map(|job| job["scenarios"].as_u64().unwrap()).sum::<u64>(), all);
    }
    assert_eq!(jobs[0]["id"], "1.32-classic-stable-1-3");
    assert_eq!(jobs[0]["partition"], "hash:1/3");
    // One scenario is one job, however many groups there may be.
    let one = ["list", "policy.deny-all-ingress", "--format", "gha-matrix", "--groups", "9"];
    let one: Value = serde_json::from_str(&workplace.run(one).expect(0).stdout).unwrap();
    assert_eq!(one["include"].as_array().unwrap().len(), 1);
    let refused = workplace.run(["list", "--groups", "2"]).expect(2);
    assert!(refused.stderr.contains("`--format gha-matrix`"), "{}", refused.stderr);
}

fn jobs_are_planned_for_channels_that_there_are() {
    let workplace = Workplace::new();
    let plan = ["list", "policy.deny-all-ingress", "--format", "gha-matrix"];
    let list = |more: &[&str]| workplace.run(plan.iter().chain(more));
    let both = list(&["--channel", "1.36-classic/edge", "--cni", "stock", "--cni", "calico"]).expect(0).stdout;
    let both: Value = serde_json::from_str(&both).unwrap();
    let told: Vec<_> = both["include"].as_array().unwrap().iter().map(|job| (&job["id"], &job["cni"])).collect();
    assert_eq!(
        told,
        [
            (&"1.36-classic-edge-stock-1-1".into(), &"stock".into()),
            (&"1.36-classic-edge-calico-1-1".into(), &"calico".into()),
        ] as [(&Value, &Value); 2]
    );
    for (wrong, words) in [
        (&["--channel", "1.36-classic/stabel"][..], "with stable, candidate, beta or edge"),
        (&["--channel", "latest/stable"], "names no version"),
        (&["--channel", "1.20/stable"], "1.32 to 1.36 are"),
        (&["--cni", "calico"], "--channel <CHANNEL>"),
        (&["--channel", "1.36-classic/edge", "--cni", "flannel"], "possible values"),
    ] {
        let refused = list(wrong).expect(2);
        assert!(refused.stderr.contains(words), "{wrong:?}: {}", refused.stderr);
    }
}

fn a_share_that_is_none_is_refused() {
    let workplace = Workplace::new();
    let refused = workplace.run(["run", "--partition", "hash:4/3"]).expect(2);
    assert!(refused.stderr.contains("counted from 1 to 3"), "{}", refused.stderr);
    let refused = workplace.run(["run", "--partition", "3"]).expect(2);
    assert!(refused.stderr.contains("write hash:1/3"), "{}", refused.stderr);
}

fn a_comparison_names_what_changed() {
    let workplace = Workplace::new();
    let (pass, xfail) = (Some(Outcome::Pass), Some(Outcome::XFail { reason: "known".into(), reference: None }));
    let before = workplace.former(
        "before",
        &[
            ("a.breaks", pass.clone()),
            ("a.mended", Some(refuted())),
            ("a.red", Some(refuted())),
            ("a.known", pass.clone()),
            ("a.lost", pass.clone()),
            ("a.cut", pass.clone()),
            ("a.gone", pass.clone()),
            ("a.same", pass.clone()),
        ],
        &[],
    );
    let after = workplace.former(
        "after",
        &[
            ("a.breaks", Some(refuted())),
            ("a.mended", pass.clone()),
            ("a.red", Some(refuted())),
            ("a.known", xfail),
            ("a.lost", Some(broken())),
            ("a.cut", None),
            ("a.same", pass.clone()),
            ("a.new", pass.clone()),
        ],
        &[],
    );
    let mut command = workplace.cknet(["diff"]);
    command.args([&before, &after]);
    let told = workplace.start(command).ended(crate::workplace::SOON).expect(1).stdout;
    assert_eq!(
        told,
        "newly failing: 1\n  a.breaks/p/e  pass, then xpass\n    a defect that is gone\n\
         no longer judged: 2\n  a.cut/p/e  pass, then aborted\n  a.lost/p/e  pass, then error\n    no room\n\
         still failing: 1\n  a.red/p/e  xpass, then xpass\n    a defect that is gone\n\
         newly passing: 1\n  a.mended/p/e  xpass, then pass\n\
         changed: 1\n  a.known/p/e  pass, then xfail\n    known\n\
         only in the first run: 1\n  a.gone/p/e  pass\n\
         only in the second run: 1\n  a.new/p/e  pass\n\
         the same in both: 2\n"
    );
    let diff = |before: &Path, after: &Path, format: &str| {
        let mut command = workplace.cknet(["diff", "--format", format]);
        command.args([before, after]);
        workplace.start(command).ended(crate::workplace::SOON)
    };
    let json: Value = serde_json::from_str(&diff(&before, &after, "json").expect(1).stdout).unwrap();
    assert_eq!(json["entries"][0]["change"], "newlyFailing");
    assert_eq!(json["entries"][0]["scenario"], "a.breaks");
    let course = |id: &str| {
        let all = json["scenarios"].as_array().unwrap();
        let one = all.iter().find(|one| one["scenario"] == id).unwrap();
        format!("{} {}", one["before"].as_str().unwrap_or("-"), one["after"].as_str().unwrap_or("-"))
    };
    assert_eq!(
        ["a.red", "a.mended", "a.known", "a.lost", "a.cut", "a.gone", "a.new"].map(course),
        ["refuted refuted", "refuted held", "held held", "held broken", "held broken", "held -", "- held"]
    );
    let page = diff(&before, &after, "markdown").expect(1).stdout;
    assert!(page.starts_with("### Newly failing (1)\n"), "{page}");
    assert!(diff(&after, &after, "text").expect(0).stdout.starts_with("still failing: 2"));
    let worse = workplace.former("worse", &[("a.same", Some(broken()))], &[]);
    let better = workplace.former("better", &[("a.same", pass)], &[]);
    diff(&better, &worse, "text").expect(3);
    diff(&worse, &better, "text").expect(0);
}

fn clusters_are_compared_with_their_like() {
    let workplace = Workplace::new();
    let (pass, fail) = (|| Some(Outcome::Pass), || Some(refuted()));
    let (old, new) = ([("channel", "1.32")], [("channel", "1.36")]);
    workplace.former("before/one", &[("a.b", pass())], &old);
    workplace.former("before/two", &[("a.b", fail())], &new);
    workplace.former("after/shards/one", &[("a.b", pass())], &old);
    workplace.former("after/shards/two", &[("a.b", pass())], &new);
    let told = workplace.run(["diff".into(), workplace.path("before"), workplace.path("after")]).expect(0).stdout;
    assert_eq!(told, "newly passing: 1\n  a.b/p/e [channel=1.36]  xpass, then pass\nthe same in both: 1\n");
    // One channel each: what differs between them is the question.
    let told = workplace.run(["diff".into(), workplace.path("before/one"), workplace.path("before/two")]);
    assert!(told.expect(1).stdout.starts_with("newly failing: 1\n  a.b/p/e  pass, then xpass\n"));
    let claims = workplace.run(["claims".into(), workplace.path("before")]).expect(2);
    assert!(claims.stderr.contains("2 runs are there"), "{}", claims.stderr);
}

fn what_is_no_run_is_refused() {
    let workplace = Workplace::new();
    fs::create_dir(workplace.path("empty")).unwrap();
    fs::write(workplace.path("torn.zip"), b"PK\x03\x04 and no more").unwrap();
    zipped(&workplace.path("other.zip"), "readme.md", "hello");
    zipped(&workplace.path("text.zip"), "events.ndjson", "hello\n");
    for (name, words) in [
        ("empty", "is neither a run nor a folder or an archive with `events.ndjson`"),
        ("nowhere", "is neither a run nor a folder or an archive with `events.ndjson`"),
        ("other.zip", "is neither a run nor a folder or an archive with `events.ndjson`"),
        ("torn.zip", "cannot read"),
        ("text.zip", "text.zip:events.ndjson:1` is not an event"),
    ] {
        let refused = workplace.run(["rerun".into(), workplace.path(name)]).expect(2);
        assert!(refused.stderr.contains(words), "{name}: {}", refused.stderr);
    }
}

fn nothing_to_do_again() {
    let workplace = Workplace::new();
    let passed = workplace.former("passed", &[("policy.deny-all-ingress", Some(Outcome::Pass))], &[]);
    let ended = workplace.run(["rerun".into(), passed]).expect(4);
    assert!(ended.stderr.contains("nothing failed in that run"), "{}", ended.stderr);
    let gone = workplace.former("gone", &[("policy.of-old", Some(refuted()))], &[]);
    let ended = workplace.run(["rerun".into(), gone]).expect(4);
    assert!(ended.stderr.contains("`policy.of-old` failed in that run, and there is no such"), "{}", ended.stderr);
}

fn what_failed_is_done_again() {
    let workplace = Workplace::new();
    let outcomes = [
        ("policy.deny-all-ingress", Some(refuted())),
        ("policy.ports", Some(Outcome::Pass)),
        ("firewall.vxlan-port-blocked", Some(Outcome::Pass)),
    ];
    let text = stream(&outcomes, &[]);
    zipped(&workplace.path("artifact.zip"), "reports-1-of-2/events.ndjson", &text);
    tarred(&workplace.path("artifact.tar.gz"), "reports/events.ndjson", &text);
    for archive in ["artifact.zip", "artifact.tar.gz"] {
        let mut command = workplace.cknet(["rerun", "--reports"]);
        command.arg(workplace.reports()).arg(workplace.path(archive));
        workplace.start(command).ended(crate::workplace::SOON).expect(0);
        let events = workplace.events();
        let planned = events[0]["planned"].as_array().unwrap();
        assert_eq!(
            planned.iter().map(|one| one["id"].as_str().unwrap()).collect::<Vec<_>>(),
            ["policy.deny-all-ingress"]
        );
        assert_eq!(events[0]["seed"], 7, "in the order of the run that failed");
    }
    workplace.await_nothing_left();
}

/// On machines that this machine cannot make: how a run begins is all that is looked at.
fn a_run_is_done_again_as_it_was_begun() {
    let workplace = Workplace::new();
    let run = |again: &str| {
        let failed = [("policy.deny-all-ingress", Some(refuted()))];
        let text = stream(&failed, &[("channel", "1.36-classic/stable"), ("cni", "calico")]);
        let (first, rest) = text.split_once('\n').unwrap();
        let mut started: Value = serde_json::from_str(first).unwrap();
        started["provider"] = "incus".into();
        started["host"] = fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().into();
        started["distribution"] = "canonical".into();
        started["again"] = again.split(' ').collect::<Vec<_>>().into();
        fs::write(workplace.path("events.ndjson"), format!("{started}\n{rest}")).unwrap();
        let mut command = workplace.cknet(["rerun", "--reports"]);
        command.arg(workplace.reports()).arg(workplace.path("events.ndjson"));
        command.env("INCUS_DIR", workplace.path("nowhere"));
        workplace.start(command).ended(crate::workplace::SOON)
    };
    let again = "cknet run policy.deny-all-ingress --distribution canonical --channel 1.36-classic/stable --cni calico \
                 --probe-image reg.example/probe:v1 --proxy http://proxy.example:3128 --no-proxy a.example,b.example \
                 --provider incus --machine-image node --machine-has bird,firewalld --machine-network br0 --seed 7";
    run(again).expect(3);
    let told: Vec<String> = serde_json::from_value(workplace.events()[0]["again"].clone()).unwrap();
    assert_eq!(told.join(" "), again);
    let elsewhere = run(&again.replace(" --seed", " --images /of/another/machine.tar --seed")).expect(3);
    assert!(elsewhere.stderr.contains("the file `/of/another/machine.tar`, which is not here"), "{}", elsewhere.stderr);
    let package = |name: &str| {
        let path = workplace.path(name);
        fs::write(&path, "").unwrap();
        format!("--package {}", path.display())
    };
    let (snap, base) = (package("k8s.snap"), package("core22.snap"));
    let files = again.replace(" --provider", &format!(" {snap} {base} --provider"));
    run(&files).expect(3);
    let told: Vec<String> = serde_json::from_value(workplace.events()[0]["again"].clone()).unwrap();
    assert_eq!(told.join(" "), files);
    let without = run(&files.replace("/k8s.snap", "/gone.snap")).expect(3);
    assert!(without.stderr.contains("/gone.snap`, which is not here"), "{}", without.stderr);
    let told: Vec<String> = serde_json::from_value(workplace.events()[0]["again"].clone()).unwrap();
    assert_eq!(told.join(" "), again, "a base is no product");
    let hidden = run(&again.replace("proxy.example", "***@proxy.example")).expect(2);
    assert!(hidden.stderr.contains("name it with --proxy"), "{}", hidden.stderr);
    let older = run("cknet run --walk").expect(2);
    assert!(older.stderr.contains("does not say how it was begun"), "{}", older.stderr);
}

fn a_run_that_was_killed_is_resumed() {
    let workplace = Workplace::new();
    let arguments =
        ["run", "policy.deny-all-ingress", "policy.ports", "firewall.vxlan-port-blocked", "--clusters", "1"];
    let mut run = workplace.start(workplace.cknet(arguments));
    let events = || -> Vec<Value> {
        let streams = workplace.runs().into_iter().map(|run| run.join("events.ndjson"));
        let text: String = streams.filter_map(|stream| fs::read_to_string(stream).ok()).collect();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    crate::workplace::until("the first scenario is done", crate::workplace::SOON, || {
        events().iter().any(|event| event["event"] == "scenario-finished").then_some(())
    });
    run.child.kill().unwrap();
    run.child.wait().unwrap();
    workplace.await_nothing_left();
    let killed = events();
    let judged =
        |id: &Value| killed.iter().any(|event| event["event"] == "expectation-judged" && event["case"]["id"] == *id);
    let ids = |of: &Value| -> Vec<Value> { of.as_array().unwrap().iter().map(|one| one["id"].clone()).collect() };
    let planned = killed[0]["planned"].as_array().unwrap();
    let (done, left): (Vec<_>, Vec<_>) =
        planned.iter().partition(|scenario| ids(&scenario["cases"]).iter().all(judged));
    assert!(!done.is_empty() && !left.is_empty(), "{done:?} {left:?}");
    let mut rest = workplace.cknet(["rerun", killed[0]["run"].as_str().unwrap(), "--reports"]);
    rest.arg(workplace.reports());
    workplace.start(rest).ended(crate::workplace::SOON).expect(0);
    let mut again = ids(&workplace.events()[0]["planned"]);
    let mut left: Vec<_> = left.into_iter().map(|scenario| scenario["id"].clone()).collect();
    again.sort_by_key(Value::to_string);
    left.sort_by_key(Value::to_string);
    assert_eq!(again, left, "what was never come to, and nothing that had passed");
    // Nothing is left to do of the two together, and the first is closed by the collection alone.
    workplace.run(["rerun".into(), workplace.reports()]).expect(4);
    workplace.run(["gc"]).expect(0);
    workplace.await_nothing_left();
}

fn a_share_of_a_run_names_itself() {
    let workplace = Workplace::new();
    let run = |share: &str| {
        let mut command = workplace.cknet(["run", "policy.deny-all-ingress", "--partition", share, "--reports"]);
        command.arg(workplace.reports());
        workplace.start(command).ended(crate::workplace::SOON)
    };
    // The share that has it is fixed for ever.
    let empty = run("hash:1/4").expect(4);
    assert!(empty.stderr.contains("no selected scenario is in the share `hash:1/4`"), "{}", empty.stderr);
    run("hash:4/4").expect(0);
    assert!(workplace.reports().join("TEST-cknet-hash-4-4.xml").is_file());
    let started = &workplace.events()[0];
    assert_eq!(started["shard"], "hash:4/4");
    assert!(started["again"].to_string().contains(r#""--partition","hash:4/4""#), "{}", started["again"]);
    workplace.await_nothing_left();
}
