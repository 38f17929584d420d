//! nf_tables against the real kernel: every expression is taken, transactions are atomic, refusals are named, what is
//! written is read back, by our own dump and by `nft`.
//!
//! Each trial works in a network namespace of its own. A trial whose needs are missing is reported as ignored,
//! unless `CKNET_REQUIRE` names `netns`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use cknet_kernel::nft::*;
use cknet_kernel::ns::NetNs;
use libtest_mimic::{Arguments, Trial};
use nix::errno::Errno;

/// Re-runs this binary as an unprivileged user's root would see it.
const ROOTLESS: &str = "CKNET_NFT_ROOTLESS";

fn main() {
    if std::env::var_os(ROOTLESS).is_some() {
        every_statement_is_taken();
        return;
    }
    let required = std::env::var("CKNET_REQUIRE").is_ok_and(|list| list.split(',').any(|need| need == "netns"));
    let namespaces = required || NetNs::create().is_ok();
    let nft = Command::new("nft").arg("--version").output().is_ok();
    let users = Command::new("unshare").args(["-Urn", "true"]).status().is_ok_and(|status| status.success());
    let trial = |name: &str, can: bool, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
        .with_ignored_flag(!can)
    };
    let trials = vec![
        trial("every_statement_is_taken [needs CAP_SYS_ADMIN]", namespaces, every_statement_is_taken_by_root),
        trial("every_statement_is_taken_in_a_user_namespace [needs unshare -Urn]", users, rootless),
        trial("nft_lists_what_was_written [needs nft]", namespaces && nft, nft_lists_what_was_written),
        trial("refusals_name_the_object [needs CAP_SYS_ADMIN]", namespaces, refusals_name_the_object),
        trial("a_failed_batch_changes_nothing [needs CAP_SYS_ADMIN]", namespaces, a_failed_batch_changes_nothing),
        trial(
            "counters_count_and_survive_changes [needs CAP_SYS_ADMIN]",
            namespaces,
            counters_count_and_survive_changes,
        ),
        trial("elements_are_read_back [needs CAP_SYS_ADMIN]", namespaces, elements_are_read_back),
        trial("random_changes_arrive [needs CAP_SYS_ADMIN]", namespaces, random_changes_arrive),
        trial("a_large_batch_goes_through [needs CAP_SYS_ADMIN]", namespaces, a_large_batch_goes_through),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn every_statement_is_taken_by_root() {
    fresh().run(every_statement_is_taken).unwrap();
}

fn fresh() -> NetNs {
    NetNs::create().unwrap()
}

fn send(batch: Batch) -> Result<(), NftError> {
    Nft::open()?.send(batch)
}

fn replace(table: &Table) {
    let mut batch = Batch::new();
    batch.replace(table);
    send(batch).unwrap_or_else(|error| panic!("{error}"));
}

fn v4(text: &str) -> IpAddr {
    text.parse::<Ipv4Addr>().unwrap().into()
}

/// A table in which every kind of statement, field, set and verdict occurs.
fn everything() -> Table {
    let mut hosts = Set::new("hosts", [KeyType::Ip4]).comment("known hosts");
    hosts.insert_address(v4("192.0.2.1"));
    hosts.insert_address(v4("192.0.2.2"));
    let blocks = AddressRanges::of([
        "10.0.0.0/8".parse().unwrap(),
        "255.0.0.0/8".parse().unwrap(),
        "0.0.0.0/32".parse().unwrap(),
    ]);
    let mut dispatch = Set::verdict_map("dispatch", [KeyType::InterfaceName]);
    dispatch.insert_verdict(Value::interface("cali1"), Verdict::Goto("one".into()));
    let service = Set::new("endpoints", [KeyType::Ip4, KeyType::Protocol, KeyType::Port]).with(Value::concat([
        v4("10.1.2.3").into(),
        Protocol::TCP.into(),
        8080u16.into(),
    ]));
    let tuples = Set::new("tuples", [KeyType::Ip4, KeyType::Port]).intervals().with(Key::range(
        Value::concat([v4("10.0.0.1").into(), 80u16.into()]),
        Value::concat([v4("10.0.0.9").into(), 90u16.into()]),
    ));
    let recent = Set::dynamic("recent", [KeyType::Ip4], Duration::from_secs(60));
    let tuple = [Field::Ip4Destination, Field::L4Proto, Field::DestinationPort];
    Table::new(Family::Ip, "everything")
        .with_set(hosts)
        .with_set(Set::addresses("blocks", &blocks))
        .with_set(dispatch)
        .with_set(service)
        .with_set(tuples)
        .with_set(recent)
        .with_chain(Chain::new("one").with_rule(Rule::new().return_to_caller()))
        .with_chain(Chain::new("two").with_rule(Rule::new().counter().drop().comment("the end of two")))
        .with_chain(
            Chain::base("filter", Base::forward(priority::FILTER))
                .with_rule(Rule::new().ct_state(CtState::ESTABLISHED | CtState::RELATED).accept())
                .with_rule(Rule::new().ct_direction(Direction::Reply).ct_status(CtStatus::DNAT).accept())
                .with_rule(Rule::new().iifname("cali*").oifname("eth0").verdict_of([Field::IifName], "dispatch"))
                .with_rule(
                    Rule::new().in_set([Field::Ip4Source], "hosts").not_in_set([Field::Ip4Destination], "blocks"),
                )
                .with_rule(Rule::new().in_set(tuple, "endpoints").counter().accept().comment("to an endpoint"))
                .with_rule(Rule::new().in_set([Field::Ip4Source, Field::DestinationPort], "tuples").accept())
                .with_rule(Rule::new().protocol(Protocol::TCP).dports(30000, 32767).sport(1024).jump("two"))
                .with_rule(
                    Rule::new()
                        .protocol(Protocol::UDP)
                        .one_of(Field::DestinationPort, [Key::range(1u16, 9u16), Key::range(0xfff0u16, 0xffffu16)])
                        .reject(Reject::PortUnreachable),
                )
                .with_rule(Rule::new().protocol(Protocol::TCP).reject(Reject::TcpReset))
                .with_rule(
                    Rule::new()
                        .saddr_in("10.0.0.0/8".parse().unwrap())
                        .daddr_not_in("10.1.0.0/16".parse().unwrap())
                        .saddr(v4("10.2.3.4"))
                        .in_ranges(Field::Ip4Destination, &blocks)
                        .drop(),
                )
                .with_rule(Rule::new().protocol(Protocol::ICMP).is(Field::IcmpType, 8u8).log("ping ").drop())
                .with_rule(Rule::new().is(Field::CtOriginalPort, 80u16).is_not(Field::NfProto, 10u8).drop())
                .with_rule(Rule::new().is(Field::CtOriginalIp4Destination, v4("10.9.9.9")).drop())
                .with_rule(Rule::new().has_any(Field::CtMark, 4).then(Statement::SetCtMark { keep: !4, flip: 8 })),
        )
        .with_chain(
            Chain::base("raw", Base::filter(Hook::Prerouting, priority::RAW))
                .with_rule(Rule::new().protocol(Protocol::UDP).dport(4789).notrack()),
        )
        .with_chain(
            Chain::base("destinations", Base::nat(Hook::Prerouting, priority::DNAT))
                .with_rule(Rule::new().protocol(Protocol::TCP).remember([Field::Ip4Source], "recent").verdict_among(
                    Field::Random { modulus: 2 },
                    [(Value::host(0), Verdict::Jump("one".into())), (Value::host(1), Verdict::Accept)],
                ))
                .with_rule(Rule::new().is(Field::Increment { modulus: 3 }, Value::host(1)).return_to_caller())
                .with_rule(Rule::new().protocol(Protocol::TCP).dport(80).dnat(v4("10.1.2.3"), Some(8080)))
                .with_rule(Rule::new().protocol(Protocol::TCP).dport(81).redirect(8081)),
        )
        .with_chain(
            Chain::base("sources", Base::nat(Hook::Postrouting, priority::SNAT))
                .with_rule(Rule::new().has_none(Field::Mark, 0x4000).return_to_caller())
                .with_rule(Rule::new().mark_clear(0x4000).mark_or(1).daddr(v4("10.5.5.5")).snat(v4("192.0.2.9")))
                .with_rule(
                    Rule::new()
                        .oifname("vxlan.calico")
                        .is_not(
                            Field::AddressType { address: FibAddress::Source, on_interface: true },
                            AddressType::Local,
                        )
                        .address_type(FibAddress::Source, AddressType::Local)
                        .masquerade(),
                ),
        )
}

fn both_versions() -> Table {
    Table::new(Family::Inet, "both").with_chain(
        Chain::base("input", Base::input(10))
            .with_rule(Rule::new().saddr_in("10.0.0.0/8".parse().unwrap()).reject(Reject::AdminProhibited))
            .with_rule(Rule::new().saddr("fd00::1".parse().unwrap()).daddr_in("fd00::/8".parse().unwrap()).drop()),
    )
}

fn every_statement_is_taken() {
    for table in [everything(), both_versions()] {
        replace(&table);
        // A second time, over itself.
        replace(&table);
        let live = Nft::open().unwrap().rules(table.family, &table.name).unwrap();
        for chain in table.chains.values() {
            let comments: Vec<_> =
                live.iter().filter(|rule| rule.chain == chain.name).map(|rule| &rule.comment).collect();
            assert_eq!(comments, chain.rules.iter().map(|rule| &rule.comment).collect::<Vec<_>>(), "{}", chain.name);
        }
        let chains = Nft::open().unwrap().chains(table.family, &table.name).unwrap();
        assert_eq!(chains.len(), table.chains.len());
        for chain in chains {
            assert_eq!(chain.base, table.chains[&chain.name].base, "{}", chain.name);
        }
    }
}

fn rootless() {
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net"])
        .arg(std::env::current_exe().unwrap())
        .env(ROOTLESS, "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn nft_lists_what_was_written() {
    let text = fresh()
        .run(|| {
            replace(&everything());
            replace(&both_versions());
            let output = Command::new("nft").args(["-n", "list", "ruleset"]).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        })
        .unwrap();
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    for expected in [
        "table ip everything {",
        "type filter hook forward priority 0; policy accept;",
        "type nat hook postrouting priority 100; policy accept;",
        "comment \"known hosts\"",
        "elements = { 192.0.2.1, 192.0.2.2 }",
        "type ipv4_addr . inet_proto . inet_service",
        "elements = { 10.1.2.3 . 6 . 8080 }",
        "elements = { 10.0.0.1-10.0.0.9 . 80-90 }",
        "elements = { \"cali1\" : goto one }",
        "flags dynamic,timeout",
        "timeout 60s",
        "iifname \"cali*\" oifname \"eth0\" iifname vmap @dispatch",
        "ip saddr @hosts ip daddr != @blocks",
        "ip daddr . meta l4proto . th dport @endpoints counter packets 0 bytes 0 accept comment \"to an endpoint\"",
        "tcp dport 30000-32767 tcp sport 1024 jump two",
        "reject with tcp reset",
        "tcp dport 80 dnat to 10.1.2.3:8080",
        "tcp dport 81 redirect to :8081",
        "udp dport 4789 notrack",
        "masquerade fully-random",
        "counter packets 0 bytes 0 drop comment \"the end of two\"",
        "ip saddr 10.0.0.0/8 reject with icmpx 3",
    ] {
        assert!(lines.iter().any(|line| line.contains(expected)), "`{expected}` is missing in\n{text}");
    }
    assert!(lines.iter().any(|line| line.contains("numgen random mod 2 vmap { 0 : jump one, 1 : accept }")), "{text}");
    assert!(
        lines
            .iter()
            .any(|line| line.contains("0.0.0.0, 10.0.0.0/8, 255.0.0.0/8") || line.contains("0.0.0.0, 10.0.0.0/8,")),
        "{text}"
    );
}

fn refusals_name_the_object() {
    let errors = fresh()
        .run(|| {
            let mut batch = Batch::new();
            let table = Table::new(Family::Ip, "t")
                .with_chain(Chain::new("c").with_rule(Rule::new().jump("nowhere").comment("into the void")));
            batch.replace(&table);
            batch.delete_set(Family::Ip, "t", "absent");
            let error = send(batch).unwrap_err();
            let NftError::Refused(refusals) = &error else { panic!("{error}") };
            assert_eq!(refusals.len(), 2, "{refusals:?}");
            assert!(refusals.iter().all(|refusal| refusal.errno == Errno::ENOENT));
            error.to_string()
        })
        .unwrap();
    assert!(errors.contains("to add rule `into the void` to chain `c` of table `ip t`: `ENOENT"), "{errors}");
    assert!(errors.contains("to delete set `absent` of table `ip t`"), "{errors}");
}

fn a_failed_batch_changes_nothing() {
    fresh()
        .run(|| {
            replace(&Table::new(Family::Ip, "t").with_chain(Chain::new("stays")));
            let mut batch = Batch::new();
            batch.replace(&Table::new(Family::Ip, "t"));
            batch.delete_chain(Family::Ip, "t", "stays");
            assert!(send(batch).is_err(), "the chain is gone with its table");
            let chains = Nft::open().unwrap().chains(Family::Ip, "t").unwrap();
            assert_eq!(chains.iter().map(|chain| chain.name.as_str()).collect::<Vec<_>>(), ["stays"]);
        })
        .unwrap();
}

fn loopback_up() {
    let status = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
    assert!(status.success());
}

fn counters_count_and_survive_changes() {
    fresh()
        .run(|| {
            loopback_up();
            let rule = |port: u16| {
                Rule::new().protocol(Protocol::UDP).dport(port).counter().drop().comment(format!("port {port}"))
            };
            let base = Chain::base("out", Base::output(0))
                .with_rule(Rule::new().jump("first"))
                .with_rule(Rule::new().jump("second"));
            let table = |ports: [u16; 2]| {
                Table::new(Family::Inet, "t")
                    .with_chain(base.clone())
                    .with_chain(Chain::new("first").with_rule(rule(ports[0])))
                    .with_chain(Chain::new("second").with_rule(rule(ports[1])))
            };
            let mut program = Program::new(Nft::open().unwrap());
            assert!(program.apply(table([7001, 7002])).unwrap().change.replaced);

            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let sent = socket.send_to(b"12345", "127.0.0.1:7001");
            assert_eq!(sent.unwrap_err().raw_os_error(), Some(Errno::EPERM as i32), "dropped in output");

            let change = program.apply(table([7001, 7003])).unwrap().change;
            assert_eq!((change.replaced, change.chains_changed, change.chains_added), (false, 1, 0));
            let rules = program.nft().rules(Family::Inet, "t").unwrap();
            let counters: Vec<_> =
                rules.iter().filter_map(|rule| Some((rule.comment.clone()?, rule.counter?))).collect();
            let counted = Counter { packets: 1, bytes: 33 };
            assert_eq!(counters, [("port 7001".into(), counted), ("port 7003".into(), Counter::default())]);

            assert!(program.apply(table([7001, 7003])).unwrap().change.is_empty());
            program.remove().unwrap();
            assert!(program.nft().tables(Family::Inet).unwrap().is_empty());
        })
        .unwrap();
}

fn elements_are_read_back() {
    fresh()
        .run(|| {
            replace(&everything());
            let mut nft = Nft::open().unwrap();
            let dispatch = nft.elements(Family::Ip, "everything", "dispatch").unwrap();
            assert_eq!(dispatch[0].verdict, Some(Verdict::Goto("one".into())));
            assert_eq!(dispatch[0].key, Value::interface("cali1").bytes());
            let blocks = nft.elements(Family::Ip, "everything", "blocks").unwrap();
            let ends = blocks.iter().filter(|element| element.interval_end).count();
            assert_eq!((blocks.len(), ends), (5, 2), "the range up to all ones has no end: {blocks:?}");
            let absent = nft.elements(Family::Ip, "everything", "absent").unwrap_err();
            assert_eq!(absent.errnos(), [Errno::ENOENT]);
            let mut sets = nft.sets(Family::Ip, "everything").unwrap();
            sets.retain(|name| !name.starts_with("__"));
            sets.sort();
            assert_eq!(sets, ["blocks", "dispatch", "endpoints", "hosts", "recent", "tuples"]);
        })
        .unwrap();
}

/// A table drawn from a seed: chains that call later chains, maps that lead to them, sets of addresses.
fn drawn(seed: u64) -> Table {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut below = move |limit: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % limit
    };
    let mut table = Table::new(Family::Ip, "drawn");
    let names: Vec<String> = (0..6).filter(|_| below(3) > 0).map(|number| format!("c{number}")).collect();
    let sets: Vec<String> = (0..4).filter(|_| below(3) > 0).map(|number| format!("s{number}")).collect();
    for name in &sets {
        let mut set = Set::new(name, [KeyType::Ip4]);
        (0..below(6)).for_each(|_| set.insert_address(Ipv4Addr::from_bits(below(8) as u32).into()));
        table.add_set(set);
    }
    let blocks = (0..below(5)).map(|_| ipnet::Ipv4Net::new(Ipv4Addr::from_bits(below(64) as u32), 29 + below(4) as u8));
    let blocks: Vec<ipnet::IpNet> = blocks.map(|block| block.unwrap().into()).collect();
    table.add_set(Set::addresses("ranges", &AddressRanges::of(blocks)));
    let mut map = Set::verdict_map("map", [KeyType::Mark]);
    for mark in 0..below(5) as u32 {
        if !names.is_empty() {
            map.insert_verdict(Value::host(mark), Verdict::Goto(names[below(names.len() as u64) as usize].clone()));
        }
    }
    table.add_set(map);
    let mut base = Chain::base("base", Base::forward(0)).with_rule(Rule::new().verdict_of([Field::Mark], "map"));
    for (index, name) in names.iter().enumerate() {
        let mut chain = Chain::new(name);
        for _ in 0..below(4) {
            let rule = Rule::new().counter().comment(format!("rule {}", below(100)));
            chain.push(match (names.get(index + 1 + below(3) as usize), sets.get(below(5) as usize)) {
                (Some(target), _) if below(2) == 0 => rule.jump(target),
                (_, Some(set)) => rule.in_set([Field::Ip4Source], set).accept(),
                _ => rule,
            });
        }
        table.add_chain(chain);
        base.push(Rule::new().jump(name));
    }
    table.with_chain(base)
}

fn random_changes_arrive() {
    fresh()
        .run(|| {
            let mut program = Program::new(Nft::open().unwrap());
            for seed in 0..300 {
                let wanted = drawn(seed);
                let applied = program.apply(wanted.clone()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                assert_eq!(applied.change.replaced, seed == 0, "seed {seed}");
                assert_live(program.nft(), &wanted, seed);
            }
        })
        .unwrap();
}

fn assert_live(nft: &mut Nft, wanted: &Table, seed: u64) {
    let rules = nft.rules(wanted.family, &wanted.name).unwrap();
    let mut names: Vec<_> =
        nft.chains(wanted.family, &wanted.name).unwrap().into_iter().map(|chain| chain.name).collect();
    names.sort();
    assert_eq!(names, wanted.chains.keys().cloned().collect::<Vec<_>>(), "seed {seed}");
    for chain in wanted.chains.values() {
        let live: Vec<_> =
            rules.iter().filter(|rule| rule.chain == chain.name).map(|rule| rule.comment.clone()).collect();
        assert_eq!(live, chain.rules.iter().map(|rule| rule.comment.clone()).collect::<Vec<_>>(), "seed {seed}");
    }
    for set in wanted.sets.values() {
        let live = nft.elements(wanted.family, &wanted.name, &set.name).unwrap();
        let firsts = live.into_iter().filter(|element| !element.interval_end);
        let mut live: Vec<_> = firsts.map(|element| (element.key, element.verdict)).collect();
        live.sort();
        let mut expected: Vec<_> =
            set.elements.iter().map(|(key, verdict)| (key.from.bytes().to_vec(), verdict.clone())).collect();
        expected.sort();
        assert_eq!(live, expected, "seed {seed}, set {}", set.name);
    }
}

fn a_large_batch_goes_through() {
    fresh()
        .run(|| {
            let mut set = Set::new("many", [KeyType::Ip4]);
            (0..20_000u32).for_each(|number| set.insert_address(Ipv4Addr::from_bits(number).into()));
            let rules = (0..3000).map(|number| Rule::new().counter().comment(format!("rule {number}")));
            let table = Table::new(Family::Ip, "large")
                .with_set(set)
                .with_chain(Chain::base("base", Base::forward(0)).with_rules(rules));
            let mut batch = Batch::new();
            batch.replace(&table);
            assert!(batch.bytes() > 512 * 1024, "{} bytes", batch.bytes());
            send(batch).unwrap();
            let mut nft = Nft::open().unwrap();
            assert_eq!(nft.elements(Family::Ip, "large", "many").unwrap().len(), 20_000);
            let comments: Vec<_> =
                nft.rules(Family::Ip, "large").unwrap().into_iter().filter_map(|rule| rule.comment).collect();
            assert_eq!(comments, (0..3000).map(|number| format!("rule {number}")).collect::<Vec<_>>());
        })
        .unwrap();
}
