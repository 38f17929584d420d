//! How statements become the kernel's expressions, register by register.
//!
//! Numbers and attribute layouts are those of `linux/netfilter/nf_tables.h`. Knows nothing of chains and batches.

use std::net::IpAddr;

use super::field::{Direction, FibAddress, Field, Value};
use super::rule::{Lookup, Reject, Statement, Verdict};
use super::table::Family;
use super::wire::Writer;

const LIST_ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
pub(super) const DATA_VALUE: u16 = 1;
pub(super) const DATA_VERDICT: u16 = 2;

const REGISTER_VERDICT: u32 = 0;
/// Four registers of 16 bytes...
const REGISTER_1: u32 = 1;
const REGISTER_2: u32 = 2;
/// ...that are the same memory as 16 registers of 4 bytes.
const REGISTER_32_FIRST: u32 = 8;

const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;

/// The name under which an inline set is made; the kernel puts a number in.
pub(super) const fn inline_name(verdicts: bool) -> &'static str {
    if verdicts { "__map%d" } else { "__set%d" }
}

/// Encodes the statements of one rule.
pub(super) struct Encoder<'a> {
    pub(super) writer: &'a mut Writer,
    pub(super) family: Family,
    /// Ids of the rule's inline sets, in the order of its statements.
    pub(super) inline: std::vec::IntoIter<u32>,
    /// The IP version that the rule has been narrowed to; matters in an `inet` table only.
    pub(super) version: Option<u8>,
}

