//! The command line's side of the socket: blocking and without threads, so that a program can be started after it.

use super::framing::{Decoder, encode};
use protocol::ide::{ErrorData, ErrorKind, IDE_PROTOCOL, Method};
use serde_json::{Value, json};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A connection that is initialized.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    decoder: Decoder,
    next: u64,
}

impl Client {
    /// Connects and says who we are.
    pub fn connect(socket: &Path) -> Result<Self, ErrorData> {
        let stream = UnixStream::connect(socket).map_err(|error| lost(socket, &error))?;
        let mut client = Self { stream, decoder: Decoder::default(), next: 0 };
        let options = json!({
            "client": "cli",
            "clientVersion": protocol::VERSION,
            "protocol": { "min": IDE_PROTOCOL, "max": IDE_PROTOCOL },
        });
        let params = json!({
            "processId": std::process::id(), "rootUri": null, "capabilities": {}, "initializationOptions": options,
        });
        client.ask("initialize", params, &mut |_, _| {})?;
        client.send(&json!({ "jsonrpc": "2.0", "method": "initialized", "params": {} }))?;
        Ok(client)
    }

    /// How long to wait for anything to come; the connection is lost to who has waited in vain.
    pub fn set_read_timeout(&mut self, timeout: Option<std::time::Duration>) {
        if let Err(error) = self.stream.set_read_timeout(timeout) {
            tracing::debug!(%error, "a socket takes no timeout");
        }
    }

    /// Calls a method and waits for its answer.
    pub fn call<M: Method>(&mut self, params: &M::Params) -> Result<M::Answer, ErrorData> {
        self.call_with::<M>(params, &mut |_, _| {})
    }

    /// Calls a method; notifications that come before its answer go to `on_notice` as method and parameters.
    pub fn call_with<M: Method>(
        &mut self,
        params: &M::Params,
        on_notice: &mut dyn FnMut(&str, &Value),
    ) -> Result<M::Answer, ErrorData> {
        let params = serde_json::to_value(params).map_err(|error| strange(&error))?;
        let answer = self.ask(M::NAME, params, on_notice)?;
        serde_json::from_value(answer).map_err(|error| strange(&error))
    }

    fn ask(
        &mut self,
        method: &str,
        params: Value,
        on_notice: &mut dyn FnMut(&str, &Value),
    ) -> Result<Value, ErrorData> {
        self.next += 1;
        let id = self.next;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))?;
        loop {
            let mut message = self.receive()?;
            if let Some(method) = message.get("method").and_then(Value::as_str) {
                on_notice(method, &message["params"]);
                continue;
            }
            if message.get("id").and_then(Value::as_u64) != Some(id) {
                continue;
            }
            let Some(error) = message.get_mut("error").map(Value::take) else {
                return Ok(message["result"].take());
            };
            return Err(match serde_json::from_value(error["data"].clone()) {
                Ok(data) => data,
                Err(_) => ErrorData::new(
                    ErrorKind::Internal,
                    format!(
                        "the daemon refused {method}: {}",
                        error["message"].as_str().unwrap_or("no reason")
                    ),
                    "see daemon.log in the state folder that `mirrord-ide status` names",
                ),
            });
        }
    }

    fn send(&mut self, message: &Value) -> Result<(), ErrorData> {
        self.stream.write_all(&encode(message.to_string().as_bytes())).map_err(|error| ended(&error))
    }

    fn receive(&mut self) -> Result<Value, ErrorData> {
        let mut chunk = [0; 16 << 10];
        loop {
            if let Some(body) = self.decoder.pop().map_err(|error| strange(&error))? {
                return serde_json::from_slice(&body).map_err(|error| strange(&error));
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ended(&io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => self.decoder.push(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ended(&error)),
            }
        }
    }
}

fn lost(socket: &Path, error: &io::Error) -> ErrorData {
    ErrorData::new(
        ErrorKind::DaemonUnreachable,
        format!("no daemon answers at {}", socket.display()),
        "start it with `mirrord-ide serve --ensure`",
    )
    .caused_by(error)
    .retryable()
}

fn ended(error: &io::Error) -> ErrorData {
    ErrorData::new(
        ErrorKind::DaemonUnreachable,
        "the daemon ended while it was asked",
        "try again; daemon.log in the state folder says why it ended",
    )
    .caused_by(error)
    .retryable()
}

fn strange(error: &dyn std::error::Error) -> ErrorData {
    ErrorData::new(
        ErrorKind::ProtocolMismatch,
        "the daemon's message cannot be understood",
        "stop the daemon of another version with `mirrord-ide stop --all`, then try again",
    )
    .caused_by(error)
}
