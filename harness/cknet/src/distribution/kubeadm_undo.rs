//! Owns what takes kubeadm off a machine that goes on without it: what is written down before, and the way back.
//!
//! A line of the way back finds nothing to do where its change was never made, and succeeds.

use super::recipe::{QUICK, Stage, Step};

/// What is installed; everything else comes with it.
pub const PACKAGES: [&str; 4] = ["containerd", "kubelet", "kubeadm", "kubectl"];

/// The key of the project's packages, by a name that nobody else gives it.
pub const KEY: &str = "/etc/apt/keyrings/cknet-kubernetes.asc";

/// Lines for `sh`; the last one is done first. Rules go while iptables is there, which came with the packages too.
pub const UNDO: &[&str] = &[
    "systemctl daemon-reload; systemctl try-restart containerd 2>/dev/null; true",
    "[ ! -e /var/lib/cknet/swaps ] || { failed=0; while read -r swap priority; do \
     grep -q \"^$swap[[:space:]]\" /proc/swaps || swapon $([ $priority -lt 0 ] || echo -p $priority) $swap || failed=1; \
     done </var/lib/cknet/swaps; [ $failed = 0 ]; }",
    "[ ! -e /var/lib/cknet/bridges ] || [ ! -e /proc/sys/net/bridge/bridge-nf-call-iptables ] || \
     { was=$(cat /var/lib/cknet/bridges); echo ${was:-0} >/proc/sys/net/bridge/bridge-nf-call-iptables; }",
    "rm -f /etc/apt/keyrings/cknet-kubernetes.asc",
    "[ ! -e /var/lib/cknet/packages ] || ! grep -qx containerd /var/lib/cknet/packages || \
     rm -rf --one-file-system /var/lib/containerd",
    "there=$(for package in $(cat /var/lib/cknet/packages 2>/dev/null); do \
     case $(dpkg-query --show --showformat '${db:Status-Status}' $package 2>/dev/null) in \
     ''|not-installed) ;; *) echo $package;; esac; done); [ -z \"$there\" ] || \
     DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 purge --yes $there",
    "[ ! -d /etc/cni/net.d ] || find /etc/cni/net.d -mindepth 1 -delete",
    "of='-e KUBE- -e CNI- -e cali- -e cali: -e [Ff][Ll][Aa][Nn][Nn][Ee][Ll]'; failed=0; \
     for tables in iptables ip6tables; do ! $tables-save 2>/dev/null | grep -q $of || \
     $tables-save | grep -v $of | $tables-restore || failed=1; done; [ $failed = 0 ]",
    "failed=0; for link in cni0 flannel.1 vxlan.calico kube-ipvs0; do \
     [ ! -e /sys/class/net/$link ] || ip link delete $link || failed=1; done; [ $failed = 0 ]",
    "! command -v kubeadm >/dev/null || kubeadm reset --force",
];

/// Where there is swap, and what bridges give to iptables; a module that is not there gives it nothing.
const SETTINGS: &str = "mkdir -p /var/lib/cknet && cd /var/lib/cknet && \
                        { [ -e swaps ] || cat /proc/swaps 2>/dev/null | awk 'NR > 1 {print $1, $5}' >swaps; } && \
                        { [ -e bridges ] || cat /proc/sys/net/bridge/bridge-nf-call-iptables >bridges 2>/dev/null || true; }";

/// Writes down the settings of a machine before the first of them is changed.
pub fn settings() -> Step {
    Step::run(Stage::Install, ["sh", "-c", SETTINGS])
}

/// Writes down which packages will be new, and refuses to have others removed for them: nothing would bring those back.
pub fn packages() -> Step {
    Step::run(Stage::Install, ["sh", "-c", &script_of_packages()]).within(2 * QUICK)
}

