//! The owner of the daemon's state. Everything that can wake it is one [`Event`]; nothing in here waits.
//!
//! What takes time (resolving, starting agents, talking to session hosts) runs in tasks that hold a copy of what they
//! need and come back as events.

use crate::agents::{Agent, AgentRecord, NotMade, Wanted};
use crate::handlers;
use crate::plans::Plan;
use crate::rpc::connection::Outbox;
use crate::session::{HostLink, Planned, Session};
use crate::state::StateFolder;
use protocol::auth::SecretKey;
use protocol::host::HostEvent;
use protocol::ide::{
    ClientOptions, ConfigVerify, DaemonStatus, DaemonStop, Discovery, ErrorData, Method, NamespaceList,
    SessionAttach, SessionExplain, SessionForget, SessionList, SessionPlan, SessionRedeem, SessionStart,
    SessionStop, SessionSubscribe, TargetList,
};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Numbers a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub u64);

/// How tasks reach the main loop. Sending fails only when the daemon has ended.
pub type EventSender = mpsc::UnboundedSender<Event>;

/// The answer to a request.
pub type Answer<T> = Result<T, ErrorData>;

/// A request with the way back.
#[derive(Debug)]
pub struct Ask<M: Method> {
    /// Who asks.
    pub client: ClientId,
    /// Where notifications for the asker go.
    pub outbox: Outbox,
    /// What is asked.
    pub params: M::Params,
    /// Closed when the asker has taken the request back.
    pub reply: oneshot::Sender<Answer<M::Answer>>,
}

macro_rules! calls {
    ($($method:ident),* $(,)?) => {
        /// Any request.
        #[derive(Debug)]
        #[expect(missing_docs, reason = "each variant is the method of its name, documented there")]
        pub enum Call {
            $($method(Ask<$method>)),*
        }

        $(impl From<Ask<$method>> for Call {
            fn from(ask: Ask<$method>) -> Self {
                Self::$method(ask)
            }
        })*
    };
}

calls![
    TargetList,
    NamespaceList,
    SessionPlan,
    SessionRedeem,
    SessionForget,
    SessionStart,
    SessionList,
    SessionAttach,
    SessionSubscribe,
    SessionExplain,
    SessionStop,
    ConfigVerify,
    DaemonStatus,
    DaemonStop
];

/// Everything that can wake the main loop.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "few wait at a time, and each is taken once")]
pub enum Event {
    /// A client connected.
    Connected {
        /// Which.
        client: ClientId,
        /// Where its notifications go.
        outbox: Outbox,
    },
    /// A client said who it is.
    Initialized {
        /// Which.
        client: ClientId,
        /// Who.
        options: ClientOptions,
    },
    /// A client is gone.
    Disconnected {
        /// Which.
        client: ClientId,
        /// Whether it took its leave; what breaks off has crashed.
        said_goodbye: bool,
    },
    /// A client asks.
    Call(Box<Call>),
    /// A session's task needs an agent.
    AgentWanted(Wanted),
    /// An agent's task has made it, or not.
    AgentMade {
        /// Which.
        agent: String,
        /// How it went.
        result: Result<AgentRecord, NotMade>,
    },
    /// An agent has let a session in, or not.
    AgentAdmitted {
        /// Which.
        agent: String,
        /// The session and the way back.
        wanted: Wanted,
        /// The key that it let in.
        result: Result<SecretKey, ErrorData>,
    },
    /// An agent had no session for its idle time.
    AgentIdle {
        /// Which.
        agent: String,
        /// The idle period that is over.
        period: u64,
    },
    /// An agent ended by itself.
    AgentGone {
        /// Which.
        agent: String,
    },
    /// All that belongs to an agent is removed.
    AgentRemoved {
        /// Which.
        agent: String,
        /// What could not be removed.
        result: Result<(), ErrorData>,
    },
    /// A session's start task has come to its end.
    SessionPlanned {
        /// Which.
        session: String,
        /// How it went.
        result: Result<Box<Planned>, ErrorData>,
    },
    /// A session host listens.
    HostUp {
        /// Whose.
        session: String,
        /// How to speak to it.
        link: HostLink,
    },
    /// A session host tells.
    HostSaid {
        /// Whose.
        session: String,
        /// What.
        event: Box<HostEvent>,
    },
    /// A session host is gone, or never came.
    HostGone {
        /// Whose.
        session: String,
        /// Why, for people.
        reason: String,
    },
    /// A session's lease without an owner is over.
    LeaseOver {
        /// Which.
        session: String,
    },
    /// A session's program should be there by now.
    ProgramDue {
        /// Whose.
        session: String,
    },
    /// The editor of a plan was away for its lease.
    PlanLeaseOver {
        /// Which.
        plan: String,
        /// The absence that the lease was for.
        absence: u64,
    },
    /// A plan is made.
    PlanMade(Box<crate::plans::Made>),
    /// The program that a debugger is to get hold of again was looked for.
    ProgramFound(handlers::session_attach::Found),
    /// A signal asks the daemon to end.
    Terminate,
}

