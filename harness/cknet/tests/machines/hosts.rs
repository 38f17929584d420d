//! Machines that are there already: each is a set of namespaces with a real sshd (`fixtures/stand-in/host`), and after a
//! run it is what it was before.

use libtest_mimic::Failed;

use super::{Try, Workplace, holds, on_path, text};

pub const TRIALS: &[(&str, Try)] = &[
    ("hosts_are_given_back_as_they_were", given_back),
    ("hosts_of_a_killed_run_are_given_back_by_gc", killed),
    ("hosts_that_are_not_free_are_left_alone", not_free),
    ("the_way_of_ssh_is_no_address_of_a_node", first_found),
    ("a_shell_on_a_host_that_is_kept", shell),
];

/// What a host is like; what changes by itself is left out.
const STATE: &str = r#"
    inside() { nsenter -t $(cat $STAND_IN/hosts/$1/pid) --net --mount --uts --pid --root --wd=/ -- "${@:2}"; }
    state() {
        for host in one two; do
            inside $host sh -c 'hostname; cat /etc/hosts; ip -br addr | sort; ip route; ip link | grep -o "mtu [0-9]*";
                cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/all/rp_filter;
                find /etc/kubernetes /etc/cni /var/lib/cknet /run/cknet /run/calico 2>&1;
                ps ax -o args= | grep -v "^ps\|sshd\|^grep\|^sh -c\|^sort" | sort'
            inside $host sh -c 'command -v nft >/dev/null && nft list ruleset'
        done
    }
    made() {
        fixtures/stand-in/host one 10.9.0.11 cknet0 cknet1 && fixtures/stand-in/host two 10.9.0.12 cknet0 cknet1 || exit 9
        inside one ip addr add 172.20.0.5/24 dev ens4; inside one ip link set ens4 mtu 1400 up
        inside one ip route add 172.30.0.0/16 via 172.20.0.1
        printf '%s\n' 'wires: [left, right]' 'hosts:' \
            '- {host: one, interfaces: {left: ens4, right: ens5}}' '- {host: two, interfaces: {left: ens4, right: ens5}}' >$STAND_IN/hosts.yaml
    }
    run() { $CKNET run "$@" --inventory $STAND_IN/hosts.yaml; }
    made; state >$STAND_IN/before;
"#;

/// Where one of the programs is absent, the whole way is.
pub fn missing() -> Option<String> {
    let sshd = std::path::Path::new("/usr/sbin/sshd").exists();
    let lacking: Vec<&str> = ["ssh", "ssh-keygen"].into_iter().filter(|program| !on_path(program)).collect();
    (!sshd || !lacking.is_empty()).then(|| "needs ssh and sshd: apt-get install openssh-server openssh-client".into())
}

fn given_back(here: &Workplace) -> Result<(), Failed> {
    let scenarios = "$SCENARIO policy.deny-all-ingress interfaces.overlay-on-second-nic";
    let output = here
        .script(&format!("{STATE} run {scenarios}; code=$?; state | diff $STAND_IN/before -; echo code $code diff $?"));
    let said = text(&output);
    holds("it passes, and the hosts are what they were", said.contains("code 0 diff 0"), &said)?;
    holds("fidelity is told", said.contains("fidelity  dataplane"), &said)
}

fn killed(here: &Workplace) -> Result<(), Failed> {
    let script = "$CKNET run $SCENARIO --inventory $STAND_IN/hosts.yaml >/dev/null 2>&1 & run=$!; \
                  for i in $(seq 600); do inside two test -e /etc/kubernetes && break; sleep 0.05; done; \
                  kill -9 $run; wait $run; run $SCENARIO 2>&1; echo second $?; \
                  $CKNET gc; echo gc $?; state | diff $STAND_IN/before -; echo diff $?";
    let output = here.script(&format!("{STATE} {script}"));
    let said = text(&output);
    holds("it was in the middle of its work", said.contains("second 3"), &said)?;
    holds("who has the hosts is told", said.contains("has it; where that is dead: cknet gc"), &said)?;
    holds("they are given back as they were", said.contains("gc 0\ndiff 0"), &said)
}

