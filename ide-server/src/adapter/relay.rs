//! What a relay makes of each message between a client and a debug adapter; without I/O.
//!
//! The adapter is started once and never learns that its client changes. A client that leaves without a word while its
//! program runs is expected back: VS Code's reload says `disconnect` without `terminateDebuggee`, where its Stop and
//! its Disconnect say what is to become of the program. The next client is answered from what the first one saw, and
//! told what happened since.

use super::stops::{Resume, Stops};
use super::tail::Tail;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Output kept while no client is there, in bytes of its text.
const KEPT_OUTPUT: usize = 256 << 10;

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Out {
    /// A message for the client.
    Client(Value),
    /// A message for the adapter.
    Adapter(Value),
    /// The client has left: its connection is closed, and the wait for the next one begins.
    Waits,
    /// The debug session is ending: nobody may join any more.
    Ends,
    /// No client will see the end: the adapter has little time left.
    Last,
    /// The client has seen everything that is kept: terminals can be shown again.
    Greeted,
}

/// How far the debug session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The program has not been let go.
    Starting,
    /// It runs, or stands at a breakpoint.
    Running,
    /// It was asked to end, or has.
    Ending,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    None,
    /// It knows less than the adapter has told.
    Joining,
    Present,
}

/// A request that the adapter has not answered.
#[derive(Debug)]
struct Pending {
    /// The client's number for it; `None` for a request of ours, and once its client has left.
    seq: Option<u64>,
    command: String,
    resume: Option<Resume>,
}

/// The state between two messages.
#[derive(Debug)]
pub(super) struct Relay {
    phase: Phase,
    client: Client,
    to_adapter: u64,
    to_client: u64,
    pending: BTreeMap<u64, Pending>,
    /// The adapter's own requests that the client has not answered, with the adapter's numbers.
    asked: BTreeMap<u64, Option<(u64, String)>>,
    capabilities: Map<String, Value>,
    knows_terminate_debuggee: bool,
    is_launched: bool,
    is_configured: bool,
    client_has_terminals: bool,
    said_disconnect: bool,
    goodbye: bool,
    leaves_program: bool,
    process: Option<Value>,
    stops: Stops,
    output: Tail<Value>,
    /// The words by which a program runs in a terminal of the holder's; its number and own words follow.
    terminal_words: Vec<String>,
    /// How the client was asked for each terminal.
    terminals: Vec<Value>,
}

impl Relay {
    pub(super) fn new(terminal_words: Vec<String>) -> Self {
        Self {
            terminal_words,
            terminals: Vec::new(),
            phase: Phase::Starting,
            client: Client::None,
            to_adapter: 0,
            to_client: 0,
            pending: BTreeMap::new(),
            asked: BTreeMap::new(),
            capabilities: Map::new(),
            knows_terminate_debuggee: false,
            is_launched: false,
            is_configured: false,
            client_has_terminals: false,
            said_disconnect: false,
            goodbye: false,
            leaves_program: false,
            process: None,
            stops: Stops::default(),
            output: Tail::new(KEPT_OUTPUT),
        }
    }

    /// Whether a client may come to what is there.
    pub(super) fn can_be_joined(&self) -> bool {
        match self.phase {
            Phase::Starting => self.client == Client::None,
            Phase::Running => true,
            Phase::Ending => false,
        }
    }

    /// Whether the adapter has answered the last request that it will get.
    pub(super) fn said_goodbye(&self) -> bool {
        self.goodbye
    }

    /// Whether the client has said that the program is to stay.
    pub(super) fn leaves_program(&self) -> bool {
        self.leaves_program
    }

    /// A client is there; one that was there before has to have left.
    pub(super) fn joined(&mut self) {
        self.client = if self.phase == Phase::Running { Client::Joining } else { Client::Present };
        self.to_client = 0;
    }

    /// The client's connection is gone, without a word or after one.
    pub(super) fn client_gone(&mut self) -> Vec<Out> {
        if self.client == Client::None {
            return Vec::new();
        }
        let mut out = self.leave();
        if self.phase == Phase::Running {
            out.push(Out::Waits);
        } else {
            out.extend(self.end());
        }
        out
    }

