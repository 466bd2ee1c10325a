//! The redirect: an nf_tables table in the target's network that leads new connections of some ports to us.
//!
//! Only the first packet of a connection matches, so what was open before stays with the target's program. The table
//! belongs to our netlink socket: the kernel removes it when that closes, however this process ends; a kernel that
//! knows no owners has a [`watcher`] do it. Connections
//! already led to us need the table as long as they live, for it is what translates their packets; so rules and
//! table are taken away separately. The kernel tracks connections of a network as long as some rule there asks for
//! it: one rule in a chain that no packet enters asks until the table goes. Nothing of conntrack is ever flushed.

mod netlink;
mod watcher;

use netlink::{Attributes, Batch, Refusal, Socket, Verb};
use watcher::Watcher;

use crate::socket::MARK;

const NFPROTO_INET: u8 = 1;
/// The kernel removes the table with its owner's socket (Linux 5.12).
const OWNER: u32 = 2;
/// Before the rules of kube-proxy and the meshes, which stand at -100.
const PRIORITY: i32 = -101;
const PREROUTING: &str = "prerouting";
const OUTPUT: &str = "output";
const KEEPER: &str = "keeper";
const FIN_SYN_RST_ACK: u8 = 0x17;
const SYN: u8 = 0x02;

/// New connections to `port` go to our `listener` instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rule {
    pub(crate) port: u16,
    pub(crate) listener: u16,
}

