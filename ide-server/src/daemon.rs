//! The daemon's frame: lock, sockets, discovery file, signals. What it does is in [`crate::main_loop`].

pub mod ensure;

use crate::main_loop::{ClientId, Daemon, Event, send};
use crate::rpc::{connection, http};
use crate::state::{self, StateFolder};
use jsonrpsee_server::stop_channel;
use nix::fcntl::{Flock, FlockArg};
use protocol::ide::{Discovery, ErrorData, ErrorKind, IDE_PROTOCOL};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};

/// What `serve` ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// It served to its end.
    ToTheEnd,
    /// Another daemon of this user serves already.
    AnotherServes,
}

/// Serves in this process until nobody needs the daemon.
pub fn serve(state: &StateFolder, idle_exit: Option<Duration>) -> Result<Served, ErrorData> {
    let Some(lock) = lock(state).map_err(|error| failed("its lock cannot be taken", &error))? else {
        return Ok(Served::AnotherServes);
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| failed("its threads cannot be started", &error))?;
    let outcome = runtime.block_on(run(state, idle_exit));
    // Files first, lock last: who gets the lock finds no socket of ours.
    for path in [state.socket(), state.http_socket(), state.discovery()] {
        if let Err(error) = state::remove(&path) {
            tracing::error!(path = %path.display(), %error, "cannot be removed");
        }
    }
    drop(lock);
    runtime.shutdown_background();
    outcome.map(|()| Served::ToTheEnd).map_err(|error| failed("its socket cannot be made", &error))
}

fn failed(message: &str, error: &io::Error) -> ErrorData {
    ErrorData::new(
        ErrorKind::DaemonUnreachable,
        format!("the daemon cannot start: {message}"),
        "check the state folder, or set MIRRORD_IDE_STATE_DIR to another one",
    )
    .caused_by(error)
}

/// The lock that one daemon of a user holds; `None` while another does.
fn lock(state: &StateFolder) -> io::Result<Option<Flock<File>>> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(state.lock())?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(error.into()),
    }
}

async fn run(state: &StateFolder, idle_exit: Option<Duration>) -> io::Result<()> {
    // Left by a daemon that was killed: the lock is ours, so nobody listens there, and who connects from now on must
    // not read of that one.
    state::remove(&state.discovery())?;
    let listener = listen(&state.socket())?;
    let http_listener = listen(&state.http_socket())?;
    let discovery = Discovery {
        pid: std::process::id(),
        version: protocol::VERSION.to_owned(),
        protocols: vec![IDE_PROTOCOL],
        socket: state.socket().display().to_string(),
        http_socket: state.http_socket().display().to_string(),
        started_at: state::now(),
    };
    let (events, inbox) = mpsc::unbounded_channel();
    let daemon = Daemon::new(state.clone(), events.clone(), discovery.clone(), idle_exit);
    let signals = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    for mut signal in signals {
        let events = events.clone();
        tokio::spawn(async move {
            if signal.recv().await.is_some() {
                send(&events, Event::Terminate);
            }
        });
    }
    // Whoever finds this file finds a listening socket.
    state::write_private(&state.discovery(), &serde_json::to_vec_pretty(&discovery)?)?;
    tracing::info!(socket = discovery.socket, version = discovery.version, "the daemon listens");
    let (stop, _stops_when_dropped) = stop_channel();
    let numbers = Arc::new(AtomicU64::new(1));
    let lsp_events = events.clone();
    tokio::spawn(accept(listener, Arc::clone(&numbers), move |stream, client| {
        let (reader, writer) = stream.into_split();
        tokio::spawn(connection::serve(client, reader, writer, lsp_events.clone()));
    }));
    let visitors = Arc::new(Semaphore::new(http::MAX_CONNECTIONS as usize));
    tokio::spawn(accept(http_listener, numbers, move |stream, client| {
        let Ok(room) = Arc::clone(&visitors).try_acquire_owned() else {
            return tracing::warn!("a client of the HTTP door is turned away: there are too many");
        };
        let serving = http::serve(client, stream, events.clone(), stop.clone());
        tokio::spawn(async move {
            serving.await;
            drop(room);
        });
    }));
    daemon.run(inbox).await;
    Ok(())
}

/// A socket for this user alone, at a path where a daemon that was killed may have left one.
fn listen(path: &Path) -> io::Result<UnixListener> {
    state::remove(path)?;
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Lets this user's connections in, for ever; each has a number of its own.
async fn accept(listener: UnixListener, numbers: Arc<AtomicU64>, serve: impl Fn(UnixStream, ClientId)) {
    let me = nix::unistd::geteuid().as_raw();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: connections that end make room.
                tracing::error!(%error, "a client cannot be let in");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        match stream.peer_cred() {
            Ok(peer) if peer.uid() == me => serve(stream, ClientId(numbers.fetch_add(1, Ordering::Relaxed))),
            Ok(peer) => tracing::warn!(uid = peer.uid(), "another user's connection is refused"),
            Err(error) => tracing::warn!(%error, "a connection without credentials is refused"),
        }
    }
}
