//! Recorded conversations: what one side says, and what the other hears of it.

use super::*;

/// An adapter with its client, message by message.
struct Talk {
    relay: Relay,
    client_seq: u64,
    adapter_seq: u64,
}

impl Talk {
    fn begun() -> Self {
        let mut relay = Relay::new(vec!["mirrord-ide".to_owned(), "adapter-terminal".to_owned()]);
        relay.joined();
        Self { relay, client_seq: 0, adapter_seq: 0 }
    }

    /// Up to the running program, as debugpy has it: the launch is answered last.
    fn running(capabilities: Value) -> Self {
        let mut talk = Self::begun();
        talk.answered("initialize", json!({ "supportsRunInTerminalRequest": true }), capabilities);
        let launch = talk.asks("launch", json!({ "program": "app.py" }));
        talk.tells("initialized", json!({}));
        talk.answered(
            "setBreakpoints",
            json!({ "lines": [3] }),
            json!({ "breakpoints": [{ "verified": true }] }),
        );
        talk.answered("configurationDone", json!({}), json!({}));
        talk.answers(&launch, json!({}));
        talk.tells("process", json!({ "name": "app.py", "systemProcessId": 77 }));
        assert_eq!(talk.relay.phase, Phase::Running);
        talk
    }

    /// The client asks.
    fn ask(&mut self, command: &str, arguments: Value) -> Vec<Out> {
        self.client_seq += 1;
        let message =
            json!({ "seq": self.client_seq, "type": "request", "command": command, "arguments": arguments });
        self.relay.client_says(message)
    }

    /// The client asks what is passed on; as the adapter hears it.
    fn asks(&mut self, command: &str, arguments: Value) -> Value {
        match self.ask(command, arguments).pop() {
            Some(Out::Adapter(message)) => message,
            other => panic!("{command} is not passed on: {other:?}"),
        }
    }

    /// The adapter answers; as the client hears it.
    fn answers(&mut self, request: &Value, body: Value) -> Vec<Out> {
        self.adapter_seq += 1;
        self.relay.adapter_says(json!({
            "seq": self.adapter_seq, "type": "response", "request_seq": request["seq"], "command": request["command"],
            "success": true, "body": body,
        }))
    }

    fn answered(&mut self, command: &str, arguments: Value, body: Value) -> Vec<Out> {
        let heard = self.asks(command, arguments);
        self.answers(&heard, body)
    }

    /// The adapter tells an event.
    fn tells(&mut self, event: &str, body: Value) -> Vec<Out> {
        self.adapter_seq += 1;
        self.relay
            .adapter_says(json!({ "seq": self.adapter_seq, "type": "event", "event": event, "body": body }))
    }

    /// The client leaves as VS Code does when its window is reloaded.
    fn reload(&mut self) -> Vec<Out> {
        self.ask("disconnect", json!({ "restart": false }))
    }

    /// The next client, up to and with its `configurationDone`: what it is told then.
    fn comes_back(&mut self) -> Vec<Value> {
        self.relay.joined();
        self.client_seq = 0;
        let offered = heard(self.ask("initialize", json!({ "supportsRunInTerminalRequest": true })));
        assert_eq!(offered[0]["body"]["supportTerminateDebuggee"], true);
        let launched = heard(self.ask("launch", json!({ "program": "app.py" })));
        assert_eq!(names(&launched), ["launch", "initialized"]);
        let mut told = heard(self.ask("configurationDone", json!({})));
        assert_eq!(told.remove(0)["command"], "configurationDone");
        told
    }
}

/// What the client hears.
fn heard(out: Vec<Out>) -> Vec<Value> {
    out.into_iter()
        .filter_map(|out| if let Out::Client(message) = out { Some(message) } else { None })
        .collect()
}

/// What the adapter hears.
fn passed(out: Vec<Out>) -> Vec<Value> {
    out.into_iter()
        .filter_map(|out| if let Out::Adapter(message) = out { Some(message) } else { None })
        .collect()
}

fn names(messages: &[Value]) -> Vec<&str> {
    messages
        .iter()
        .filter_map(|message| message["event"].as_str().or_else(|| message["command"].as_str()))
        .collect()
}

