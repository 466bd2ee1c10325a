//! The link to one session host: JSON lines over `host.sock` in the session's folder.

use crate::main_loop::{Event, EventSender, send};
use protocol::host::{HostCommand, HostEvent};
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How often the socket of a host that is being started is tried. A try is one failing connect(2), so this may be
/// short; inotify would need the same try afterwards, as bind(2) makes the file before listen(2) is called.
const RETRY: Duration = Duration::from_millis(25);
/// A line of a host is a status or an event, never payload.
const MAX_LINE: u64 = 1 << 20;

/// How to speak to a session host.
#[derive(Clone, Debug)]
pub struct HostLink {
    commands: mpsc::UnboundedSender<HostCommand>,
    /// The host's process id, as the kernel tells it.
    pub pid: Option<i32>,
}

impl HostLink {
    /// Sends a command; one to a host that is gone is answered by its `HostGone`.
    pub fn command(&self, command: HostCommand) {
        if self.commands.send(command).is_err() {
            tracing::debug!("a command came after the end of its session host");
        }
    }
}

/// Waits for the host to listen, attaches to it and reports what it says, until it is gone or `cancel`.
pub fn spawn(session: String, socket: PathBuf, from: u64, events: EventSender, cancel: CancellationToken) {
    tokio::spawn(async move {
        let reason = tokio::select! {
            reason = follow(&session, &socket, from, &events) => reason,
            () = cancel.cancelled() => return,
        };
        send(&events, Event::HostGone { session, reason });
    });
}

async fn follow(session: &str, socket: &PathBuf, from: u64, events: &EventSender) -> String {
    let stream = loop {
        match UnixStream::connect(socket).await {
            Ok(stream) => break stream,
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    };
    let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
    let (commands, mut queue) = mpsc::unbounded_channel();
    let link = HostLink { commands, pid };
    link.command(HostCommand::Attach { from });
    send(events, Event::HostUp { session: session.to_owned(), link });

    let (reader, mut writer) = stream.into_split();
    let reading = read(session, reader, events);
    let writing = async {
        while let Some(command) = queue.recv().await {
            let Ok(mut line) = serde_json::to_vec(&command) else { continue };
            line.push(b'\n');
            if writer.write_all(&line).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let reason = tokio::select! {
        reason = reading => reason,
        () = writing => unreachable!("writing waits for ever"),
    };
    if let Some(pid) = pid {
        crate::agents::process::wait_for_end(pid).await;
    }
    reason
}

async fn read(session: &str, reader: tokio::net::unix::OwnedReadHalf, events: &EventSender) -> String {
    use tokio::io::AsyncReadExt;
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line).await {
            Ok(0) => return "its session host ended".to_owned(),
            Ok(_) if !line.ends_with(b"\n") => return "its session host broke off in a line".to_owned(),
            Ok(_) => match serde_json::from_slice::<HostEvent>(&line) {
                Ok(event) => {
                    let event = Box::new(event);
                    send(events, Event::HostSaid { session: session.to_owned(), event });
                }
                Err(error) => tracing::warn!(session, %error, "an event of a session host is not understood"),
            },
            Err(error) => return format!("the link to its session host broke: {error}"),
        }
    }
}