    /// Ends the debuggee: nobody came back, or its client left before it ran.
    pub(super) fn end(&mut self) -> Vec<Out> {
        let begins = self.phase != Phase::Ending;
        self.phase = Phase::Ending;
        let mut out = vec![Out::Ends];
        if self.capabilities.get("supportsTerminateRequest") == Some(&Value::Bool(true)) && begins {
            out.push(self.own("terminate", json!({ "restart": false })));
        } else {
            out.extend(self.hurry());
        }
        out.push(Out::Last);
        out
    }

    /// The last that is said to the adapter, unless it was said.
    pub(super) fn hurry(&mut self) -> Vec<Out> {
        if self.said_disconnect {
            return Vec::new();
        }
        self.said_disconnect = true;
        let arguments = if self.knows_terminate_debuggee {
            json!({ "restart": false, "terminateDebuggee": true })
        } else {
            json!({ "restart": false })
        };
        vec![self.own("disconnect", arguments)]
    }

    /// A message of the client's.
    pub(super) fn client_says(&mut self, message: Value) -> Vec<Out> {
        match message["type"].as_str() {
            Some("request") => self.request(message),
            Some("response") => self.answer_to_adapter(message),
            _ => Vec::new(),
        }
    }

    /// A message of the adapter's.
    pub(super) fn adapter_says(&mut self, message: Value) -> Vec<Out> {
        match message["type"].as_str() {
            Some("response") => self.response(message),
            Some("event") => self.event(message),
            Some("request") => self.adapter_asks(message),
            _ => Vec::new(),
        }
    }

    /// Has the client show a terminal again, if it can.
    pub(super) fn show_again(&mut self, terminal: u32) -> Option<Out> {
        let asked = self.terminals.get(usize::try_from(terminal).ok()?.checked_sub(1)?)?;
        if self.client != Client::Present || !self.client_has_terminals {
            return None;
        }
        let mut arguments = asked.clone();
        arguments["args"] = self.in_terminal(terminal, &[]).into();
        let asked = self.client_message(json!({
            "type": "request", "command": "runInTerminal", "arguments": arguments,
        }));
        self.asked.insert(self.to_client, None);
        Some(asked)
    }

    /// How many terminals the client was asked for; their numbers begin with 1.
    pub(super) fn terminals(&self) -> u32 {
        u32::try_from(self.terminals.len()).unwrap_or(u32::MAX)
    }

    fn request(&mut self, mut message: Value) -> Vec<Out> {
        let command = message["command"].as_str().unwrap_or_default().to_owned();
        let arguments = &message["arguments"];
        match command.as_str() {
            "initialize" => {
                self.client_has_terminals = arguments["supportsRunInTerminalRequest"] == true;
                if self.client == Client::Joining {
                    let body = self.offered();
                    return vec![self.answered(&message, body)];
                }
            }
            "launch" | "attach" if self.client == Client::Joining => {
                let answer = self.answered(&message, json!({}));
                let mut out = vec![answer, self.told("initialized", &json!({}))];
                if !self.is_configurable() {
                    out.extend(self.greet());
                }
                return out;
            }
            "configurationDone" if self.client == Client::Joining => {
                let mut out = vec![self.answered(&message, json!({}))];
                out.extend(self.greet());
                return out;
            }
            "disconnect" => {
                let is_word = arguments["terminateDebuggee"].is_boolean() || arguments["restart"] == true;
                if !is_word && self.phase == Phase::Running {
                    let mut out = vec![self.answered(&message, json!({}))];
                    out.extend(self.client_gone());
                    return out;
                }
                self.phase = Phase::Ending;
                self.said_disconnect = true;
                self.leaves_program = arguments["terminateDebuggee"] == false;
                if !self.knows_terminate_debuggee
                    && let Some(arguments) = message["arguments"].as_object_mut()
                {
                    arguments.remove("terminateDebuggee");
                }
            }
            // Whatever comes of it, a program that was told to end is not kept for who leaves then.
            "terminate" => self.phase = Phase::Ending,
            "cancel" => self.renumber_cancelled(&mut message),
            _ => {}
        }
        let pending = Pending {
            seq: message["seq"].as_u64(),
            resume: self.stops.resumed_by(&command, &message["arguments"]),
            command,
        };
        let is_end =
            self.phase == Phase::Ending && ["terminate", "disconnect"].contains(&pending.command.as_str());
        let sent = self.adapter_message(message);
        self.pending.insert(self.to_adapter, pending);
        if is_end { vec![Out::Ends, sent] } else { vec![sent] }
    }

