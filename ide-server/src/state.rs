//! The folder of the user's in which daemon, sessions and agents leave what others must find.
//!
//! ```text
//! ide-v1.sock  ide-v1-http.sock  ide-v1.json  ide-v1.lock  daemon.log
//! sessions/<session>/   session.json (ours), host.sock, host.json, host.log (the session host's)
//! plans/<plan>/         scripts that an editor's debugger starts
//! agents/<agent>.json   and, for an agent on this machine, <agent>.sock and <agent>.log
//! ```

use protocol::ide::{ErrorData, ErrorKind, IDE_PROTOCOL};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// `sun_path` holds 108 bytes with its NUL on Linux, 104 elsewhere; the longest of ours below the root is 31.
const LONGEST_ROOT: usize = 70;

/// The folder, there and ours alone.
#[derive(Clone, Debug)]
pub struct StateFolder {
    root: PathBuf,
}

impl StateFolder {
    /// The folder that this user's environment names, made if need be.
    pub fn locate() -> Result<Self, ErrorData> {
        let variable =
            |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let root = variable("MIRRORD_IDE_STATE_DIR")
            .or_else(|| variable("XDG_RUNTIME_DIR").map(|path| path.join("mirrord-ide")))
            .or_else(|| variable("HOME").map(|path| path.join(".local/state/mirrord-ide/run")));
        match root {
            Some(root) => Self::open(root),
            None => Err(ErrorData::new(
                ErrorKind::Internal,
                "there is no folder for mirrord-ide's state: neither XDG_RUNTIME_DIR nor HOME is set",
                "set MIRRORD_IDE_STATE_DIR to an absolute path",
            )),
        }
    }

    /// `root` as the folder: made if need be, refused if others may look into it.
    pub fn open(root: PathBuf) -> Result<Self, ErrorData> {
        let wrong = |message: String| {
            let help = "set MIRRORD_IDE_STATE_DIR to a short path in a folder of yours";
            ErrorData::new(ErrorKind::Internal, message, help)
        };
        let shown = root.display();
        if root.as_os_str().len() > LONGEST_ROOT {
            return Err(wrong(format!("the path of the state folder is too long for sockets: {shown}")));
        }
        let prepare = || -> io::Result<fs::Metadata> {
            for folder in [root.clone(), root.join("sessions"), root.join("agents")] {
                DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            }
            let metadata = fs::metadata(&root)?;
            if metadata.mode() & 0o077 != 0 && metadata.uid() == nix::unistd::geteuid().as_raw() {
                fs::set_permissions(&root, fs::Permissions::from_mode(0o700))?;
            }
            Ok(metadata)
        };
        let metadata = prepare()
            .map_err(|error| wrong(format!("the state folder {shown} cannot be made")).caused_by(&error))?;
        if metadata.uid() != nix::unistd::geteuid().as_raw() {
            return Err(wrong(format!("the state folder {shown} belongs to somebody else")));
        }
        Ok(Self { root })
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of all plans.
    pub fn plans(&self) -> PathBuf {
        self.root.join("plans")
    }

    /// The folder of an editor's plan.
    pub fn plan(&self, name: &str) -> PathBuf {
        self.plans().join(name)
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.root.join(format!("ide-v{IDE_PROTOCOL}.sock"))
    }

    /// The daemon's socket for HTTP and WebSocket.
    pub fn http_socket(&self) -> PathBuf {
        self.root.join(format!("ide-v{IDE_PROTOCOL}-http.sock"))
    }

    /// What the daemon says of itself.
    pub fn discovery(&self) -> PathBuf {
        self.root.join(format!("ide-v{IDE_PROTOCOL}.json"))
    }

    /// Held by the daemon as long as it lives.
    pub fn lock(&self) -> PathBuf {
        self.root.join(format!("ide-v{IDE_PROTOCOL}.lock"))
    }

    /// The log of a detached daemon.
    pub fn log(&self) -> PathBuf {
        self.root.join("daemon.log")
    }

    /// The folder of all sessions.
    pub fn sessions(&self) -> PathBuf {
        self.root.join("sessions")
    }

    /// A session's folder.
    pub fn session(&self, session: &str) -> PathBuf {
        self.sessions().join(session)
    }

    /// The folder of all agents.
    pub fn agents(&self) -> PathBuf {
        self.root.join("agents")
    }

    /// A file of an agent: `json`, `sock`, `log`.
    pub fn agent(&self, agent: &str, extension: &str) -> PathBuf {
        self.agents().join(format!("{agent}.{extension}"))
    }
}

/// Writes a file that only the user may read, whole or not at all.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(content)?;
    drop(file);
    fs::rename(&fresh, path)
}

/// Removes a file or a folder with all that is in it; one that is not there is fine.
pub fn remove(path: &Path) -> io::Result<()> {
    let gone = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match gone {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Milliseconds since 1970.
pub fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A fresh name of 8 small letters and digits, as sessions and agents have.
pub fn fresh_name() -> Result<String, ErrorData> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0; 8];
    fill_random(&mut bytes)?;
    Ok(bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte & 31)])).collect())
}

/// Random bytes of the system's.
pub fn fill_random(bytes: &mut [u8]) -> Result<(), ErrorData> {
    getrandom::fill(bytes).map_err(|error| {
        let help = "check that getrandom(2) is allowed here";
        ErrorData::new(ErrorKind::Internal, "the system gives no random numbers", help)
            .fact("error", error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_closed_to_others_and_a_long_path_is_refused() {
        let root = std::env::temp_dir().join(format!("mirrord-ide-state-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        let state = StateFolder::open(root.clone()).unwrap();
        assert_eq!(fs::metadata(state.root()).unwrap().mode() & 0o777, 0o700);
        write_private(&state.discovery(), b"{}").unwrap();
        assert_eq!(fs::metadata(state.discovery()).unwrap().mode() & 0o777, 0o600);
        assert!(state.session("abcdefgh").join("host.sock").as_os_str().len() < 104);
        fs::remove_dir_all(&root).unwrap();
        let long = std::env::temp_dir().join("x".repeat(LONGEST_ROOT));
        assert!(StateFolder::open(long).unwrap_err().message.contains("too long"));
    }

    #[test]
    fn names_are_fresh_and_of_letters_that_are_told_apart() {
        let names: std::collections::BTreeSet<_> = (0..100).map(|_| fresh_name().unwrap()).collect();
        assert_eq!(names.len(), 100);
        assert!(names.iter().all(|name| name.len() == 8 && !name.contains(['l', 'o', '0', '1'])));
    }
}
