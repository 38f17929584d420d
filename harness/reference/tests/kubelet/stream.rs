//! Exec, attach and logs through the API server, with the kube client and with kubectl.

use std::process::{Command, Output};
use std::time::Duration;

use futures::{AsyncBufReadExt, StreamExt};
use kube::api::{AttachParams, LogParams};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::node::{DEADLINE, TestNode, container, eventually, on_a_node, shell};

async fn read(stream: Option<impl tokio::io::AsyncRead + Unpin>) -> String {
    let mut text = String::new();
    if let Some(mut stream) = stream {
        stream.read_to_string(&mut text).await.unwrap();
    }
    text
}

/// Output, errors and the exit code of a command in pod `web`.
async fn exec(node: &TestNode, command: &[&str], input: Option<&[u8]>) -> (String, String, serde_json::Value) {
    let parameters = AttachParams::default().stdin(input.is_some());
    let work = async {
        let mut process = node.pods().exec("web", command.to_vec(), &parameters).await.unwrap();
        let status = process.take_status().unwrap();
        let (stdout, stderr) = (process.stdout(), process.stderr());
        let stdin = process.stdin();
        let feed = async {
            if let (Some(mut stdin), Some(input)) = (stdin, input) {
                // A program that reads nothing may be gone before all is written.
                let _ = stdin.write_all(input).await;
                let _ = stdin.shutdown().await;
            }
        };
        // The client's way in does not notice that the other side is gone, so its end is not waited for.
        let fed = async {
            feed.await;
            std::future::pending::<()>().await;
        };
        let (stdout, stderr) = tokio::select! {
            output = async { tokio::join!(read(stdout), read(stderr)) } => output,
            () = fed => unreachable!("it never ends"),
        };
        (stdout, stderr, serde_json::to_value(status.await).unwrap())
    };
    tokio::time::timeout(DEADLINE, work).await.unwrap_or_else(|_| panic!("{command:?} did not end"))
}

#[test]
fn a_command_has_its_own_streams_and_code() {
    on_a_node(async |node| {
        node.create("web", container(json!({}))).await;
        node.await_running("web").await;
        let (out, err, status) = exec(&node, &["sh", "-c", "echo out; echo err >&2; exit 4"], None).await;
        assert_eq!((out.as_str(), err.as_str()), ("out\n", "err\n"));
        assert_eq!(status["reason"], "NonZeroExitCode");
        assert_eq!(status["details"]["causes"][0], json!({"reason": "ExitCode", "message": "4"}));

        let (out, _, status) = exec(&node, &["cat"], Some(b"typed")).await;
        assert_eq!((out.as_str(), &status["status"]), ("typed", &json!("Success")));
        let (out, _, _) = exec(&node, &["uname", "-n"], None).await;
        assert_eq!(out, "web\n");
        let (out, _, _) = exec(&node, &["/agnhost", "connect", "10.0.0.1:80"], None).await;
        assert_eq!(out, "started: connect 10.0.0.1:80\n");

        let (_, _, status) = exec(&node, &["nope"], None).await;
        let message = status["message"].as_str().unwrap();
        assert!(message.starts_with("Internal error occurred: error executing command in container: "), "{message}");
        assert!(message.contains("exec: \"nope\": executable file not found in $PATH"), "{message}");
    });
}

#[test]
fn much_data_goes_both_ways() {
    on_a_node(async |node| {
        node.create("web", container(json!({}))).await;
        node.await_running("web").await;
        let input = vec![b'x'; 3 << 20];
        let (out, _, status) = exec(&node, &["cat"], Some(&input)).await;
        assert_eq!((out.len(), &status["status"]), (input.len(), &json!("Success")));
        // Who does not read its input is no obstacle.
        let (out, _, _) = exec(&node, &["echo", "done"], Some(&input)).await;
        assert_eq!(out, "done\n");
    });
}