fn capable() -> Value {
    json!({ "supportsConfigurationDoneRequest": true, "supportTerminateDebuggee": true })
}

#[test]
fn numbers_are_each_sides_own_and_answers_find_their_requests() {
    let mut talk = Talk::begun();
    talk.client_seq = 40;
    let asked = talk.asks("initialize", json!({}));
    assert_eq!(asked["seq"], 1);
    let answer = heard(talk.answers(&asked, json!({ "supportsStepBack": true })));
    assert_eq!((&answer[0]["seq"], &answer[0]["request_seq"]), (&json!(1), &json!(41)));
    let [slow, fast] = [talk.asks("threads", json!({})), talk.asks("evaluate", json!({}))];
    assert_eq!(heard(talk.answers(&fast, json!({})))[0]["request_seq"], 43);
    assert_eq!(talk.asks("cancel", json!({ "requestId": 42 }))["arguments"]["requestId"], slow["seq"]);
    assert_eq!(heard(talk.answers(&slow, json!({})))[0]["request_seq"], 42);
    // The adapter's own request and its answer.
    let out = talk
        .relay
        .adapter_says(json!({ "seq": 9, "type": "request", "command": "startDebugging", "arguments": {} }));
    let seq = heard(out)[0]["seq"].clone();
    let out =
        talk.relay.client_says(json!({ "seq": 50, "type": "response", "request_seq": seq, "success": true }));
    assert_eq!(passed(out)[0]["request_seq"], 9);
}

#[test]
fn the_client_is_always_told_that_it_may_say_what_becomes_of_the_program() {
    let mut talk = Talk::begun();
    let answer = heard(talk.answered("initialize", json!({}), json!({})));
    assert_eq!(answer[0]["body"]["supportTerminateDebuggee"], true);
    let event = talk.tells("capabilities", json!({ "capabilities": { "supportTerminateDebuggee": false } }));
    assert_eq!(heard(event)[0]["body"]["capabilities"]["supportTerminateDebuggee"], true);
    // The adapter that does not know the word does not hear it.
    let sent = talk.asks("disconnect", json!({ "restart": false, "terminateDebuggee": true }));
    assert_eq!(sent["arguments"], json!({ "restart": false }));
    let mut talk = Talk::running(capable());
    let sent = talk.asks("disconnect", json!({ "terminateDebuggee": true }));
    assert_eq!(sent["arguments"], json!({ "terminateDebuggee": true }));
}

#[test]
fn a_client_that_leaves_without_a_word_is_waited_for_and_the_adapter_hears_nothing() {
    let mut talk = Talk::running(capable());
    let out = talk.reload();
    assert_eq!(out.last(), Some(&Out::Waits));
    assert_eq!(passed(out.clone()), [] as [Value; 0]);
    assert_eq!(heard(out)[0]["success"], true);
    assert!(talk.relay.can_be_joined());
    let mut talk = Talk::running(capable());
    assert_eq!(talk.relay.client_gone(), [Out::Waits]);
    assert_eq!(talk.relay.client_gone(), []);
}

#[test]
fn stop_disconnect_and_restart_are_words_and_pass() {
    for arguments in [
        json!({ "restart": false, "terminateDebuggee": true }),
        json!({ "restart": false, "terminateDebuggee": false }),
        json!({ "restart": true }),
    ] {
        let mut talk = Talk::running(capable());
        let out = talk.ask("disconnect", arguments.clone());
        assert_eq!(out[0], Out::Ends);
        assert_eq!(passed(out)[0]["arguments"], arguments);
        assert!(!talk.relay.can_be_joined());
        assert_eq!(talk.relay.leaves_program(), arguments["terminateDebuggee"] == false);
        // Nothing is said twice.
        assert_eq!(talk.relay.client_gone(), [Out::Ends, Out::Last]);
    }
    let mut talk = Talk::running(capable());
    assert_eq!(talk.ask("terminate", json!({}))[0], Out::Ends);
    assert_eq!(names(&passed(talk.relay.client_gone())), ["disconnect"]);
}