impl Encoder<'_> {
    pub(super) fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Compare { field, negate, value } => {
                self.load(*field);
                self.compare(*negate, value);
            }
            Statement::Masked { field, negate, mask, value } => {
                self.load(*field);
                self.bitwise(mask, &Value(vec![0; mask.0.len()]));
                self.compare(*negate, value);
            }
            Statement::Range { field, negate, from, to } => {
                self.load(*field);
                self.range(*negate, from, to);
            }
            Statement::InSet { fields, negate, set } => {
                let register = self.load_key(fields);
                self.lookup(register, set, *negate, false);
            }
            Statement::VerdictMap { fields, map } => {
                let register = self.load_key(fields);
                self.lookup(register, map, false, true);
            }
            Statement::Remember { fields, set } => {
                let register = self.load_key(fields);
                self.remember(register, set);
            }
            Statement::SetMark { keep, flip } => self.set_mark("meta", META_MARK, *keep, *flip),
            Statement::SetCtMark { keep, flip } => self.set_mark("ct", CT_MARK, *keep, *flip),
            Statement::Dnat { to, port } => self.nat(NAT_DESTINATION, *to, *port),
            Statement::Snat { to, port } => self.nat(NAT_SOURCE, *to, *port),
            Statement::Verdict(verdict) => self.expression("immediate", |data| {
                data.be32(1, REGISTER_VERDICT);
                data.nested(2, |value| write_verdict(value, verdict));
            }),
            Statement::Counter => self.expression("counter", |data| {
                data.be64(1, 0);
                data.be64(2, 0);
            }),
            Statement::Masquerade { fully_random } => self.expression("masq", |data| {
                if *fully_random {
                    data.be32(1, NAT_FULLY_RANDOM);
                }
            }),
            Statement::Redirect { port } => {
                self.immediate(REGISTER_1, &Value::from(*port));
                self.expression("redir", |data| data.be32(1, REGISTER_1));
            }
            Statement::Reject(reject) => self.reject(*reject),
            Statement::Notrack => self.expression("notrack", |_| {}),
            Statement::Log { prefix } => self.expression("log", |data| data.text(2, prefix)),
        }
    }

    fn expression(&mut self, name: &str, data: impl FnOnce(&mut Writer)) {
        self.writer.nested(LIST_ELEMENT, |element| {
            element.text(EXPRESSION_NAME, name);
            element.nested(EXPRESSION_DATA, data);
        });
    }

    /// Puts one field into register 1.
    fn load(&mut self, field: Field) {
        self.narrow(field);
        self.load_into(field, REGISTER_1);
    }

    /// Puts fields side by side and returns the first register.
    fn load_key(&mut self, fields: &[Field]) -> u32 {
        fields.iter().for_each(|field| self.narrow(*field));
        if let [field] = fields {
            self.load_into(*field, REGISTER_1);
            return REGISTER_1;
        }
        let mut register = REGISTER_32_FIRST;
        for field in fields {
            self.load_into(*field, register);
            register += (field.key_type().slot() / 4) as u32;
        }
        REGISTER_32_FIRST
    }

    /// In an `inet` table, an address may be looked at only in packets of its IP version.
    fn narrow(&mut self, field: Field) {
        let version = match field {
            Field::Ip4Source | Field::Ip4Destination | Field::CtOriginalIp4Destination => Family::Ip.number(),
            Field::Ip6Source | Field::Ip6Destination => Family::Ip6.number(),
            _ => return,
        };
        if self.family == Family::Inet && self.version != Some(version) {
            self.load_into(Field::NfProto, REGISTER_1);
            self.compare(false, &Value::from(version));
            self.version = Some(version);
        }
    }

    fn load_into(&mut self, field: Field, register: u32) {
        match field {
            Field::IifName => self.meta(META_IIFNAME, register),
            Field::OifName => self.meta(META_OIFNAME, register),
            Field::NfProto => self.meta(META_NFPROTO, register),
            Field::L4Proto => self.meta(META_L4PROTO, register),
            Field::Mark => self.meta(META_MARK, register),
            Field::Ip4Source => self.payload(NETWORK_HEADER, 12, 4, register),
            Field::Ip4Destination => self.payload(NETWORK_HEADER, 16, 4, register),
            Field::Ip6Source => self.payload(NETWORK_HEADER, 8, 16, register),
            Field::Ip6Destination => self.payload(NETWORK_HEADER, 24, 16, register),
            Field::SourcePort => self.payload(TRANSPORT_HEADER, 0, 2, register),
            Field::DestinationPort => self.payload(TRANSPORT_HEADER, 2, 2, register),
            Field::IcmpType | Field::Icmp6Type => self.payload(TRANSPORT_HEADER, 0, 1, register),
            Field::CtState => self.connection(CT_STATE, None, register),
            Field::CtStatus => self.connection(CT_STATUS, None, register),
            Field::CtDirection => self.connection(CT_DIRECTION, None, register),
            Field::CtMark => self.connection(CT_MARK, None, register),
            Field::CtOriginalPort => self.connection(CT_PROTO_DST, Some(Direction::Original), register),
            Field::CtOriginalIp4Destination => self.connection(CT_DST_IP, Some(Direction::Original), register),
            Field::AddressType { address, on_interface } => self.fib(address, on_interface, register),
            Field::Random { modulus } => self.number(modulus, 1, register),
            Field::Increment { modulus } => self.number(modulus, 0, register),
        }
    }

    fn meta(&mut self, key: u32, register: u32) {
        self.expression("meta", |data| {
            data.be32(1, register);
            data.be32(2, key);
        });
    }

    fn payload(&mut self, base: u32, offset: u32, length: u32, register: u32) {
        self.expression("payload", |data| {
            data.be32(1, register);
            data.be32(2, base);
            data.be32(3, offset);
            data.be32(4, length);
        });
    }

    fn connection(&mut self, key: u32, direction: Option<Direction>, register: u32) {
        self.expression("ct", |data| {
            data.be32(1, register);
            data.be32(2, key);
            if let Some(direction) = direction {
                data.byte(3, direction as u8);
            }
        });
    }

    fn fib(&mut self, address: FibAddress, on_interface: bool, register: u32) {
        let address = match address {
            FibAddress::Source => FIB_SOURCE,
            FibAddress::Destination => FIB_DESTINATION,
        };
        let interface = if on_interface { FIB_OUTGOING_INTERFACE } else { 0 };
        self.expression("fib", |data| {
            data.be32(1, register);
            data.be32(2, FIB_RESULT_ADDRESS_TYPE);
            data.be32(3, address | interface);
        });
    }

    fn number(&mut self, modulus: u32, kind: u32, register: u32) {
        self.expression("numgen", |data| {
            data.be32(1, register);
            data.be32(2, modulus);
            data.be32(3, kind);
        });
    }

    fn compare(&mut self, negate: bool, value: &Value) {
        self.expression("cmp", |data| {
            data.be32(1, REGISTER_1);
            data.be32(2, if negate { NOT_EQUAL } else { EQUAL });
            data.nested(3, |inner| inner.attribute(DATA_VALUE, &value.0));
        });
    }

    fn range(&mut self, negate: bool, from: &Value, to: &Value) {
        self.expression("range", |data| {
            data.be32(1, REGISTER_1);
            data.be32(2, if negate { NOT_EQUAL } else { EQUAL });
            data.nested(3, |inner| inner.attribute(DATA_VALUE, &from.0));
            data.nested(4, |inner| inner.attribute(DATA_VALUE, &to.0));
        });
    }

    fn bitwise(&mut self, mask: &Value, xor: &Value) {
        self.expression("bitwise", |data| {
            data.be32(1, REGISTER_1);
            data.be32(2, REGISTER_1);
            data.be32(3, mask.0.len() as u32);
            data.nested(4, |inner| inner.attribute(DATA_VALUE, &mask.0));
            data.nested(5, |inner| inner.attribute(DATA_VALUE, &xor.0));
        });
    }

    fn immediate(&mut self, register: u32, value: &Value) {
        self.expression("immediate", |data| {
            data.be32(1, register);
            data.nested(2, |inner| inner.attribute(DATA_VALUE, &value.0));
        });
    }

    fn lookup(&mut self, register: u32, set: &Lookup, negate: bool, verdicts: bool) {
        let (name, id) = match set {
            Lookup::Named(name) => (name.as_str(), None),
            Lookup::Inline(_) => (inline_name(verdicts), self.inline.next()),
        };
        self.expression("lookup", |data| {
            data.text(1, name);
            data.be32(2, register);
            if verdicts {
                data.be32(3, REGISTER_VERDICT);
            }
            if let Some(id) = id {
                data.be32(4, id);
            }
            if negate {
                data.be32(5, 1);
            }
        });
    }

    fn remember(&mut self, register: u32, set: &str) {
        self.expression("dynset", |data| {
            data.text(1, set);
            data.be32(3, DYNSET_UPDATE);
            data.be32(4, register);
        });
    }

    fn set_mark(&mut self, expression: &str, key: u32, keep: u32, flip: u32) {
        if keep == 0 {
            self.immediate(REGISTER_1, &Value::host(flip));
        } else {
            match expression {
                "ct" => self.connection(key, None, REGISTER_1),
                _ => self.meta(key, REGISTER_1),
            }
            self.bitwise(&Value::host(keep), &Value::host(flip));
        }
        // The source register has another attribute number in the two expressions.
        let source = if expression == "ct" { 4 } else { 3 };
        self.expression(expression, |data| {
            data.be32(2, key);
            data.be32(source, REGISTER_1);
        });
    }

    fn nat(&mut self, kind: u32, to: IpAddr, port: Option<u16>) {
        self.immediate(REGISTER_1, &Value::from(to));
        if let Some(port) = port {
            self.immediate(REGISTER_2, &Value::from(port));
        }
        let family = if to.is_ipv4() { Family::Ip } else { Family::Ip6 };
        self.expression("nat", |data| {
            data.be32(1, kind);
            data.be32(2, family.number().into());
            data.be32(3, REGISTER_1);
            if port.is_some() {
                data.be32(5, REGISTER_2);
            }
        });
    }

    fn reject(&mut self, reject: Reject) {
        let (kind, code) = match reject {
            Reject::TcpReset => (REJECT_TCP_RESET, 0),
            Reject::NoRoute => (REJECT_ICMP_ANY_VERSION, 0),
            Reject::PortUnreachable => (REJECT_ICMP_ANY_VERSION, 1),
            Reject::HostUnreachable => (REJECT_ICMP_ANY_VERSION, 2),
            Reject::AdminProhibited => (REJECT_ICMP_ANY_VERSION, 3),
        };
        // `icmpx` exists in inet tables only; elsewhere the code is that of the table's own ICMP.
        let (kind, code) = match (self.family, kind) {
            (Family::Ip, REJECT_ICMP_ANY_VERSION) => (REJECT_ICMP, [0u8, 3, 1, 13][usize::from(code)]),
            (Family::Ip6, REJECT_ICMP_ANY_VERSION) => (REJECT_ICMP, [0u8, 4, 3, 1][usize::from(code)]),
            _ => (kind, code),
        };
        self.expression("reject", |data| {
            data.be32(1, kind);
            data.byte(2, code);
        });
    }
}

