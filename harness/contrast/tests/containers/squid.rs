//! A real squid, and what comes through it: the document's proxy with `NO_PROXY`, asked by a real curl and by the
//! project's own clients. Squid's log decides.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::process::{Child, Command};

use cknet_images::registry::{self, Reference};
use libtest_mimic::Trial;

use crate::engine::{self, Container, Need, SOON, address, done, put, shell, until};

/// The first argument with which this executable is one of the images' programs.
pub const AS: &str = "as";

const IMAGE: &str = "cknet/squid:fixture";
const LOG: &str = "/var/log/squid/access.log";

pub fn trials() -> Vec<Trial> {
    let need = Need::Own(IMAGE);
    vec![
        engine::trial("squid::what_no_proxy_excepts_is_not_in_the_log", need, no_proxy),
        engine::trial("squid::tunnels_lead_to_the_ports_of_tls", need, tunnels),
        engine::trial("squid::images_are_pulled_through_it", need, pulls),
    ]
}

/// squid with Debian's configuration, and what its comments say to add for clients of the same network.
struct Squid {
    container: Container,
    address: IpAddr,
}

impl Squid {
    async fn start() -> Self {
        let container = engine::idle(IMAGE, |request| request).await;
        let address = address(&container).await;
        let own = format!(
            "http_access allow localnet\naccess_log stdio:{LOG}\nlogfile_rotate 0\npinger_enable off\n\
             max_filedescriptors 1024\nshutdown_lifetime 0 seconds"
        );
        put(&container, "/etc/squid/conf.d/cknet.conf", &own).await;
        done(&container, "squid").await;
        until("squid answers", SOON, async || {
            tokio::net::TcpStream::connect((address, 3128)).await.map(drop).map_err(|error| error.to_string())
        })
        .await;
        Self { container, address }
    }

    fn url(&self) -> String {
        format!("http://{}:3128", self.address)
    }

    /// The log, once it has a text.
    async fn log_with(&self, text: &str) -> String {
        let mut log = String::new();
        until(&format!("squid's log has `{text}`"), SOON, async || {
            log = done(&self.container, &format!("cat {LOG}")).await;
            if log.contains(text) { Ok(()) } else { Err(log.clone()) }
        })
        .await;
        log
    }
}

/// A container with web servers at 80 and 443, neither with TLS, in which a real curl can be run too.
async fn web() -> Container {
    let web = engine::idle(IMAGE, |request| request).await;
    done(&web, "mkdir -p /srv/web && echo welcome >/srv/web/index.html").await;
    for port in [80, 443] {
        done(&web, &format!("busybox httpd -p {port} -h /srv/web")).await;
    }
    web
}

/// The project's curl as a process with these variables alone: its exit code, and what it printed.
async fn own_curl(variables: &[(&str, &str)], arguments: &[&str]) -> (i64, String) {
    let mut command = Command::new(std::env::current_exe().expect("this executable"));
    command.args([AS, "curl"]).args(arguments).env_clear().envs(variables.iter().copied());
    let run = tokio::task::spawn_blocking(move || command.output()).await.expect("a thread").expect("our curl");
    let text = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    (run.status.code().map_or(-1, i64::from), text)
}

/// The real curl, in a container.
async fn real_curl(container: &Container, variables: &[(&str, &str)], arguments: &[&str]) -> (i64, String) {
    let variables = variables.iter().map(|(name, value)| format!("{name}='{value}'")).collect::<Vec<_>>();
    shell(container, &format!("env {} curl {}", variables.join(" "), arguments.join(" "))).await
}

/// One list per case, read by both curls: an answer in any case, and a line in squid's log only if nothing excepted it.
async fn no_proxy() {
    let (squid, web) = (Squid::start().await, web().await);
    let client = engine::idle(IMAGE, |request| request).await;
    let target = address(&web).await;
    let block = format!("{}/16", target);
    let wide = format!("10.1.0.0/16,10.152.183.0/24,.svc,{block}");
    let with_port = format!("{target}:80");
    let target_alone = target.to_string();
    let spaced = format!("10.1.0.0/16 {target}");
    // The list, and whether it excepts the address of the web server.
    let cases = [
        ("", false),
        ("10.1.0.0/16,10.152.183.0/24,.svc", false),
        (wide.as_str(), true),
        (block.as_str(), true),
        (target_alone.as_str(), true),
        (spaced.as_str(), true),
        (with_port.as_str(), false),
        ("*", true),
    ];
    let proxy = squid.url();
    for (number, (list, _)) in cases.iter().enumerate() {
        let variables = [("http_proxy", proxy.as_str()), ("no_proxy", list)];
        let url = |who: &str| format!("http://{target}/{who}-{number}");
        done(&web, &format!("cd /srv/web && cp index.html own-{number} && cp index.html real-{number}")).await;
        let own = own_curl(&variables, &["-sS", "-m", "5", &url("own")]).await;
        let real = real_curl(&client, &variables, &["-sS", "-m", "5", &url("real")]).await;
        assert_eq!(own, (0, "welcome\n".into()), "our curl with no_proxy `{list}`");
        assert_eq!(real, own, "the real curl with no_proxy `{list}`");
    }
    // One more that has to be logged, after all others: squid writes the lines in order.
    let last = format!("http://{target}/last");
    own_curl(&[("http_proxy", &proxy)], &["-sS", "-m", "5", &last]).await;
    let log = squid.log_with("/last ").await;
    for (number, (list, excepted)) in cases.iter().enumerate() {
        for who in ["own", "real"] {
            let is_logged = log.contains(&format!("GET http://{target}/{who}-{number} "));
            assert_eq!(is_logged, !excepted, "the {who} curl with no_proxy `{list}`: {log}");
        }
    }
}

