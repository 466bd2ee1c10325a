//! Which threads of the debuggee stand still, as its adapter has told.

use serde_json::Value;

/// The stops that still hold, oldest first.
#[derive(Debug, Default)]
pub(super) struct Stops {
    held: Vec<Stop>,
    count: u64,
}

#[derive(Debug)]
struct Stop {
    number: u64,
    body: Value,
}

/// What a resuming request lets run, once it has succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resume {
    /// Stops told after the request was sent are not of what it resumes.
    before: u64,
    thread: Option<i64>,
    alone: bool,
}

impl Stops {
    /// The body of a `stopped` event.
    pub(super) fn stopped(&mut self, body: &Value) {
        let thread = body["threadId"].as_i64();
        if thread.is_some() {
            self.held.retain(|stop| stop.body["threadId"].as_i64() != thread);
        }
        self.count += 1;
        self.held.push(Stop { number: self.count, body: body.clone() });
    }

    /// The body of a `continued` event: all threads unless it says otherwise, as VS Code reads it.
    pub(super) fn continued(&mut self, body: &Value) {
        let alone = body["allThreadsContinued"] == false;
        self.clear(u64::MAX, body["threadId"].as_i64(), alone);
    }

    /// A thread has ended.
    pub(super) fn ended(&mut self, thread: Option<i64>) {
        self.clear(u64::MAX, thread, true);
    }

    /// What a request with these arguments resumes, if it is one that does.
    pub(super) fn resumed_by(&self, command: &str, arguments: &Value) -> Option<Resume> {
        const RESUMING: [&str; 7] =
            ["continue", "next", "stepIn", "stepOut", "stepBack", "reverseContinue", "restart"];
        RESUMING.contains(&command).then(|| Resume {
            before: self.count,
            thread: arguments["threadId"].as_i64(),
            alone: arguments["singleThread"] == true,
        })
    }

    /// That request has succeeded with this body.
    pub(super) fn succeeded(&mut self, resume: Resume, body: &Value) {
        let alone = resume.alone || body["allThreadsContinued"] == false;
        self.clear(resume.before, resume.thread, alone);
    }

    /// The bodies of the events that tell it again.
    pub(super) fn told_again(&self) -> impl Iterator<Item = &Value> {
        self.held.iter().map(|stop| &stop.body)
    }

    fn clear(&mut self, before: u64, thread: Option<i64>, alone: bool) {
        self.held.retain(|stop| {
            stop.number > before || alone && thread.is_some() && stop.body["threadId"].as_i64() != thread
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn threads(stops: &Stops) -> Vec<i64> {
        stops.told_again().map(|body| body["threadId"].as_i64().unwrap()).collect()
    }

    fn stopped(ids: &[i64]) -> Stops {
        let mut stops = Stops::default();
        for id in ids {
            stops.stopped(&json!({ "reason": "breakpoint", "threadId": id }));
        }
        stops
    }

    #[test]
    fn a_thread_stands_where_it_stopped_last_and_the_last_one_comes_last() {
        let mut stops = stopped(&[1, 2]);
        stops.stopped(&json!({ "reason": "step", "threadId": 1 }));
        assert_eq!(threads(&stops), [2, 1]);
        assert_eq!(stops.told_again().last().unwrap()["reason"], "step");
    }

    #[test]
    fn what_goes_on_is_forgotten_all_threads_unless_it_is_said_that_it_is_one() {
        let mut stops = stopped(&[1, 2]);
        stops.continued(&json!({ "threadId": 1, "allThreadsContinued": false }));
        assert_eq!(threads(&stops), [2]);
        stops.continued(&json!({ "threadId": 1 }));
        assert_eq!(threads(&stops), [0; 0]);
        let mut stops = stopped(&[1, 2]);
        let one = stops.resumed_by("next", &json!({ "threadId": 2, "singleThread": true })).unwrap();
        stops.succeeded(one, &Value::Null);
        assert_eq!(threads(&stops), [1]);
        let mut stops = stopped(&[1, 2]);
        let one = stops.resumed_by("continue", &json!({ "threadId": 2 })).unwrap();
        stops.succeeded(one, &json!({ "allThreadsContinued": false }));
        assert_eq!(threads(&stops), [1]);
        assert_eq!(stops.resumed_by("stackTrace", &json!({ "threadId": 1 })), None);
        stops.ended(Some(1));
        assert_eq!(threads(&stops), [0; 0]);
    }

    #[test]
    fn a_stop_that_comes_before_the_answer_to_the_step_is_the_steps_own() {
        let mut stops = stopped(&[1]);
        let step = stops.resumed_by("next", &json!({ "threadId": 1 })).unwrap();
        stops.stopped(&json!({ "reason": "step", "threadId": 1 }));
        stops.succeeded(step, &Value::Null);
        assert_eq!(stops.told_again().last().unwrap()["reason"], "step");
    }
}