#[test]
fn who_leaves_before_the_program_runs_or_after_its_end_takes_the_adapter_along() {
    let mut talk = Talk::begun();
    talk.answered("initialize", json!({}), capable());
    talk.asks("launch", json!({}));
    let out = talk.relay.client_gone();
    assert_eq!(passed(out)[0]["arguments"], json!({ "restart": false, "terminateDebuggee": true }));
    let mut talk = Talk::running(capable());
    assert_eq!(talk.tells("terminated", json!({}))[0], Out::Ends);
    assert_eq!(names(&passed(talk.reload())), ["disconnect"]);
    assert!(!talk.relay.can_be_joined());
}

#[test]
fn a_launch_that_fails_is_no_program_to_wait_for() {
    let mut talk = Talk::begun();
    talk.answered("initialize", json!({}), capable());
    let launch = talk.asks("launch", json!({}));
    talk.answered("configurationDone", json!({}), json!({}));
    talk.relay.adapter_says(json!({ "seq": 9, "type": "response", "request_seq": launch["seq"], "command": "launch", "success": false }));
    assert_eq!(names(&passed(talk.reload())), ["disconnect"]);
}

#[test]
fn the_next_client_is_told_where_the_program_stands() {
    let mut talk = Talk::running(capable());
    let output = json!({ "category": "stdout", "output": "before\n" });
    talk.tells("output", output);
    talk.tells("stopped", json!({ "reason": "breakpoint", "threadId": 1, "allThreadsStopped": true }));
    talk.reload();
    assert_eq!(talk.tells("output", json!({ "category": "stdout", "output": "meanwhile\n" })), []);
    assert_eq!(talk.tells("output", json!({ "category": "telemetry", "output": "x" })), []);
    let told = talk.comes_back();
    assert_eq!(names(&told), ["process", "output", "stopped"]);
    assert_eq!(told[0]["body"]["systemProcessId"], 77);
    assert_eq!(told[1]["body"]["output"], "meanwhile\n");
    assert_eq!(told[2]["body"]["threadId"], 1);
    // It goes on as ever, and what was told once is not told again.
    talk.answered("continue", json!({ "threadId": 1 }), json!({ "allThreadsContinued": true }));
    talk.reload();
    assert_eq!(names(&talk.comes_back()), ["process"]);
}

#[test]
fn what_happens_while_a_client_is_greeted_is_told_once() {
    let mut talk = Talk::running(capable());
    talk.reload();
    talk.relay.joined();
    talk.ask("initialize", json!({}));
    talk.ask("launch", json!({}));
    assert_eq!(talk.tells("stopped", json!({ "reason": "breakpoint", "threadId": 5 })), []);
    let set = talk.asks("setBreakpoints", json!({ "lines": [3] }));
    assert_eq!(heard(talk.answers(&set, json!({ "breakpoints": [] })))[0]["command"], "setBreakpoints");
    assert_eq!(
        names(&heard(talk.ask("configurationDone", json!({})))),
        ["configurationDone", "process", "stopped"]
    );
    assert_eq!(names(&heard(talk.tells("continued", json!({ "threadId": 5 })))), ["continued"]);
}

#[test]
fn an_adapter_without_configuration_done_greets_after_the_launch() {
    let mut talk = Talk::begun();
    talk.answered("initialize", json!({}), json!({}));
    talk.answered("launch", json!({}), json!({}));
    talk.tells("process", json!({ "systemProcessId": 5 }));
    talk.reload();
    talk.relay.joined();
    talk.ask("initialize", json!({}));
    assert_eq!(names(&heard(talk.ask("launch", json!({})))), ["launch", "initialized", "process"]);
}

#[test]
fn output_that_does_not_fit_is_said_to_be_missing() {
    let mut talk = Talk::running(capable());
    talk.reload();
    let long = "x".repeat(KEPT_OUTPUT / 2);
    for _ in 0..5 {
        talk.tells("output", json!({ "output": long }));
    }
    let told = talk.comes_back();
    assert_eq!(names(&told), ["process", "output", "output", "output"]);
    assert!(told[1]["body"]["output"].as_str().unwrap().contains("3 earlier messages"), "{}", told[1]);
}