fn not_free(here: &Workplace) -> Result<(), Failed> {
    let script = "sed -i 's/ens4}/mg0}/; s/ens4,/mg0,/' $STAND_IN/hosts.yaml; run $SCENARIO 2>&1; echo ssh $?; \
                  state | diff $STAND_IN/before -; echo diff $?; sed -i s/mg0/ens4/ $STAND_IN/hosts.yaml; \
                  inside two ip link add docker0 type bridge; inside two ip addr add 192.168.0.1/16 dev docker0; \
                  run $SCENARIO 2>&1; echo overlap $?; inside two ip link del docker0; \
                  inside two ip addr add 192.0.2.9/24 dev ens4; inside two ip link set ens4 up; \
                  inside two ip route add default via 192.0.2.1; state >$STAND_IN/before; \
                  run $SCENARIO 2>&1; echo default $?; state | diff $STAND_IN/before -; echo diff $?; \
                  sed -i s/ens4/ens9/ $STAND_IN/hosts.yaml; run $SCENARIO 2>&1; echo absent $?; \
                  sed -i s/one/nobody/ $STAND_IN/hosts.yaml; run $SCENARIO 2>&1; echo nobody $?; $CKNET gc --dry-run";
    let output = here.script(&format!("{STATE} {script}"));
    let said = text(&output);
    let way = said.contains("ssh comes by mg0, at 10.9.0.1");
    holds("the way of ssh is not taken", way && said.contains("ssh 3\ndiff 0"), &said)?;
    let overlap = "host `two`: its network 192.168.0.0/16 on docker0 overlaps the segment `lan`, 192.168.60.0/24";
    holds("a network of its own in a segment is told", said.contains(overlap) && said.contains("overlap 3"), &said)?;
    holds(
        "the way to other networks is not taken",
        said.contains("ens4 has the default route: it is not free"),
        &said,
    )?;
    holds("and everything is as it was", said.contains("default 3\ndiff 0"), &said)?;
    holds(
        "an interface that is not there is told",
        said.contains("there is no interface ens9; there are: ens4"),
        &said,
    )?;
    holds("a host that does not answer is told", said.contains("nobody 3") && said.contains("nobody"), &said)?;
    holds("nothing is left to be done", said.contains("0 open runs"), &said)
}

/// `mg0` comes before the interfaces of the inventory, and is in a network that all hosts are in.
fn first_found(here: &Workplace) -> Result<(), Failed> {
    let suite = here.marking_suite();
    let path = suite.join("marking/one.yaml");
    let parent = r#"{id: parent, links: {node: w1, device: "${cni.overlayDevice}", parent: eth0}}"#;
    let one = std::fs::read_to_string(&path)?.replace("    expect:\n", &format!("    expect:\n      - {parent}\n"));
    std::fs::write(path, one)?;
    let run = format!("run marking.one --scenarios {}", suite.display());
    let output = here.script(&format!("{STATE} {run}; echo code $?; state | diff $STAND_IN/before -; echo diff $?"));
    let said = text(&output);
    holds("the overlay is over the topology's first NIC", said.contains("2 passed"), &said)?;
    holds("the hosts are what they were", said.contains("code 0\ndiff 0"), &said)
}

fn shell(here: &Workplace) -> Result<(), Failed> {
    let script = "$CKNET run $SCENARIO --inventory $STAND_IN/hosts.yaml --keep >$STAND_IN/out 2>&1 & run=$!; \
                  for i in $(seq 1200); do grep -q '^PASSED\\|passed' $STAND_IN/out && break; sleep 0.05; done; \
                  $CKNET shell w1 -- hostname; echo shell $?; $CKNET shell w1 -- cat /etc/hosts; kill -TERM $run; wait $run; \
                  state | diff $STAND_IN/before -; echo diff $?";
    let output = here.script(&format!("{STATE} {script}"));
    let said = text(&output);
    holds("it is a shell there", said.contains("w1\nshell 0"), &said)?;
    let known = said.contains("192.168.60.11\tcp1") && said.contains("192.168.60.12\tw1");
    holds("it knows all nodes by their names", known && !said.contains("127.0.1.1\tw1"), &said)?;
    holds("it is given back when it is no longer kept", said.contains("diff 0"), &said)
}