    /// `cancel` names a request by its client's number.
    fn renumber_cancelled(&self, message: &mut Value) {
        let Some(meant) = message["arguments"]["requestId"].as_u64() else { return };
        let known = self.pending.iter().find(|(_, pending)| pending.seq == Some(meant));
        if let Some((ours, _)) = known {
            message["arguments"]["requestId"] = (*ours).into();
        }
    }

    fn answer_to_adapter(&mut self, mut message: Value) -> Vec<Out> {
        let asked = message["request_seq"].as_u64().and_then(|seq| self.asked.remove(&seq)).flatten();
        let Some((seq, _)) = asked else { return Vec::new() };
        message["request_seq"] = seq.into();
        vec![self.adapter_message(message)]
    }

    fn response(&mut self, mut message: Value) -> Vec<Out> {
        let Some(pending) = message["request_seq"].as_u64().and_then(|seq| self.pending.remove(&seq)) else {
            return Vec::new();
        };
        let succeeded = message["success"] == true;
        match pending.command.as_str() {
            "initialize" if succeeded => {
                self.learn(&message["body"].clone());
                message["body"] = self.offered();
            }
            "launch" | "attach" if succeeded => {
                self.learn(&message["body"].clone());
                self.is_launched = true;
            }
            "configurationDone" if succeeded => self.is_configured = true,
            "disconnect" => self.goodbye = true,
            _ => {}
        }
        if let Some(resume) = pending.resume.filter(|_| succeeded) {
            self.stops.succeeded(resume, &message["body"]);
        }
        if self.phase == Phase::Starting
            && self.is_launched
            && (self.is_configured || !self.is_configurable())
        {
            self.phase = Phase::Running;
        }
        match pending.seq {
            Some(seq) => {
                message["request_seq"] = seq.into();
                vec![self.client_message(message)]
            }
            None => Vec::new(),
        }
    }

    fn event(&mut self, mut message: Value) -> Vec<Out> {
        let is_told = self.client == Client::Present;
        let mut out = Vec::new();
        let passes = match message["event"].as_str().unwrap_or_default() {
            "stopped" => {
                self.stops.stopped(&message["body"]);
                is_told
            }
            "continued" => {
                self.stops.continued(&message["body"]);
                is_told
            }
            "thread" => {
                if message["body"]["reason"] == "exited" {
                    self.stops.ended(message["body"]["threadId"].as_i64());
                }
                is_told
            }
            "process" => {
                self.process = Some(message["body"].clone());
                is_told
            }
            "output" => {
                // Telemetry is not for the user.
                if !is_told && message["body"]["category"] != "telemetry" {
                    let length = message["body"]["output"].as_str().map_or(0, str::len);
                    self.output.push(length, message["body"].clone());
                }
                is_told
            }
            "capabilities" => {
                self.learn(&message["body"]["capabilities"].clone());
                if message["body"]["capabilities"].get("supportTerminateDebuggee").is_some() {
                    message["body"]["capabilities"]["supportTerminateDebuggee"] = true.into();
                }
                is_told
            }
            "terminated" => {
                let alone = self.client == Client::None;
                // One that says so for a restart goes on; its client decides.
                if message["body"].get("restart").is_none_or(Value::is_null) || alone {
                    self.phase = Phase::Ending;
                    out.push(Out::Ends);
                }
                if alone {
                    out.extend(self.hurry());
                    out.push(Out::Last);
                }
                !alone
            }
            _ => self.client != Client::None,
        };
        if passes {
            out.push(self.client_message(message));
        }
        out
    }

    fn adapter_asks(&mut self, mut message: Value) -> Vec<Out> {
        let seq = message["seq"].as_u64().unwrap_or_default();
        let command = message["command"].as_str().unwrap_or_default().to_owned();
        if self.client == Client::None {
            return vec![self.refused(seq, &command)];
        }
        if command == "runInTerminal" {
            self.keep_terminal(&mut message["arguments"]);
        }
        let asked = self.client_message(message);
        self.asked.insert(self.to_client, Some((seq, command)));
        vec![asked]
    }

