#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use rstest::rstest;
use serde_json::json;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn ended(exit_code: i32) -> State {
    State::Terminated(Termination {
        exit_code,
        signal: None,
        reason: "x".into(),
        message: None,
        began: Some(at(0)),
        ended: at(1),
        container: None,
    })
}

fn container(state: State, ran_before: bool) -> ContainerView {
    let last = match ended(1) {
        State::Terminated(end) if ran_before => Some(end),
        _ => None,
    };
    let ready = matches!(state, State::Running { .. });
    ContainerView { state, last, ready, started: ready, ..ContainerView::waiting("c", "cknet-probe", "x") }
}

fn waiting() -> ContainerView {
    ContainerView::waiting("c", "cknet-probe", "ContainerCreating")
}

fn running() -> ContainerView {
    container(State::Running { since: at(0) }, false)
}

fn view(init: Vec<ContainerView>, main: Vec<ContainerView>) -> PodView {
    PodView { since: at(0), sandboxed: true, address: Some(Ipv4Addr::new(10, 1, 0, 5)), init, main }
}

use RestartPolicy::{Always, Never, OnFailure};

#[rstest]
#[case::nothing_yet(Always, vec![waiting()], "Pending")]
#[case::one_still_waits(Always, vec![running(), waiting()], "Pending")]
#[case::up(Always, vec![running()], "Running")]
#[case::between_attempts(Always, vec![container(waiting().state, true)], "Running")]
#[case::ended_but_comes_back(Always, vec![container(ended(0), false)], "Running")]
#[case::one_ended_one_runs(Never, vec![container(ended(1), false), running()], "Running")]
#[case::all_well(Never, vec![container(ended(0), false), container(ended(0), false)], "Succeeded")]
#[case::one_failed(Never, vec![container(ended(0), false), container(ended(3), false)], "Failed")]
#[case::failed_but_comes_back(OnFailure, vec![container(ended(3), false)], "Running")]
#[case::done_on_failure(OnFailure, vec![container(ended(0), true)], "Succeeded")]
fn the_phase_follows_the_containers(
    #[case] policy: RestartPolicy,
    #[case] main: Vec<ContainerView>,
    #[case] expected: &str,
) {
    assert_eq!(phase(&view(vec![], main), policy), expected);
}

#[rstest]
#[case::not_yet(Always, waiting(), "Pending")]
#[case::failed_for_good(Never, container(ended(1), false), "Failed")]
#[case::failed_once(Always, container(ended(1), false), "Pending")]
#[case::done(Always, container(ended(0), false), "Running")]
#[case::sidecar(Always, running(), "Running")]
fn init_containers_come_first(#[case] policy: RestartPolicy, #[case] init: ContainerView, #[case] expected: &str) {
    assert_eq!(phase(&view(vec![init], vec![running()]), policy), expected);
}

#[rstest]
#[case(Always, 0, true)]
#[case(OnFailure, 0, false)]
#[case(OnFailure, 1, true)]
#[case(Never, 1, false)]
fn the_policy_decides_about_restarts(#[case] policy: RestartPolicy, #[case] code: i32, #[case] expected: bool) {
    assert_eq!(policy.restarts(code), expected);
}

fn pod() -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": []}})).unwrap()
}

fn told<'a>(status: &'a PodStatus, kind: &str) -> &'a PodCondition {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind).expect("the condition is there")
}

#[test]
fn a_running_pod_looks_as_recorded() {
    let status = pod_status(&pod(), &view(vec![], vec![running()]), Ipv4Addr::new(10, 0, 0, 1), &[], at(9));
    let kinds: Vec<&str> = status.conditions.iter().flatten().map(|condition| condition.type_.as_str()).collect();
    assert_eq!(kinds, ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"]);
    assert!(status.conditions.iter().flatten().all(|condition| condition.status == "True"));
    let value = serde_json::to_value(&status).unwrap();
    assert_eq!(value["podIPs"], json!([{"ip": "10.1.0.5"}]));
    assert_eq!(value["hostIPs"], json!([{"ip": "10.0.0.1"}]));
    assert_eq!(value["containerStatuses"][0]["state"], json!({"running": {"startedAt": "2027-01-15T08:00:00Z"}}));
    assert_eq!(value["containerStatuses"][0]["lastState"], json!({}));
}

#[test]
fn a_condition_keeps_the_time_of_its_last_change() {
    let host = Ipv4Addr::new(10, 0, 0, 1);
    let first = pod_status(&pod(), &view(vec![], vec![waiting()]), host, &[], at(1));
    let before = first.conditions.clone().unwrap();
    let second = pod_status(&pod(), &view(vec![], vec![running()]), host, &before, at(5));
    assert_eq!(told(&second, "Ready").last_transition_time, Some(Time(at(5))));
    assert_eq!(told(&second, "Initialized").last_transition_time, Some(Time(at(1))));
}

#[test]
fn what_is_not_ready_is_named() {
    let host = Ipv4Addr::new(10, 0, 0, 1);
    let status = pod_status(&pod(), &view(vec![waiting()], vec![waiting()]), host, &[], at(1));
    let initialized = told(&status, "Initialized");
    assert_eq!(initialized.message.as_deref(), Some("containers with incomplete status: [c]"));
    let ready = told(&status, "Ready");
    assert_eq!((ready.status.as_str(), ready.reason.as_deref()), ("False", Some("ContainersNotReady")));
    assert_eq!(ready.message.as_deref(), Some("containers with unready status: [c]"));
}

#[test]
fn a_completed_pod_is_not_ready_because_it_is_completed() {
    let mut pod = pod();
    pod.spec.as_mut().unwrap().restart_policy = Some("Never".into());
    let view = view(vec![], vec![container(ended(0), false)]);
    let status = pod_status(&pod, &view, Ipv4Addr::new(10, 0, 0, 1), &[], at(1));
    assert_eq!(status.phase.as_deref(), Some("Succeeded"));
    assert_eq!(told(&status, "Ready").reason.as_deref(), Some("PodCompleted"));
    assert_eq!(told(&status, "Initialized").status, "True");
}

#[test]
fn a_readiness_gate_holds_the_pod_back_but_not_its_containers() {
    let mut pod = pod();
    pod.spec.as_mut().unwrap().readiness_gates = serde_json::from_value(json!([{"conditionType": "x/open"}])).unwrap();
    let host = Ipv4Addr::new(10, 0, 0, 1);
    let status = pod_status(&pod, &view(vec![], vec![running()]), host, &[], at(1));
    assert_eq!(told(&status, "ContainersReady").status, "True");
    assert_eq!(told(&status, "Ready").reason.as_deref(), Some("ReadinessGatesNotReady"));
    pod.status = serde_json::from_value(json!({"conditions": [{"type": "x/open", "status": "True"}]})).unwrap();
    let status = pod_status(&pod, &view(vec![], vec![running()]), host, &[], at(1));
    assert_eq!(told(&status, "Ready").status, "True");
}

#[test]
fn a_successor_inherits_restarts() {
    let mut before = container(State::Running { since: at(0) }, true);
    before.restarts = 3;
    let mut after = waiting();
    after.inherit(&before.status());
    assert_eq!((after.restarts, after.last), (3, before.last));
}