/// `CONNECT` to 443 is carried; to any other port Debian's squid refuses it, and both curls say so with one number.
async fn tunnels() {
    let (squid, web) = (Squid::start().await, web().await);
    let client = engine::idle(IMAGE, |request| request).await;
    let (target, proxy) = (address(&web).await, squid.url());
    for (port, code) in [(443, 0), (80, 56)] {
        let url = format!("http://{target}:{port}/");
        let arguments = ["-sS", "-m", "5", "-p", "-x", &proxy, &url];
        let (own, real) = (own_curl(&[], &arguments).await, real_curl(&client, &[], &arguments).await);
        assert_eq!(own.0, code, "our curl to {port}: {}", own.1);
        assert_eq!(real.0, code, "the real curl to {port}: {}", real.1);
        if code == 0 {
            assert_eq!((own.1.as_str(), real.1.as_str()), ("welcome\n", "welcome\n"));
        } else {
            assert!(own.1.contains("403") && real.1.contains("403"), "{} {}", own.1, real.1);
        }
    }
    let log = squid.log_with("TCP_DENIED/403").await;
    let lines = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert_eq!(lines(&format!("CONNECT {target}:443 ")), 2, "{log}");
    assert_eq!(lines(&format!("CONNECT {target}:80 ")), 2, "{log}");
    assert_eq!(lines("TCP_DENIED/403"), 2, "{log}");
    assert_eq!(lines("GET "), 0, "a tunnel's content is nothing to a proxy: {log}");
}

/// The way in which nodes pull images, by Go's reading of the variables: through squid, unless the registry's network
/// is excepted.
async fn pulls() {
    let squid = Squid::start().await;
    // The engine's own address in the containers' network, where a registry of ours answers.
    let gateway = gateway(&done(&squid.container, "cat /proc/net/route").await);
    let (_registry, port) = Program::registry();
    let image = |name: &str| Reference::at_an_address(&format!("{gateway}:{port}/{name}:v1")).expect("an address");
    for (name, no_proxy) in
        [("through", ""), ("through-too", "10.1.0.0/16,.svc"), ("directly", "10.1.0.0/16,172.16.0.0/12,192.168.0.0/16")]
    {
        let (proxy, image) = (squid.url(), image(name));
        let pull = move || {
            registry::pull(&image, &|variable| match variable {
                "HTTP_PROXY" => Some(proxy.clone()),
                "NO_PROXY" => Some(no_proxy.into()),
                _ => None,
            })
        };
        until(&format!("`{name}` is pulled"), SOON, async || {
            tokio::task::spawn_blocking(pull.clone()).await.expect("a thread").map(drop)
        })
        .await;
    }
    let log = squid.log_with("/v2/through-too/blobs/").await;
    assert!(log.contains(&format!("GET http://{gateway}:{port}/v2/through/blobs/")), "{log}");
    assert!(!log.contains("/v2/directly/"), "{log}");
}

/// The gateway of the default route in `/proc/net/route`, which is in the machine's order of bytes.
fn gateway(routes: &str) -> Ipv4Addr {
    let mut fields = routes.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let default = fields.find(|fields| fields.get(1) == Some(&"00000000")).expect("a default route");
    Ipv4Addr::from(u32::from_str_radix(default[2], 16).expect("an address").to_ne_bytes())
}

/// A program of the images on this machine, which ends with the trial.
struct Program(Child);

impl Program {
    /// A registry, and its port: one that was free a moment ago, since the program wants to be told.
    fn registry() -> (Self, u16) {
        let free = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|listener| listener.local_addr());
        let port = free.expect("a free port").port();
        let mut command = Command::new(std::env::current_exe().expect("this executable"));
        command.args([AS, "registry", "--port", &port.to_string()]);
        (Self(command.spawn().expect("our registry")), port)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