/// The state, with one owner.
#[derive(Debug)]
pub struct Daemon {
    /// Where state is kept for the next daemon.
    pub(crate) state: StateFolder,
    /// How tasks come back.
    pub(crate) events: EventSender,
    /// What the daemon says of itself.
    pub(crate) discovery: Discovery,
    /// Time without clients, sessions and agents after which it ends.
    pub(crate) idle_exit: Option<Duration>,
    /// Who is connected.
    pub(crate) clients: HashMap<ClientId, ClientState>,
    /// Sessions by name.
    pub(crate) sessions: BTreeMap<String, Session>,
    /// Plans of editors by name.
    pub(crate) plans: BTreeMap<String, Plan>,
    /// Agents by name.
    pub(crate) agents: BTreeMap<String, Agent>,
    /// `session/stop` requests that wait for an end.
    pub(crate) stops: Vec<handlers::session_stop::Pending>,
    /// `session/redeem` requests that wait for the end of their plan's former program.
    pub(crate) redeems: Vec<handlers::session_redeem::Pending>,
    /// The client that told the daemon to end: it ends with its connection.
    pub(crate) ends_with: Option<ClientId>,
    /// Set when the loop is to end after this event.
    pub(crate) ending: bool,
}

/// One connected client.
#[derive(Debug)]
pub(crate) struct ClientState {
    pub(crate) outbox: Outbox,
    pub(crate) options: ClientOptions,
}

impl Daemon {
    /// A daemon without sessions yet.
    pub fn new(
        state: StateFolder,
        events: EventSender,
        discovery: Discovery,
        idle_exit: Option<Duration>,
    ) -> Self {
        Self {
            state,
            events,
            discovery,
            idle_exit,
            clients: HashMap::new(),
            sessions: BTreeMap::new(),
            plans: BTreeMap::new(),
            agents: BTreeMap::new(),
            stops: Vec::new(),
            redeems: Vec::new(),
            ends_with: None,
            ending: false,
        }
    }

    /// Runs until told to end or until nobody has needed the daemon for a while.
    pub async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Event>) {
        self.adopt();
        loop {
            let event = match self.idle_exit.filter(|_| self.is_idle()) {
                Some(limit) => match tokio::time::timeout(limit, inbox.recv()).await {
                    Ok(event) => event,
                    Err(_) => {
                        tracing::info!("nobody has needed the daemon for {limit:?}; it ends");
                        return;
                    }
                },
                None => inbox.recv().await,
            };
            let Some(event) = event else { return };
            self.handle(event);
            if self.ending {
                return;
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.clients.is_empty() && self.sessions.is_empty() && self.agents.is_empty()
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Connected { client, outbox } => {
                self.clients.insert(client, ClientState { outbox, options: ClientOptions::default() });
            }
            Event::Initialized { client, options } => {
                if let Some(state) = self.clients.get_mut(&client) {
                    state.options = options;
                }
            }
            Event::Disconnected { client, said_goodbye } => {
                let state = self.clients.remove(&client);
                self.ending |= self.ends_with == Some(client);
                self.client_left(client, state.is_some_and(|state| state.options.editor), said_goodbye);
            }
            Event::Call(call) => self.call(*call),
            Event::AgentWanted(wanted) => self.agent_wanted(wanted),
            Event::AgentMade { agent, result } => self.agent_made(&agent, result),
            Event::AgentAdmitted { agent, wanted, result } => self.agent_admitted(&agent, wanted, result),
            Event::AgentIdle { agent, period } => self.agent_idle(&agent, period),
            Event::AgentGone { agent } => self.agent_gone(&agent),
            Event::AgentRemoved { agent, result } => self.agent_removed(&agent, result),
            Event::SessionPlanned { session, result } => self.session_planned(&session, result),
            Event::HostUp { session, link } => self.host_up(&session, link),
            Event::HostSaid { session, event } => self.host_said(&session, *event),
            Event::HostGone { session, reason } => self.host_gone(&session, &reason),
            Event::LeaseOver { session } => self.lease_over(&session),
            Event::ProgramDue { session } => self.program_due(&session),
            Event::PlanLeaseOver { plan, absence } => self.plan_lease_over(&plan, absence),
            Event::PlanMade(made) => self.plan_made(*made),
            Event::ProgramFound(found) => handlers::session_attach::found(self, found),
            Event::Terminate => self.ending = true,
        }
    }

    fn call(&mut self, call: Call) {
        match call {
            Call::TargetList(ask) => handlers::target_list::handle(self, ask),
            Call::NamespaceList(ask) => handlers::namespace_list::handle(ask),
            Call::SessionPlan(ask) => handlers::session_plan::handle(self, ask),
            Call::SessionRedeem(ask) => handlers::session_redeem::handle(self, ask),
            Call::SessionForget(ask) => handlers::session_forget::handle(self, ask),
            Call::SessionStart(ask) => handlers::session_start::handle(self, ask),
            Call::SessionList(ask) => handlers::session_list::handle(self, ask),
            Call::SessionAttach(ask) => handlers::session_attach::handle(self, ask),
            Call::SessionSubscribe(ask) => handlers::session_subscribe::handle(self, ask),
            Call::SessionExplain(ask) => handlers::session_explain::handle(self, ask),
            Call::SessionStop(ask) => handlers::session_stop::handle(self, ask),
            Call::ConfigVerify(ask) => handlers::config_verify::handle(ask),
            Call::DaemonStatus(ask) => handlers::daemon_status::handle(self, ask),
            Call::DaemonStop(ask) => handlers::daemon_stop::handle(self, ask),
        }
    }

    /// Whether an editor is connected, for whom agents stay warm longer.
    pub(crate) fn has_editor(&self) -> bool {
        self.clients.values().any(|client| client.options.editor)
    }
}

/// Sends an event; a daemon that has ended needs none.
pub(crate) fn send(events: &EventSender, event: Event) {
    if events.send(event).is_err() {
        tracing::debug!("an event came after the end of the daemon");
    }
}

/// Answers a request; an asker that has taken it back needs none.
pub(crate) fn answer<T>(reply: oneshot::Sender<Answer<T>>, answer: Answer<T>) {
    if reply.send(answer).is_err() {
        tracing::debug!("an answer came after its request was taken back");
    }
}