/// Writes a verdict where data is expected.
pub(super) fn write_verdict(writer: &mut Writer, verdict: &Verdict) {
    let (code, chain) = match verdict {
        Verdict::Drop => (0, None),
        Verdict::Accept => (1, None),
        Verdict::Continue => (-1i32, None),
        Verdict::Jump(chain) => (-3, Some(chain)),
        Verdict::Goto(chain) => (-4, Some(chain)),
        Verdict::Return => (-5, None),
    };
    writer.nested(DATA_VERDICT, |inner| {
        inner.be32(1, code as u32);
        if let Some(chain) = chain {
            inner.text(2, chain);
        }
    });
}

const META_MARK: u32 = 3;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;

const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

const CT_STATE: u32 = 0;
const CT_DIRECTION: u32 = 1;
const CT_STATUS: u32 = 2;
const CT_MARK: u32 = 3;
const CT_PROTO_DST: u32 = 12;
const CT_DST_IP: u32 = 20;

const FIB_RESULT_ADDRESS_TYPE: u32 = 3;
const FIB_SOURCE: u32 = 1;
const FIB_DESTINATION: u32 = 2;
const FIB_OUTGOING_INTERFACE: u32 = 16;

const NAT_SOURCE: u32 = 0;
const NAT_DESTINATION: u32 = 1;
const NAT_FULLY_RANDOM: u32 = 16;

const DYNSET_UPDATE: u32 = 1;

const REJECT_ICMP: u32 = 0;
const REJECT_TCP_RESET: u32 = 1;
const REJECT_ICMP_ANY_VERSION: u32 = 2;