#[test]
fn a_client_that_leaves_takes_its_command_along() {
    on_a_node(async |node| {
        node.create("web", container(json!({}))).await;
        node.await_running("web").await;
        let command = ["sh", "-c", "echo $$; sleep 600 & exec sleep 600"];
        let mut process = node.pods().exec("web", command, &AttachParams::default()).await.unwrap();
        let mut line = [0; 32];
        let count = process.stdout().unwrap().read(&mut line).await.unwrap();
        let pid: i32 = std::str::from_utf8(&line[..count]).unwrap().trim().parse().unwrap();
        assert!(living_in_group(pid) > 0);
        process.abort();
        drop(process);
        eventually("the group's end", async || (living_in_group(pid) == 0).then_some(())).await;
    });
}

#[test]
fn a_terminal_has_a_size_and_job_control() {
    on_a_node(async |node| {
        node.create("web", container(json!({}))).await;
        node.await_running("web").await;
        let parameters = AttachParams::interactive_tty();
        let mut process = node.pods().exec("web", ["sh"], &parameters).await.unwrap();
        let mut size = process.terminal_size().unwrap();
        let status = process.take_status().unwrap();
        size.try_send(kube::api::TerminalSize { width: 101, height: 33 }).unwrap();
        let (mut stdin, mut stdout) = (process.stdin().unwrap(), process.stdout().unwrap());
        let mut seen = String::new();
        let mut await_text = async |seen: &mut String, text: &str| {
            let reading = async {
                while !seen.contains(text) {
                    let mut block = [0; 1024];
                    let count = stdout.read(&mut block).await.unwrap();
                    assert!(count > 0, "the terminal ended: {seen}");
                    seen.push_str(&String::from_utf8_lossy(&block[..count]));
                }
            };
            tokio::time::timeout(DEADLINE, reading).await.unwrap_or_else(|_| panic!("`{text}` was not seen"));
        };
        // The size arrives on its own way; asked until it is there.
        stdin.write_all(b"until stty size | grep '33 101'; do :; done; tty\n").await.unwrap();
        await_text(&mut seen, "/dev/pts/").await;
        stdin.write_all(b"sleep 600; echo after=$?\n").await.unwrap();
        await_text(&mut seen, "echo after").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        stdin.write_all(b"\x03").await.unwrap();
        stdin.write_all(b"exit 7\n").await.unwrap();
        let status = serde_json::to_value(tokio::time::timeout(DEADLINE, status).await.unwrap()).unwrap();
        assert_eq!(status["details"]["causes"][0]["message"], "7");
    });
}

#[test]
fn a_log_is_followed_to_the_end_of_the_container() {
    on_a_node(async |node| {
        let mut spec = shell("for i in 1 2 3 4 5; do echo line $i; sleep 0.05; done");
        spec["restartPolicy"] = json!("Never");
        node.create("teller", spec).await;
        node.await_pod("teller", "begun", |pod| !pod["status"]["containerStatuses"][0]["containerID"].is_null()).await;
        let follow = LogParams { follow: true, ..LogParams::default() };
        let lines = node.pods().log_stream("teller", &follow).await.unwrap().lines();
        let all = tokio::time::timeout(DEADLINE, lines.map(Result::unwrap).collect::<Vec<String>>()).await.unwrap();
        assert_eq!(all, ["line 1", "line 2", "line 3", "line 4", "line 5"]);
        let last = LogParams { tail_lines: Some(2), timestamps: true, ..LogParams::default() };
        let text = node.pods().logs("teller", &last).await.unwrap();
        let words: Vec<&str> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
        assert_eq!(words, ["line 4", "line 5"]);
    });
}

#[test]
fn the_output_can_be_attached_to() {
    on_a_node(async |node| {
        node.create("web", shell("while :; do echo tick; sleep 0.02; done")).await;
        node.await_running("web").await;
        let mut process = node.pods().attach("web", &AttachParams::default()).await.unwrap();
        let mut block = [0; 5];
        tokio::time::timeout(DEADLINE, process.stdout().unwrap().read_exact(&mut block)).await.unwrap().unwrap();
        assert_eq!(&block, b"tick\n");
    });
}

