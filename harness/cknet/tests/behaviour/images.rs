//! Containers of public test images, and the words of their programs.

use libtest_mimic::Trial;
use serde_json::json;

use super::stand::{AGNHOST, eventually, shared};
use super::trial;

/// A complete name that the cluster's servers know not to be there, without asking others.
const NOBODY: &str = "nobody.default.svc.cluster.local.";

pub fn trials() -> Vec<Trial> {
    vec![
        trial("images::agnhost_answers_and_asks", agnhost_answers_and_asks),
        trial("images::busybox_has_its_networking_commands", busybox_has_its_networking_commands),
        trial("images::curl_says_what_came_back", curl_says_what_came_back),
        trial("images::the_machine_is_not_written_to", the_machine_is_not_written_to),
    ]
}

fn agnhost_answers_and_asks() {
    let space = shared().space("agnhost");
    space.run("server", AGNHOST, "w1", &[], &["netexec", "--http-port=8080", "--udp-port=8081"]);
    space.run("client", AGNHOST, "cp1", &[], &[]);
    space.apply(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ports"},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
            "name": "porter", "image": "docker.io/library/agnhost", "args": ["porter"],
            "env": [{"name": "SERVE_PORT_80", "value": "eighty"}, {"name": "SERVE_UDP_PORT_81", "value": "udp"}],
        }]},
    }));
    space.await_ready(&["server", "client", "ports"]);
    let (server, ports) = (space.address("server"), space.address("ports"));
    space.see(&[
        ("client", &format!("{server}:8080"), "allowed"),
        ("client", &format!("{server}:8081 --protocol=udp"), "allowed"),
        ("client", &format!("{server}:80 --protocol=tcp"), "REFUSED"),
        ("client", &format!("{server}:80 --protocol=udp"), "REFUSED: read udp "),
        ("client", &format!("{ports}:80"), "allowed"),
        ("client", &format!("{ports}:81 --protocol=udp"), "allowed"),
        ("client", &format!("{NOBODY}:80"), &format!("DNS: lookup {NOBODY} on 10.152.183.10:53: no such host")),
        ("client", "nobody", "UNKNOWN: address nobody: missing port in address"),
    ]);
    let asked = |path: &str| space.exec("client", &format!("curl -g -q -s http://{server}:8080{path}")).out;
    assert_eq!(asked("/hostname"), "server");
    assert_eq!(asked("/echo?msg=hello"), "hello");
    assert!(asked("/clientip").starts_with(&format!("{}:", space.address("client"))));
    let dialled = asked(&format!("/dial?request=hostname&protocol=udp&host={server}&port=8081&tries=2"));
    assert_eq!(dialled, r#"{"responses":["server","server"]}"#);
    assert_eq!(asked("/shell?cmd=echo+hi"), r#"{"output":"hi\n"}"#);
    assert_eq!(space.exec("client", &format!("wget -qO- http://{ports}")).out, "eighty");
    let suffixes = space.exec("client", "/agnhost dns-suffix").out;
    assert_eq!(suffixes, "agnhost.svc.cluster.local,svc.cluster.local,cluster.local\n");
    assert_eq!(space.exec("client", "/agnhost dns-server-list").out, "10.152.183.10\n");
    let looped = "for i in 1 2; do /agnhost connect SERVER --timeout=1s && exit 0 || sleep 1; done; exit 1";
    assert_eq!(space.sh("client", &looped.replace("SERVER", &format!("{server}:8080"))).code, 0);
}

fn busybox_has_its_networking_commands() {
    let space = shared().space("busybox");
    space.run("web", "nginx:1.27-alpine", "w1", &[("app", "web")], &[]);
    space.run("db", "redis:7", "w1", &[("app", "db")], &[]);
    space.run("client", "busybox:1.36", "cp1", &[], &["sleep", "3600"]);
    space.expose("web", ("app", "web"), 80, 80);
    space.await_ready(&["web", "client", "db"]);
    let said = |line: &str| {
        let done = space.exec("client", line);
        (done.code, done.out, done.err)
    };
    eventually("the service answers", || match said("wget -qO- --timeout=2 http://web") {
        (0, page, _) if page.contains("<h1>Welcome to nginx!</h1>") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let (code, _, err) = said("wget -O /dev/null http://web/nope");
    let address = space.cluster_ip("web");
    let expected = format!("Connecting to web ({address}:80)\nwget: server returned error: HTTP/1.1 404 Not Found\n");
    assert_eq!((code, err), (1, expected));
    let (code, _, err) = said(&format!("wget -qO- -T 2 http://{NOBODY}"));
    assert_eq!((code, err), (1, format!("wget: bad address '{NOBODY}'\n")));
    let pod = space.address("web");
    assert_eq!(said(&format!("nc -zv -w 2 {pod} 80")), (0, String::new(), format!("{pod} ({pod}:80) open\n")));
    let refused = format!("nc: {pod} ({pod}:81): Connection refused\n");
    assert_eq!(said(&format!("nc -zv -w 2 {pod} 81")), (1, String::new(), refused));
    let (code, out, _) = said(&format!("ping -c 1 -W 2 {pod}"));
    assert!(code == 0 && out.contains("1 packets transmitted, 1 packets received, 0% packet loss"), "{out}");
    let (code, out, _) = said("nslookup web.busybox.svc.cluster.local");
    assert!(code == 0 && out.contains(&format!("Name:\tweb.busybox.svc.cluster.local\nAddress: {address}\n")), "{out}");
    let (code, out, _) = said(&format!("nslookup {NOBODY}"));
    assert!(code == 1 && out.contains(&format!("** server can't find {NOBODY}: NXDOMAIN")), "{out}");
    let ping = space.sh("client", &format!("echo PING | nc -w 1 {} 6379", space.address("db")));
    assert_eq!(ping.out, "+PONG\r\n");
    let listened = "nc -l -p 9000 > /tmp/heard & sleep 1; echo hello | nc -w 1 127.0.0.1 9000; wait; cat /tmp/heard";
    assert_eq!(space.sh("client", listened).out, "hello\n");
    let served = "mkdir /tmp/www; echo page > /tmp/www/index.html; busybox httpd -p 8000 -h /tmp/www & sleep 1; \
                  wget -qO- http://localhost:8000; kill $!";
    assert_eq!(space.sh("client", served).out, "page\n");
}

fn curl_says_what_came_back() {
    let space = shared().space("curl");
    space.run("web", "nginx", "w1", &[], &[]);
    space.run("client", "curlimages/curl:8.8.0", "cp1", &[], &["sleep", "infinity"]);
    space.await_ready(&["web", "client"]);
    let web = space.address("web");
    let code = |line: &str| {
        let done = space.exec("client", &format!("curl -s -o /dev/null -w %{{http_code}} -m 2 {line}"));
        (done.code, done.out)
    };
    assert_eq!(code(&format!("http://{web}")), (0, "200".into()));
    assert_eq!(code(&format!("--connect-timeout 1 http://{web}:81")), (7, "000".into()));
    assert_eq!(code(&format!("http://{NOBODY}")), (6, "000".into()));
    let failed = space.exec("client", &format!("curl -sS http://{web}:81"));
    assert!(failed.err.starts_with(&format!("curl: (7) Failed to connect to {web} port 81 after ")), "{}", failed.err);
}

fn the_machine_is_not_written_to() {
    let space = shared().space("root");
    space.run("one", "alpine", "w1", &[], &["sleep", "3600"]);
    space.await_ready(&["one"]);
    assert_ne!(space.sh("one", "touch /usr/cknet-was-here").code, 0);
    assert_eq!(space.sh("one", "echo kept > /tmp/mine; cat /tmp/mine").out, "kept\n");
    assert_eq!(space.exec("one", "which wget").out, "/.cknet/bin/wget\n");
    assert_eq!(space.exec("one", "hostname").out, "one\n");
}