/// Why connections cannot be redirected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RedirectError {
    #[error("CAP_NET_ADMIN over the target's network is missing")]
    NotPermitted,
    #[error("the kernel has no nf_tables")]
    NoTables(#[source] std::io::Error),
    #[error("the kernel refuses a table: {0}")]
    Table(#[source] std::io::Error),
    #[error("the process that removes the table after us cannot be started: {0}")]
    Watcher(#[source] std::io::Error),
    #[error("the kernel has no NAT chains in nf_tables: {0}")]
    Chain(#[source] std::io::Error),
    #[error("the kernel refuses the redirect's rule (nft_redir, nft_fib_inet): {0}")]
    Rule(#[source] std::io::Error),
}

/// The table, where it exists.
#[derive(Debug)]
pub(crate) struct Redirect {
    name: String,
    /// Owns the table. Opened before any connection is taken: a process that is killed closes its newest descriptors
    /// first, and the resets of its connections only reach their peers while there is the table that translates them.
    owner: Option<Socket>,
    /// The flag that gives the table an owner; 0 once the kernel is known not to know it.
    owner_flag: u32,
    /// Removes the table after us where it does not.
    watcher: Option<Watcher>,
    has_table: bool,
    rules: Vec<Rule>,
}

impl Redirect {
    /// Nothing yet; `name` must differ from those of other agents in the same network.
    pub(crate) fn new(name: String) -> Self {
        // Without a socket the check says why.
        let owner = Socket::open().ok();
        Self { name, owner, owner_flag: OWNER, watcher: None, has_table: false, rules: Vec::new() }
    }

    /// What OWNER is to a kernel before Linux 5.12: a flag that it does not know.
    #[cfg(test)]
    fn on_an_old_kernel(&mut self) {
        self.owner_flag = 1 << 20;
    }

    /// Whether redirecting would work, without changing anything.
    pub(crate) fn check(&mut self) -> Result<(), RedirectError> {
        let socket = Socket::open().map_err(RedirectError::NoTables)?;
        loop {
            let mut batch = Batch::new(NFPROTO_INET);
            let verbs = self.create(&mut batch, &[Rule { port: 1, listener: 2 }]);
            match socket.check(&batch) {
                Err(refusal) if self.owner_flag != 0 && knows_no_owners(&refusal) => self.owner_flag = 0,
                outcome => return outcome.map_err(|refusal| explain(refusal, &verbs)),
            }
        }
    }

    /// Makes exactly `rules` hold, in one step. Without rules the table stays, for the connections that need it.
    pub(crate) fn set(&mut self, rules: Vec<Rule>) -> Result<(), RedirectError> {
        if rules == self.rules {
            return Ok(());
        }
        if self.owner_flag == 0 && self.watcher.is_none() {
            self.watcher = Some(Watcher::start(self.farewell()).map_err(RedirectError::Watcher)?);
        }
        let mut batch = Batch::new(NFPROTO_INET);
        let verbs = match self.has_table {
            true => self.replace(&mut batch, &rules),
            false => self.create(&mut batch, &rules),
        };
        let socket = match self.owner.take() {
            Some(socket) => socket,
            None => Socket::open().map_err(RedirectError::NoTables)?,
        };
        let socket = self.owner.insert(socket);
        socket.commit(batch).map_err(|refusal| explain(refusal, &verbs))?;
        self.has_table = true;
        self.rules = rules;
        Ok(())
    }

    /// Takes the table away.
    pub(crate) fn remove(&mut self) -> Result<(), RedirectError> {
        if !std::mem::take(&mut self.has_table) {
            return Ok(());
        }
        let Some(socket) = self.owner.take() else { return Ok(()) };
        self.rules.clear();
        // Should it be refused: the socket closes here, and the table goes with it.
        socket.commit(self.farewell()).map_err(|refusal| explain(refusal, &[Verb::DeleteTable]))?;
        self.owner = Some(socket);
        Ok(())
    }

    /// What takes the table away.
    fn farewell(&self) -> Batch {
        let mut batch = Batch::new(NFPROTO_INET);
        batch.message(Verb::DeleteTable, |table| table.text(table::NAME, &self.name));
        batch
    }

    fn create(&self, batch: &mut Batch, rules: &[Rule]) -> Vec<Verb> {
        batch.message(Verb::NewTable, |table| {
            table.text(table::NAME, &self.name);
            if self.owner_flag != 0 {
                table.number(table::FLAGS, self.owner_flag);
            }
        });
        let mut verbs = vec![Verb::NewTable];
        for (name, hook) in [(PREROUTING, libc::NF_INET_PRE_ROUTING), (OUTPUT, libc::NF_INET_LOCAL_OUT)] {
            batch.message(Verb::NewChain, |chain| {
                chain.text(chain::TABLE, &self.name);
                chain.text(chain::NAME, name);
                chain.text(chain::TYPE, "nat");
                chain.nested(chain::HOOK, |at| {
                    at.number(chain::HOOK_NUMBER, hook as u32);
                    at.number(chain::HOOK_PRIORITY, PRIORITY as u32);
                });
            });
            verbs.push(Verb::NewChain);
        }
        batch.message(Verb::NewChain, |chain| {
            chain.text(chain::TABLE, &self.name);
            chain.text(chain::NAME, KEEPER);
        });
        batch.message(Verb::NewRule, |message| {
            message.text(rule::TABLE, &self.name);
            message.text(rule::CHAIN, KEEPER);
            message.nested(rule::EXPRESSIONS, |expressions| expression::redirect_to(expressions, 1));
        });
        verbs.extend([Verb::NewChain, Verb::NewRule]);
        self.add(batch, rules, &mut verbs);
        verbs
    }

    fn replace(&self, batch: &mut Batch, rules: &[Rule]) -> Vec<Verb> {
        let mut verbs = Vec::new();
        for chain in [PREROUTING, OUTPUT] {
            batch.message(Verb::DeleteRule, |all| {
                all.text(rule::TABLE, &self.name);
                all.text(rule::CHAIN, chain);
            });
            verbs.push(Verb::DeleteRule);
        }
        self.add(batch, rules, &mut verbs);
        verbs
    }

    fn add(&self, batch: &mut Batch, rules: &[Rule], verbs: &mut Vec<Verb>) {
        for rule in rules {
            for chain in [PREROUTING, OUTPUT] {
                batch.message(Verb::NewRule, |message| {
                    message.text(rule::TABLE, &self.name);
                    message.text(rule::CHAIN, chain);
                    message.nested(rule::EXPRESSIONS, |expressions| {
                        if chain == OUTPUT {
                            expression::not_ours(expressions);
                        }
                        expression::first_packet_to(expressions, rule.port);
                        expression::redirect_to(expressions, rule.listener);
                    });
                });
                verbs.push(Verb::NewRule);
            }
        }
    }
}

/// Whether a batch with an owner was refused for it: by a flag that is unknown (before Linux 5.12) or not supported.
fn knows_no_owners(refusal: &Refusal) -> bool {
    refusal.message == 0 && matches!(refusal.source.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP))
}

fn explain(refusal: Refusal, verbs: &[Verb]) -> RedirectError {
    let Refusal { message, source } = refusal;
    if source.raw_os_error() == Some(libc::EPERM) {
        return RedirectError::NotPermitted;
    }
    match verbs.get(message) {
        Some(Verb::NewTable | Verb::DeleteTable) | None => RedirectError::Table(source),
        Some(Verb::NewChain) => RedirectError::Chain(source),
        Some(Verb::NewRule | Verb::DeleteRule) => RedirectError::Rule(source),
    }
}

/// Attributes of a table, as `linux/netfilter/nf_tables.h` numbers them.
mod table {
    pub(super) const NAME: u16 = 1;
    pub(super) const FLAGS: u16 = 2;
}

/// Attributes of a chain.
mod chain {
    pub(super) const TABLE: u16 = 1;
    pub(super) const NAME: u16 = 3;
    pub(super) const HOOK: u16 = 4;
    pub(super) const TYPE: u16 = 7;
    pub(super) const HOOK_NUMBER: u16 = 1;
    pub(super) const HOOK_PRIORITY: u16 = 2;
}

/// Attributes of a rule.
mod rule {
    pub(super) const TABLE: u16 = 1;
    pub(super) const CHAIN: u16 = 2;
    pub(super) const EXPRESSIONS: u16 = 4;
}

/// A rule's expressions: small steps over one register, each ends the rule for a packet that does not match.
mod expression {
    use super::{Attributes, FIN_SYN_RST_ACK, MARK, SYN};

    const ELEMENT: u16 = 1;
    const NAME: u16 = 1;
    const DATA: u16 = 2;
    const VALUE: u16 = 1;
    const REGISTER: u32 = 1;
    const EQUAL: u32 = 0;
    const DIFFERENT: u32 = 1;
    const META_MARK: u32 = 3;
    const META_L4PROTO: u32 = 16;
    const FIB_TYPE: u32 = 3;
    const FIB_OF_DESTINATION: u32 = 2;
    const TRANSPORT_HEADER: u32 = 2;
    const DESTINATION_PORT_AT: u32 = 2;
    const FLAGS_AT: u32 = 13;
    const NAT_PORT_GIVEN: u32 = 2;

    /// Not a connection of the agent's own.
    pub(super) fn not_ours(rule: &mut Attributes<'_>) {
        load_meta(rule, META_MARK);
        compare(rule, DIFFERENT, &MARK.to_ne_bytes());
    }

    /// The packet that opens a TCP connection to `port` of this network itself: what is only forwarded is not ours.
    pub(super) fn first_packet_to(rule: &mut Attributes<'_>, port: u16) {
        add(rule, "fib", |fib| {
            fib.number(1, REGISTER);
            fib.number(2, FIB_TYPE);
            fib.number(3, FIB_OF_DESTINATION);
        });
        compare(rule, EQUAL, &u32::from(libc::RTN_LOCAL).to_ne_bytes());
        load_meta(rule, META_L4PROTO);
        compare(rule, EQUAL, &[libc::IPPROTO_TCP as u8]);
        load_payload(rule, DESTINATION_PORT_AT, 2);
        compare(rule, EQUAL, &port.to_be_bytes());
        load_payload(rule, FLAGS_AT, 1);
        add(rule, "bitwise", |bitwise| {
            bitwise.number(1, REGISTER);
            bitwise.number(2, REGISTER);
            bitwise.number(3, 1);
            bitwise.nested(4, |mask| mask.bytes(VALUE, &[FIN_SYN_RST_ACK]));
            bitwise.nested(5, |xor| xor.bytes(VALUE, &[0]));
        });
        compare(rule, EQUAL, &[SYN]);
    }

    pub(super) fn redirect_to(rule: &mut Attributes<'_>, listener: u16) {
        add(rule, "immediate", |immediate| {
            immediate.number(1, REGISTER);
            immediate.nested(2, |data| data.bytes(VALUE, &listener.to_be_bytes()));
        });
        add(rule, "redir", |redirect| {
            redirect.number(1, REGISTER);
            redirect.number(3, NAT_PORT_GIVEN);
        });
    }

    fn load_meta(rule: &mut Attributes<'_>, key: u32) {
        add(rule, "meta", |meta| {
            meta.number(1, REGISTER);
            meta.number(2, key);
        });
    }

    fn load_payload(rule: &mut Attributes<'_>, offset: u32, length: u32) {
        add(rule, "payload", |payload| {
            payload.number(1, REGISTER);
            payload.number(2, TRANSPORT_HEADER);
            payload.number(3, offset);
            payload.number(4, length);
        });
    }

    fn compare(rule: &mut Attributes<'_>, how: u32, value: &[u8]) {
        add(rule, "cmp", |cmp| {
            cmp.number(1, REGISTER);
            cmp.number(2, how);
            cmp.nested(3, |data| data.bytes(VALUE, value));
        });
    }

    fn add(rule: &mut Attributes<'_>, name: &str, fill: impl FnOnce(&mut Attributes<'_>)) {
        rule.nested(ELEMENT, |element| {
            element.text(NAME, name);
            element.nested(DATA, fill);
        });
    }
}