#[test]
fn nobody_comes_in_without_the_token() {
    on_a_node(async |node| {
        use kube::runtime::wait::await_condition;
        let nodes: kube::Api<k8s_openapi::api::core::v1::Node> = kube::Api::all(node.client.clone());
        await_condition(nodes, "n1", |node: Option<&k8s_openapi::api::core::v1::Node>| node.is_some()).await.unwrap();
        let url = format!("https://127.0.0.1:{}/pods", node.kubelet_port);
        let ca = node.folder.join("ca.pem").display().to_string();
        let curl = |token: Option<&str>| {
            let mut command = Command::new("curl");
            command.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", &ca, &url]);
            if let Some(token) = token {
                command.args(["-H", &format!("Authorization: Bearer {token}")]);
            }
            run(command)
        };
        let Some(anonymous) = curl(None).await else {
            eprintln!("ignored: curl is not installed");
            return;
        };
        assert_eq!(String::from_utf8_lossy(&anonymous.stdout), "401");
        let wrong = curl(Some("wrong")).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&wrong.stdout), "401");
        let right = curl(Some(crate::node::KUBELET_TOKEN)).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&right.stdout), "200");
    });
}

/// How many processes of a group are alive; the dead ones wait for an init that a test has not.
fn living_in_group(group: i32) -> usize {
    let stats = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read_to_string(entry.unwrap().path().join("stat")).ok());
    stats
        .filter(|stat| {
            let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
            fields[0] != "Z" && fields[2] == group.to_string()
        })
        .count()
}

/// Runs a program beside the servers, which share this thread; `None` when it is not installed.
async fn run(mut command: Command) -> Option<Output> {
    let running = tokio::task::spawn_blocking(move || command.output());
    match tokio::time::timeout(DEADLINE, running).await.expect("the program ends").unwrap() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        outcome => Some(outcome.unwrap()),
    }
}

#[test]
fn kubectl_is_served() {
    on_a_node(async |node| {
        node.create("web", container(json!({}))).await;
        node.await_running("web").await;
        let kubectl = async |arguments: &[&str]| {
            let mut command = Command::new(std::env::var("CKNET_KUBECTL").unwrap_or_else(|_| "kubectl".into()));
            command.arg("--kubeconfig").arg(&node.kubeconfig).args(arguments);
            // No answers of an API server that another test had on the same port.
            command.arg("--cache-dir").arg(node.folder.join("cache"));
            run(command).await
        };
        let Some(logs) = kubectl(&["logs", "web"]).await else {
            let required = std::env::var("CKNET_REQUIRE").is_ok_and(|list| list.contains("kubectl"));
            assert!(!required, "CKNET_REQUIRE names kubectl, but there is none");
            eprintln!("ignored: kubectl is not installed");
            return;
        };
        assert!(String::from_utf8_lossy(&logs.stdout).contains("started: probe serve"), "{logs:?}");
        let code = kubectl(&["exec", "web", "--", "sh", "-c", "echo hello; exit 3"]).await.unwrap();
        assert_eq!(code.status.code(), Some(3), "{code:?}");
        assert_eq!(String::from_utf8_lossy(&code.stdout), "hello\n");
        let missing = kubectl(&["exec", "web", "--", "nope"]).await.unwrap();
        let text = String::from_utf8_lossy(&missing.stderr);
        assert!(text.starts_with("error: Internal error occurred: "), "{text}");
        assert!(text.contains("executable file not found in $PATH"), "{text}");
        let described = kubectl(&["describe", "pod", "web"]).await.unwrap();
        assert!(String::from_utf8_lossy(&described.stdout).contains("Started container c"), "{described:?}");
        let forwarded = kubectl(&["port-forward", "pod/web", "18080:80"]).await;
        assert_ne!(forwarded.unwrap().status.code(), Some(0));
    });
}
