//! `session/explain`.

use super::no_such_session;
use crate::main_loop::{Answer, Ask, Daemon, answer};
use protocol::host::{Failure, HostCommand, HostEvent};
use protocol::ide::{ErrorData, ErrorKind, Explanation, SessionExplain, SessionState};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// A session host answers from what it has in memory.
const PATIENCE: Duration = Duration::from_secs(3);

/// The session host decides; the daemon would have to guess what its program listens on.
pub(crate) fn handle(daemon: &Daemon, ask: Ask<SessionExplain>) {
    let Ask { params, reply, .. } = ask;
    let (session, socket) = match find(daemon, params.session) {
        Ok(found) => found,
        Err(error) => return answer(reply, Err(error)),
    };
    tokio::spawn(async move {
        let asked = tokio::time::timeout(PATIENCE, explain(&socket, params.what)).await;
        let explained: Answer<Explanation> = match asked {
            Ok(Ok(HostEvent::Explained { place, rule })) => Ok(Explanation { session, place, rule }),
            Ok(Ok(HostEvent::Refused(Failure { message, help, .. }))) => {
                Err(ErrorData::new(ErrorKind::InvalidRequest, message, help))
            }
            Ok(Ok(other)) => {
                tracing::warn!(session, ?other, "a session host of another version");
                Err(silent(&session))
            }
            Ok(Err(error)) => Err(silent(&session).caused_by(&error)),
            Err(_) => Err(silent(&session)),
        };
        answer(reply, explained);
    });
}

/// The session meant, and its host's socket.
fn find(daemon: &Daemon, named: Option<String>) -> Result<(String, PathBuf), ErrorData> {
    let running = daemon.sessions.iter().filter(|(_, one)| one.state == SessionState::Running);
    let name = match named {
        Some(name) => name,
        None => match running.map(|(name, _)| name.clone()).collect::<Vec<_>>().as_slice() {
            [one] => one.clone(),
            [] => {
                let help = "start a program by `mirrord-ide exec` or from the editor";
                return Err(ErrorData::new(ErrorKind::NoSuchSession, "no session runs", help));
            }
            several => {
                let message = format!("{} sessions run: {}", several.len(), several.join(", "));
                return Err(ErrorData::new(ErrorKind::NoSuchSession, message, "name one with --session"));
            }
        },
    };
    match daemon.sessions.get(&name).map(|session| session.state) {
        None => Err(no_such_session(&name)),
        Some(SessionState::Running) => {
            let socket = daemon.state.session(&name).join("host.sock");
            Ok((name, socket))
        }
        Some(_) => Err(ErrorData::new(
            ErrorKind::LayerNotConnected,
            format!("the program of session {name} does not run"),
            "ask when the session is running",
        )
        .retryable()),
    }
}

async fn explain(socket: &Path, what: String) -> std::io::Result<HostEvent> {
    let mut stream = UnixStream::connect(socket).await?;
    let mut line = serde_json::to_vec(&HostCommand::Explain { what })?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).await?;
    Ok(serde_json::from_str(&answer)?)
}

fn silent(session: &str) -> ErrorData {
    let message = format!("the session host of {session} does not answer");
    ErrorData::new(
        ErrorKind::LayerNotConnected,
        message,
        "see `mirrord-ide status`, and start the program again",
    )
}
