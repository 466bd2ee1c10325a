//! Who may speak to this agent: the admitted public keys, and the admin socket that takes more of them.
//!
//! The admin socket is a file of mode 0600 in the agent's own file system: who reaches it may run programs as the
//! agent's user in its container, which is what the API server's `pods/exec` grants.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use protocol::auth::PublicKey;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;

use crate::sync::lock;

const ANSWER_TIME: Duration = Duration::from_secs(5);
/// More keys than any pod has users.
const MAX_KEYS: usize = 256;

/// Why a key was not admitted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdmitError {
    #[error("cannot speak to the agent at {}", socket.display())]
    Unreachable {
        socket: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the agent refused the key: {answer}")]
    Refused { answer: String },
}

/// The admitted keys.
#[derive(Debug, Default)]
pub(crate) struct Keys(Mutex<Vec<PublicKey>>);

impl Keys {
    pub(crate) fn new(keys: Vec<PublicKey>) -> Self {
        Self(Mutex::new(keys))
    }

    pub(crate) fn holds(&self, key: &PublicKey) -> bool {
        lock(&self.0).contains(key)
    }

    /// Adds a key; false when there are too many.
    fn add(&self, key: PublicKey) -> bool {
        let mut keys = lock(&self.0);
        if keys.contains(&key) {
            return true;
        }
        if keys.len() >= MAX_KEYS {
            return false;
        }
        keys.push(key);
        true
    }
}

/// Asks the agent behind `socket` to admit `key`.
pub(crate) fn ask(socket: &Path, key: PublicKey) -> Result<(), AdmitError> {
    let exchange = || {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWER_TIME))?;
        writeln!(stream, "{key}")?;
        let mut answer = String::new();
        stream.take(256).read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer: String =
        exchange().map_err(|source| AdmitError::Unreachable { socket: socket.to_owned(), source })?;
    match answer.trim() {
        "ok" => Ok(()),
        answer => Err(AdmitError::Refused { answer: answer.to_owned() }),
    }
}

/// Takes keys on the admin socket, one a connection, for ever.
pub(crate) async fn serve(listener: UnixListener, keys: &Keys) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the admin socket does not accept");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        // One at a time: whoever stalls here is of the agent's own user, and stalls for five seconds at most.
        if let Ok(Err(error)) = tokio::time::timeout(ANSWER_TIME, take_one(stream, keys)).await {
            tracing::debug!(%error, "an admin connection broke off");
        }
    }
}

async fn take_one(stream: tokio::net::UnixStream, keys: &Keys) -> std::io::Result<()> {
    let (reading, mut writing) = stream.into_split();
    let mut line = String::new();
    BufReader::new(reading.take(256)).read_line(&mut line).await?;
    let answer = match line.trim().parse::<PublicKey>() {
        Ok(key) if keys.add(key) => {
            tracing::info!(%key, "admitted a key");
            "ok\n".to_owned()
        }
        Ok(_) => format!("{MAX_KEYS} keys are admitted already\n"),
        Err(why) => format!("{why}\n"),
    };
    writing.write_all(answer.as_bytes()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> PublicKey {
        PublicKey::from_slice(&[byte; 32]).unwrap()
    }

    #[tokio::test]
    async fn a_key_asked_for_on_the_admin_socket_is_admitted_and_rubbish_is_not() {
        let folder = std::env::temp_dir().join(format!("agent-admit-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("admin.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let keys = Keys::new(vec![key(1)]);
        let (new, at) = (key(2), path.clone());
        let asking = tokio::task::spawn_blocking(move || ask(&at, new));
        tokio::select! {
            () = serve(listener, &keys) => unreachable!("serves for ever"),
            answer = asking => answer.unwrap().unwrap(),
        }
        assert!(keys.holds(&key(1)) && keys.holds(&key(2)) && !keys.holds(&key(3)));

        std::fs::remove_file(&path).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        let at = path.clone();
        let asking = tokio::task::spawn_blocking(move || {
            let mut stream = UnixStream::connect(at).unwrap();
            stream.write_all(b"not a key\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        });
        let answer = tokio::select! {
            () = serve(listener, &keys) => unreachable!("serves for ever"),
            answer = asking => answer.unwrap(),
        };
        assert!(answer.contains("64 hexadecimal digits"), "{answer}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