fn script_of_packages() -> String {
    let install = format!("apt-get --simulate install {}", PACKAGES.join(" "));
    format!(
        "cd /var/lib/cknet && {{ [ -e packages ] || {{ {install} >planned && \
         gone=$(awk '$1 == \"Remv\" {{print $2}}' planned) && \
         if [ -n \"$gone\" ]; then echo \"packages that are there would be removed for it:\" $gone >&2; exit 1; fi && \
         awk '$1 == \"Inst\" && $3 !~ /^[[]/ {{print $2}}' planned >packages; }}; }}"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::process::Command;

    use super::*;

    /// Programs that a machine has, each with a line of `sh`; what they are told is taken down.
    const PROGRAMS: &[(&str, &str)] = &[
        ("apt-get", "[ $1 != --simulate ] || cat planned.by.apt"),
        ("dpkg-query", "case $4 in conntrack|containerd|kubeadm) echo installed;; *) exit 1;; esac"),
        ("swapon", ":"),
        ("ip", ":"),
        ("kubeadm", ":"),
        ("systemctl", ":"),
        ("iptables-save", "cat rules"),
        ("iptables-restore", "cat >restored; mv restored rules"),
        ("ip6tables-save", "exit 1"),
        ("ip6tables-restore", "exit 1"),
    ];

    /// A folder in the place of a machine's.
    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new() -> Self {
            let machine = Self(tempfile::tempdir().unwrap());
            machine.put("proc/swaps", "Filename Type Size Used Priority\n");
            for (name, line) in PROGRAMS {
                machine.put(
                    &format!("bin/{name}"),
                    &format!("#!/bin/sh\ncd {}\necho \"$0 $*\" >>told\n{line}\n", machine.path("").display()),
                );
                fs::set_permissions(machine.path(&format!("bin/{name}")), fs::Permissions::from_mode(0o755)).unwrap();
            }
            machine
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            self.0.path().join(name)
        }

        fn put(&self, name: &str, text: &str) {
            fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
            fs::write(self.path(name), text).unwrap();
        }

        fn text(&self, name: &str) -> String {
            fs::read_to_string(self.path(name)).unwrap_or_default()
        }

        fn run(&self, script: &str) -> std::process::Output {
            let root = |script: String, folder: &str| {
                script.replace(&format!("/{folder}/"), &self.path(folder).join("").display().to_string())
            };
            let script = ["var", "proc", "sys/class", "etc"].into_iter().fold(script.to_string(), root);
            let path = format!("{}:/usr/bin:/bin", self.path("bin").display());
            Command::new("sh").args(["-c", &script]).env("PATH", path).output().unwrap()
        }

        fn done(&self, script: &str) {
            let output = self.run(script);
            assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        }

        /// What programs were told that change something.
        fn told(&self) -> Vec<String> {
            let bin = self.path("bin/").display().to_string();
            let looks = |line: &&str| !line.starts_with("dpkg-query") && !line.contains("-save");
            self.text("told").replace(&bin, "").lines().filter(looks).map(String::from).collect()
        }
    }

    #[test]
    fn a_machine_on_which_nothing_was_done_stays_as_it_is() {
        let machine = Machine::new();
        machine.put("rules", "-A INPUT -j ACCEPT\n");
        UNDO.iter().rev().for_each(|line| machine.done(line));
        let told = ["kubeadm reset --force", "systemctl daemon-reload", "systemctl try-restart containerd"];
        assert_eq!(machine.told(), told);
    }

    #[test]
    fn what_came_goes_and_what_was_there_is_as_it_was() {
        let machine = Machine::new();
        machine.put("proc/swaps", "Filename Type Size Used Priority\n/dev/vda2 partition 1 0 -2\n/swap file 1 0 5\n");
        machine.put("proc/sys/net/bridge/bridge-nf-call-iptables", "0\n");
        machine.put(
            "planned.by.apt",
            "NOTE: only a simulation\nInst conntrack (1:1.4 Ubuntu [amd64])\nInst runc [1.0] (1.1 Ubuntu [amd64])\n\
             Inst containerd (1.7 Ubuntu [amd64])\nInst kubeadm (1.33 x [amd64])\nConf conntrack (1:1.4 Ubuntu [amd64])\n",
        );
        let script = script_of_packages();
        for _ in 0..2 {
            machine.done(SETTINGS);
            machine.done(&script);
            // As they are when it is asked again.
            machine.put("proc/swaps", "Filename Type Size Used Priority\n");
            machine.put("proc/sys/net/bridge/bridge-nf-call-iptables", "1\n");
            machine.put("planned.by.apt", "");
        }
        assert_eq!(machine.text("var/lib/cknet/packages"), "conntrack\ncontainerd\nkubeadm\n");
        for file in ["etc/cni/net.d/.keep", "etc/cni/net.d/10-flannel.conflist", "var/lib/containerd/a", &KEY[1..]] {
            machine.put(file, "");
        }
        for link in ["cni0", "eth0", "vxlan.calico"] {
            machine.put(&format!("sys/class/net/{link}/mtu"), "");
        }
        machine
            .put("rules", ":KUBE-SERVICES - [0:0]\n-A INPUT -j cali-INPUT\n-A INPUT -s california -j ACCEPT\nCOMMIT\n");
        fs::remove_file(machine.path("told")).unwrap();
        UNDO.iter().rev().for_each(|line| machine.done(line));
        let told = [
            "kubeadm reset --force",
            "ip link delete cni0",
            "ip link delete vxlan.calico",
            "iptables-restore ",
            "apt-get -o DPkg::Lock::Timeout=300 purge --yes conntrack containerd kubeadm",
            "swapon /dev/vda2",
            "swapon -p 5 /swap",
            "systemctl daemon-reload",
            "systemctl try-restart containerd",
        ];
        assert_eq!(machine.told(), told);
        assert_eq!(machine.text("rules"), "-A INPUT -s california -j ACCEPT\nCOMMIT\n");
        assert_eq!(machine.text("proc/sys/net/bridge/bridge-nf-call-iptables"), "0\n");
        assert!(!machine.path("var/lib/containerd").exists() && !machine.path(&KEY[1..]).exists());
        assert_eq!(fs::read_dir(machine.path("etc/cni/net.d")).unwrap().count(), 0);
    }

    #[test]
    fn packages_of_somebody_else_are_not_given_up_for_it() {
        let machine = Machine::new();
        machine
            .put("planned.by.apt", "Remv containerd.io [1.7]\nRemv docker-ce [27]\nInst containerd (1.7 x [amd64])\n");
        machine.done(SETTINGS);
        let refused = machine.run(&script_of_packages());
        assert!(!refused.status.success() && !machine.path("var/lib/cknet/packages").exists());
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(said, "packages that are there would be removed for it: containerd.io docker-ce\n");
    }

    /// They are noted by `echo` and carried out when nobody looks any more.
    #[test]
    fn each_line_is_one() {
        assert!(UNDO.iter().all(|line| !line.contains(['\n', '\\'])));
        assert!(UNDO.iter().any(|line| line.ends_with(KEY)) && Path::new(KEY).is_absolute());
    }
}
