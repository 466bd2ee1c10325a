//! Who may speak to this agent: the admitted public keys, and the admin socket that takes more of them.
//!
//! The admin socket is a file of mode 0600 in the agent's own file system: who reaches it may run programs as the
//! agent's user in its container, which is what the API server's `pods/exec` grants.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use protocol::auth::PublicKey;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;

use crate::sync::lock;

const ANSWER_TIME: Duration = Duration::from_secs(5);
/// More keys than any pod has users.
const MAX_KEYS: usize = 1024;
/// A line of 64 keys.
const MAX_LINE: u64 = 65 * 64;
/// How long a session may be on its way here after it was let in.
const ON_THE_WAY: Duration = Duration::from_secs(15);

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

/// The admitted keys, in groups: keys that were let in together are of one laptop.
#[derive(Debug, Default)]
pub(crate) struct Keys(Mutex<Admitted>);

#[derive(Debug, Default)]
struct Admitted {
    keys: Vec<(PublicKey, usize)>,
    groups: usize,
    /// The group that came last by the admin socket, and when: its sessions may be on their way here.
    latest: Option<(Instant, usize)>,
}

impl Admitted {
    fn group(&self, key: &PublicKey) -> Option<usize> {
        self.keys.iter().find(|(known, _)| known == key).map(|(_, group)| *group)
    }
}

impl Keys {
    /// Those of whoever started the agent.
    pub(crate) fn new(keys: Vec<PublicKey>) -> Self {
        let keys = keys.into_iter().map(|key| (key, 0)).collect();
        Self(Mutex::new(Admitted { keys, groups: 1, latest: None }))
    }

    pub(crate) fn holds(&self, key: &PublicKey) -> bool {
        lock(&self.0).group(key).is_some()
    }

    /// Whether both were let in together.
    pub(crate) fn are_together(&self, one: &PublicKey, other: &PublicKey) -> bool {
        let admitted = lock(&self.0);
        admitted.group(one) == admitted.group(other)
    }

    /// Whether others than those of `key` were let in a moment ago.
    pub(crate) fn expects_others(&self, key: &PublicKey) -> bool {
        let admitted = lock(&self.0);
        admitted
            .latest
            .is_some_and(|(at, group)| at.elapsed() < ON_THE_WAY && admitted.group(key) != Some(group))
    }

    /// Adds keys, all or none; false when there are too many. One that is known already brings the others into its group.
    fn add(&self, fresh: &[PublicKey]) -> bool {
        let mut admitted = lock(&self.0);
        let known = fresh.iter().find_map(|key| admitted.group(key));
        let unknown: Vec<PublicKey> =
            fresh.iter().filter(|key| admitted.group(key).is_none()).copied().collect();
        if admitted.keys.len() + unknown.len() > MAX_KEYS {
            return false;
        }
        let group = known.unwrap_or(admitted.groups);
        admitted.groups += usize::from(known.is_none());
        admitted.keys.extend(unknown.into_iter().map(|key| (key, group)));
        admitted.latest = Some((Instant::now(), group));
        true
    }
}

/// Asks the agent behind `socket` to admit these keys.
pub(crate) fn ask(socket: &Path, keys: &[PublicKey]) -> Result<(), AdmitError> {
    let exchange = || {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWER_TIME))?;
        let words: Vec<String> = keys.iter().map(PublicKey::to_string).collect();
        writeln!(stream, "{}", words.join(" "))?;
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

/// Takes keys on the admin socket, one line of them a connection, for ever.
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
    BufReader::new(reading.take(MAX_LINE)).read_line(&mut line).await?;
    let named: Result<Vec<PublicKey>, _> = line.split_whitespace().map(str::parse).collect();
    let answer = match named {
        Ok(named) if named.is_empty() => "no key was named\n".to_owned(),
        Ok(named) if keys.add(&named) => {
            tracing::info!(count = named.len(), "admitted keys");
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
        let asking = tokio::task::spawn_blocking(move || ask(&at, &[new, key(3)]));
        tokio::select! {
            () = serve(listener, &keys) => unreachable!("serves for ever"),
            answer = asking => answer.unwrap().unwrap(),
        }
        assert!([1, 2, 3].iter().all(|byte| keys.holds(&key(*byte))) && !keys.holds(&key(4)));
        assert!(keys.expects_others(&key(1)) && !keys.expects_others(&key(2)));
        assert!(keys.are_together(&key(2), &key(3)) && !keys.are_together(&key(1), &key(2)));
        assert!(keys.add(&[key(1), key(5)]) && keys.are_together(&key(1), &key(5)));

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
