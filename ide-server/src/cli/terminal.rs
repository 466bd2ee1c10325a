//! What the user reads: sentences on standard error, results on standard output.

use super::args::ProgressMode;
use protocol::host::Failure;
use protocol::ide::{ErrorData, ErrorKind, WorkProgress};
use serde_json::{Value, json};
use session_host::front::Say;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

/// Says one sentence.
pub(super) fn say(message: &str) {
    // Nothing is left to do when standard error is gone.
    let _ = writeln!(std::io::stderr(), "mirrord-ide: {message}");
}

/// Writes one line of the result.
pub(super) fn out(line: &str) -> Result<(), ErrorData> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(|error| {
        ErrorData::new(ErrorKind::Internal, "standard output cannot be written", "see where it leads")
            .caused_by(&error)
    })
}

/// Says what failed, and what to do, and gives the exit status of that kind of error.
pub(super) fn fail(error: &ErrorData) -> ExitCode {
    let mut text = format!("mirrord-ide: {} [{}]\n", with_causes(error), error.kind.word());
    if error.kind == ErrorKind::ConfigInvalid {
        for other in &error.cause {
            text.push_str(&format!("  {other}\n"));
        }
    }
    text.push_str(&format!("  {}\n", error.help));
    // Nothing is left to do when standard error is gone.
    let _ = std::io::stderr().write_all(text.as_bytes());
    ExitCode::from(error.kind.exit_status())
}

/// The sentence and what caused it, each cause once, in one line.
fn with_causes(error: &ErrorData) -> String {
    let mut text = error.message.clone();
    // The causes of a bad config are its other errors, which get a line each.
    if error.kind != ErrorKind::ConfigInvalid {
        for cause in &error.cause {
            if !text.contains(cause.as_str()) {
                text.push_str(": ");
                text.push_str(cause);
            }
        }
    }
    text.replace(['\n', '\r'], " ")
}

/// Tells the steps of a start and what the front has to say.
#[derive(Debug)]
pub(super) struct Progress {
    mode: ProgressMode,
    is_terminal: bool,
    /// Whether a step stands on the terminal's line and is to be overwritten.
    open: bool,
}

impl Progress {
    pub(super) fn new(mode: ProgressMode) -> Self {
        Self { mode, is_terminal: std::io::stderr().is_terminal(), open: false }
    }

    /// One notification of a request under way.
    pub(super) fn on_notice(&mut self, method: &str, params: &Value) {
        if method != "$/progress" {
            return;
        }
        if self.mode == ProgressMode::Json {
            return self.json(&json!({ "progress": params["value"] }));
        }
        let Ok(WorkProgress::Report { message }) = serde_json::from_value(params["value"].clone()) else {
            return;
        };
        match self.mode {
            ProgressMode::Auto if self.is_terminal => {
                let _ = write!(std::io::stderr(), "\r\x1b[2K… {message}");
                self.open = true;
            }
            // A run that is watched by nobody is as quiet as the program itself.
            ProgressMode::Auto | ProgressMode::Off | ProgressMode::Json => {}
            ProgressMode::Plain => say(&message),
        }
    }

    /// The line that is always there: where the program runs and as who.
    pub(super) fn headline(&mut self, line: &str, facts: &Value) {
        self.close();
        match self.mode {
            ProgressMode::Off => {}
            ProgressMode::Json => self.json(&json!({ "session": facts })),
            ProgressMode::Auto | ProgressMode::Plain => say(line),
        }
    }

    /// Takes an open step off the terminal.
    pub(super) fn close(&mut self) {
        if std::mem::take(&mut self.open) {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
    }

    fn json(&self, value: &Value) {
        let _ = writeln!(std::io::stderr(), "{value}");
    }
}

impl Say for Progress {
    fn notice(&mut self, message: &str) {
        match self.mode {
            ProgressMode::Off => {}
            ProgressMode::Json => self.json(&json!({ "notice": message })),
            ProgressMode::Auto | ProgressMode::Plain => say(message),
        }
    }

    fn failure(&mut self, failure: &Failure) {
        if self.mode == ProgressMode::Json {
            return self.json(&json!({ "failure": failure }));
        }
        let mut error = ErrorData::from_failure(failure);
        error.message = with_causes(&error);
        let text = format!("mirrord-ide: {} [{}]\n  {}\n", error.message, failure.kind, error.help);
        // Nothing is left to do when standard error is gone.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    fn started(&mut self, pid: i32, mode: &str) {
        match self.mode {
            ProgressMode::Json => self.json(&json!({ "started": { "pid": pid, "mode": mode } })),
            ProgressMode::Plain => say(&format!("the program runs as pid {pid}; covered by {mode}")),
            ProgressMode::Auto | ProgressMode::Off => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_with_its_causes_and_none_twice() {
        let mut error = ErrorData::new(ErrorKind::Unreachable, "the API server does not answer", "check it");
        error.cause = vec!["connect error".into(), "connection\nrefused".into(), "connect error".into()];
        assert_eq!(with_causes(&error), "the API server does not answer: connect error: connection refused");
    }
}