#[test]
fn answers_for_a_client_that_has_left_reach_nobody_and_still_count() {
    let mut talk = Talk::running(capable());
    talk.tells("stopped", json!({ "reason": "breakpoint", "threadId": 1 }));
    let go_on = talk.asks("continue", json!({ "threadId": 1 }));
    talk.reload();
    assert_eq!(talk.answers(&go_on, json!({})), []);
    assert_eq!(names(&talk.comes_back()), ["process"]);
}

#[test]
fn what_nobody_can_be_asked_is_refused() {
    let ask = json!({ "seq": 9, "type": "request", "command": "startDebugging", "arguments": {} });
    let refused = |out: Vec<Out>| {
        let answer = passed(out).remove(0);
        (answer["request_seq"].clone(), answer["success"].clone())
    };
    let mut talk = Talk::running(capable());
    talk.reload();
    assert_eq!(refused(talk.relay.adapter_says(ask.clone())), (json!(9), json!(false)));
    // One that was asked before is refused when the client leaves, and its late answer is nobody's.
    let mut talk = Talk::running(capable());
    let seq = heard(talk.relay.adapter_says(ask))[0]["seq"].clone();
    assert_eq!(refused(talk.reload()), (json!(9), json!(false)));
    talk.comes_back();
    assert_eq!(
        talk.relay.client_says(json!({ "type": "response", "request_seq": seq, "success": true })),
        []
    );
}

#[test]
fn nobody_comes_back_and_the_program_is_ended_by_its_adapter() {
    let mut talk = Talk::running(capable());
    talk.reload();
    let out = talk.relay.end();
    assert_eq!((out.first(), out.last()), (Some(&Out::Ends), Some(&Out::Last)));
    let last = passed(out).remove(0);
    assert_eq!(last["arguments"]["terminateDebuggee"], true);
    assert!(!talk.relay.can_be_joined() && !talk.relay.said_goodbye());
    talk.answers(&last, json!({}));
    assert!(talk.relay.said_goodbye());
    // Politely first where that is known, and at once when the program has gone.
    let mut both = capable();
    both["supportsTerminateRequest"] = true.into();
    let mut talk = Talk::running(both);
    talk.reload();
    assert_eq!(names(&passed(talk.relay.end())), ["terminate"]);
    assert_eq!(names(&passed(talk.tells("terminated", json!({})))), ["disconnect"]);
    assert_eq!(talk.relay.hurry(), []);
}

#[test]
fn a_terminal_only_shows_what_runs_and_is_asked_for_again() {
    let mut talk = Talk::running(capable());
    let arguments = json!({
        "kind": "integrated", "title": "app", "cwd": "/w", "args": ["python3", "launcher"], "env": { "TOKEN": "x" },
    });
    let out = talk.relay.adapter_says(
        json!({ "seq": 9, "type": "request", "command": "runInTerminal", "arguments": arguments }),
    );
    let asked = heard(out).remove(0);
    let words = json!(["mirrord-ide", "adapter-terminal", "1", "--", "python3", "launcher"]);
    assert_eq!(asked["arguments"]["args"], words);
    assert_eq!(asked["arguments"]["env"], json!({ "TOKEN": "x" }));
    let out = talk
        .relay
        .client_says(json!({ "type": "response", "request_seq": asked["seq"], "success": true, "body": {} }));
    assert_eq!(passed(out)[0]["request_seq"], 9);
    talk.reload();
    assert_eq!(talk.relay.show_again(1), None);
    talk.comes_back();
    let Some(Out::Client(again)) = talk.relay.show_again(1) else { panic!("it is not shown again") };
    assert_eq!(again["arguments"]["args"], json!(["mirrord-ide", "adapter-terminal", "1", "--"]));
    assert_eq!((&again["arguments"]["cwd"], again["arguments"].get("env")), (&json!("/w"), None));
    // The answer is ours.
    let out =
        talk.relay.client_says(json!({ "type": "response", "request_seq": again["seq"], "success": true }));
    assert_eq!(out, []);
    assert_eq!(talk.relay.show_again(2), None);
}