    /// A program in a terminal of the client's would end with its window: there it is only shown.
    fn keep_terminal(&mut self, arguments: &mut Value) {
        let words: Vec<Value> = arguments["args"].as_array().cloned().unwrap_or_default();
        let mut kept = arguments.clone();
        if let Some(kept) = kept.as_object_mut() {
            kept.remove("env");
        }
        self.terminals.push(kept);
        arguments["args"] = self.in_terminal(self.terminals(), &words).into();
    }

    fn in_terminal(&self, terminal: u32, words: &[Value]) -> Vec<Value> {
        let ours = self.terminal_words.iter().map(|word| Value::from(word.as_str()));
        ours.chain([terminal.to_string().into(), "--".into()]).chain(words.iter().cloned()).collect()
    }

    /// What the client had asked for is nobody's any more, and what it was asked for it will not answer.
    fn leave(&mut self) -> Vec<Out> {
        self.client = Client::None;
        self.client_has_terminals = false;
        for pending in self.pending.values_mut() {
            pending.seq = None;
        }
        let asked = std::mem::take(&mut self.asked);
        asked.into_values().flatten().map(|(seq, command)| self.refused(seq, &command)).collect()
    }

    /// What the client does not know yet; from here on it is told everything.
    fn greet(&mut self) -> Vec<Out> {
        self.client = Client::Present;
        let mut told: Vec<(&str, Value)> = Vec::new();
        told.extend(self.process.clone().map(|body| ("process", body)));
        let (dropped, kept) = self.output.take();
        if dropped > 0 {
            let output = format!(
                "mirrord: {dropped} earlier messages came while no window was there and were dropped\n"
            );
            told.push(("output", json!({ "category": "console", "output": output })));
        }
        told.extend(kept.into_iter().map(|body| ("output", body)));
        told.extend(self.stops.told_again().map(|body| ("stopped", body.clone())));
        let mut out: Vec<Out> = told.into_iter().map(|(name, body)| self.told(name, &body)).collect();
        out.push(Out::Greeted);
        out
    }

    fn learn(&mut self, capabilities: &Value) {
        if let Some(told) = capabilities.get("supportTerminateDebuggee") {
            self.knows_terminate_debuggee = *told == true;
        }
        if let Some(told) = capabilities.as_object() {
            self.capabilities.extend(told.clone());
        }
    }

    /// The adapter's capabilities, as clients see them: they are to say what becomes of the program.
    fn offered(&self) -> Value {
        let mut offered = self.capabilities.clone();
        offered.insert("supportTerminateDebuggee".to_owned(), true.into());
        Value::Object(offered)
    }

    fn is_configurable(&self) -> bool {
        self.capabilities.get("supportsConfigurationDoneRequest") == Some(&Value::Bool(true))
    }

    fn own(&mut self, command: &str, arguments: Value) -> Out {
        let sent =
            self.adapter_message(json!({ "type": "request", "command": command, "arguments": arguments }));
        let pending = Pending { seq: None, command: command.to_owned(), resume: None };
        self.pending.insert(self.to_adapter, pending);
        sent
    }

    fn refused(&mut self, seq: u64, command: &str) -> Out {
        self.adapter_message(json!({
            "type": "response", "request_seq": seq, "command": command, "success": false,
            "message": "no editor's window is there now",
        }))
    }

    fn answered(&mut self, request: &Value, body: Value) -> Out {
        self.client_message(json!({
            "type": "response", "request_seq": request["seq"], "command": request["command"], "success": true, "body": body,
        }))
    }

    fn told(&mut self, event: &str, body: &Value) -> Out {
        self.client_message(json!({ "type": "event", "event": event, "body": body }))
    }

    fn client_message(&mut self, mut message: Value) -> Out {
        self.to_client += 1;
        message["seq"] = self.to_client.into();
        Out::Client(message)
    }

    fn adapter_message(&mut self, mut message: Value) -> Out {
        self.to_adapter += 1;
        message["seq"] = self.to_adapter.into();
        Out::Adapter(message)
    }
}

#[cfg(test)]
mod tests;
