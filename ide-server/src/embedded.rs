//! The agent and the preload layer that travel inside the binary, unpacked to a stable versioned path of the user's.
//!
//! A release build carries them (see `build.rs`). A debug build takes the paths in `MIRRORD_IDE_AGENT`,
//! `MIRRORD_IDE_STAGE0` and `MIRRORD_IDE_LAYER`, so that tests choose what they test.

use protocol::ide::{ErrorData, ErrorKind};
use std::borrow::Cow;
use std::path::PathBuf;

#[cfg(embedded)]
include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// Where the agent's executable is, unpacked if need be.
pub fn agent() -> Result<PathBuf, ErrorData> {
    #[cfg(embedded)]
    return match AGENTS.iter().find(|pieces| pieces.arch == std::env::consts::ARCH) {
        Some(pieces) => unpack::unpack("agent", 0o755, &pieces.agent),
        None => Err(no_agent_for(std::env::consts::ARCH)),
    };
    #[cfg(not(embedded))]
    from_environment("MIRRORD_IDE_AGENT")?.ok_or_else(|| {
        ErrorData::new(
            ErrorKind::AgentFailed,
            "this debug build of mirrord-ide carries no agent",
            "set MIRRORD_IDE_AGENT to a built agent (cargo build -p agent), or build with --release",
        )
    })
}

/// Where the preload layer is, unpacked if need be; `None` in a debug build that was not given one.
pub fn layer() -> Result<Option<PathBuf>, ErrorData> {
    #[cfg(embedded)]
    return unpack::unpack("libmirrord_ide_layer.so", 0o644, &LAYER).map(Some);
    #[cfg(not(embedded))]
    from_environment("MIRRORD_IDE_LAYER")
}

/// What is delivered to a pod where no registry holds an image of the agent.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Takes the agent in the pod; small.
    pub stage0: Cow<'static, [u8]>,
    /// The agent.
    pub agent: Cow<'static, [u8]>,
    /// The agent's hash.
    pub agent_sha256: String,
}

/// Processors whose agents this build carries, as Rust names them.
pub fn architectures() -> Vec<&'static str> {
    #[cfg(embedded)]
    return AGENTS.iter().map(|pieces| pieces.arch).collect();
    #[cfg(not(embedded))]
    vec![std::env::consts::ARCH]
}

#[cfg(embedded)]
fn no_agent_for(arch: &str) -> ErrorData {
    ErrorData::new(
        ErrorKind::AgentFailed,
        format!("this mirrord-ide carries no agent for {arch}, only for {}", architectures().join(", ")),
        "build it where that target is installed (rustup target add), or name an image by agent.image",
    )
}

/// What is delivered to a node of this processor; `None` in a debug build that was not given `MIRRORD_IDE_STAGE0`.
///
/// # Errors
/// No agent for it is carried.
pub fn delivery(arch: &str) -> Result<Option<Delivery>, ErrorData> {
    #[cfg(embedded)]
    return match AGENTS.iter().find(|pieces| pieces.arch == arch) {
        Some(pieces) => Ok(Some(Delivery {
            stage0: Cow::Borrowed(pieces.stage0.bytes),
            agent: Cow::Borrowed(pieces.agent.bytes),
            agent_sha256: pieces.agent.sha256.to_owned(),
        })),
        None => Err(no_agent_for(arch)),
    };
    #[cfg(not(embedded))]
    {
        use sha2::{Digest, Sha256};
        // The pieces that the environment names are taken as they are, for whatever they were built.
        let _ = arch;
        let Some(stage0) = from_environment("MIRRORD_IDE_STAGE0")? else { return Ok(None) };
        let read = |path: PathBuf| {
            std::fs::read(&path).map_err(|error| {
                let message = format!("{} cannot be read", path.display());
                ErrorData::new(ErrorKind::AgentFailed, message, "give a built file").caused_by(&error)
            })
        };
        let agent = read(agent()?)?;
        let agent_sha256 = Sha256::digest(&agent).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Some(Delivery { stage0: read(stage0)?.into(), agent: agent.into(), agent_sha256 }))
    }
}

/// Gives back the memory that making an agent took, as the daemon stays for days: the pages of the agents, which come
/// from the file again when they are read again, and what the allocator keeps.
pub fn give_memory_back() {
    #[cfg(embedded)]
    for pieces in AGENTS {
        forget_pages(pieces.agent.bytes);
        forget_pages(pieces.stage0.bytes);
    }
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes an integer and gives back only what is free.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(embedded)]
fn forget_pages(bytes: &'static [u8]) {
    // SAFETY: sysconf(3) takes an integer.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    let start = bytes.as_ptr().addr().next_multiple_of(page);
    let end = (bytes.as_ptr().addr() + bytes.len()) / page * page;
    if start < end {
        let first = bytes.as_ptr().with_addr(start).cast_mut().cast();
        // SAFETY: whole pages of this program's constants, which nobody can have written to: the kernel reads them from
        // the file again. A failure leaves all as it is.
        unsafe {
            libc::madvise(first, end - start, libc::MADV_DONTNEED);
        }
    }
}

#[cfg(not(embedded))]
fn from_environment(name: &str) -> Result<Option<PathBuf>, ErrorData> {
    let Some(path) = std::env::var_os(name).map(PathBuf::from) else { return Ok(None) };
    if path.is_absolute() && path.is_file() {
        return Ok(Some(path));
    }
    Err(ErrorData::new(
        ErrorKind::AgentFailed,
        format!("{name} names no file: {}", path.display()),
        "give the absolute path of a built file",
    ))
}

/// One file inside the binary.
#[cfg(any(embedded, test))]
struct Piece {
    bytes: &'static [u8],
    sha256: &'static str,
}

/// What nodes of one processor are given.
#[cfg(embedded)]
struct AgentPieces {
    /// As Rust names it.
    arch: &'static str,
    agent: Piece,
    stage0: Piece,
}

#[cfg(any(embedded, test))]
mod unpack {
    use super::Piece;
    use protocol::ide::{ErrorData, ErrorKind};
    use sha2::{Digest, Sha256};
    use std::fs::{self, DirBuilder, File, OpenOptions};
    use std::io::{self, Write};
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Tells the files apart that this process is writing.
    static NUMBER: AtomicU32 = AtomicU32::new(0);

    #[cfg(embedded)]
    pub(super) fn unpack(name: &str, mode: u32, piece: &Piece) -> Result<PathBuf, ErrorData> {
        let cache = std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
            .unwrap_or_else(std::env::temp_dir);
        unpack_below(&cache.join("mirrord-ide"), name, mode, piece)
    }

    /// Puts `piece` at `root/<version>-<hash>/name` unless it is there unchanged.
    pub(super) fn unpack_below(
        root: &Path,
        name: &str,
        mode: u32,
        piece: &Piece,
    ) -> Result<PathBuf, ErrorData> {
        let folder = root.join(format!("{}-{}", protocol::VERSION, &piece.sha256[..8]));
        let path = folder.join(name);
        let wrong = |error: io::Error| {
            ErrorData::new(
                ErrorKind::Internal,
                format!("cannot unpack {name} to {}", folder.display()),
                "make room there, or set XDG_CACHE_HOME to a folder that you may write to",
            )
            .caused_by(&error)
        };
        if !is_unchanged(&path, piece).map_err(wrong)? {
            DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(wrong)?;
            write(&folder, &path, mode, piece).map_err(wrong)?;
        }
        Ok(path)
    }

    /// The stamp beside the file holds size, inode and change time at the last hashing, so that a run costs one stat.
    fn is_unchanged(path: &Path, piece: &Piece) -> io::Result<bool> {
        let metadata = match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let stamp = stamp_of(&metadata, piece);
        if fs::read_to_string(stamp_path(path)).is_ok_and(|kept| kept == stamp) {
            return Ok(true);
        }
        if metadata.len() != piece.bytes.len() as u64 || fs::read(path)? != piece.bytes {
            return Ok(false);
        }
        fs::write(stamp_path(path), stamp)?;
        Ok(true)
    }

    fn write(folder: &Path, path: &Path, mode: u32, piece: &Piece) -> io::Result<()> {
        let found: String = Sha256::digest(piece.bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        if found != piece.sha256 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the mirrord-ide binary is damaged"));
        }
        // By rename: another process or session may be unpacking, or running the old file.
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let fresh = folder.join(format!(".new-{}-{number}", std::process::id()));
        let mut file: File =
            OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&fresh)?;
        file.write_all(piece.bytes)?;
        drop(file);
        fs::rename(&fresh, path)?;
        fs::write(stamp_path(path), stamp_of(&fs::metadata(path)?, piece))
    }

    fn stamp_path(path: &Path) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(".checked");
        name.into()
    }

    fn stamp_of(metadata: &fs::Metadata, piece: &Piece) -> String {
        let (seconds, nanoseconds) = (metadata.ctime(), metadata.ctime_nsec());
        format!("{} {} {seconds}.{nanoseconds} {}", metadata.len(), metadata.ino(), piece.sha256)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: Piece =
        Piece { bytes: b"hello", sha256: "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" };

    #[test]
    fn a_piece_is_unpacked_once_and_again_when_it_was_changed() {
        let root = std::env::temp_dir().join(format!("mirrord-ide-unpack-{}", std::process::id()));
        let path = unpack::unpack_below(&root, "piece", 0o755, &PIECE).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"hello");
        let first = std::fs::metadata(&path).unwrap().modified().unwrap();
        unpack::unpack_below(&root, "piece", 0o755, &PIECE).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), first);
        std::fs::write(&path, b"hellO").unwrap();
        unpack::unpack_below(&root, "piece", 0o755, &PIECE).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"hello");
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn sessions_that_start_at_once_unpack_at_once() {
        let root = std::env::temp_dir().join(format!("mirrord-ide-together-{}", std::process::id()));
        for _ in 0..20 {
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| unpack::unpack_below(&root, "piece", 0o755, &PIECE).unwrap());
                }
            });
            std::fs::remove_dir_all(&root).unwrap();
        }
    }

    #[test]
    fn a_damaged_piece_is_never_written() {
        let root = std::env::temp_dir().join(format!("mirrord-ide-damaged-{}", std::process::id()));
        let piece = Piece { bytes: b"hallo", ..PIECE };
        let error = unpack::unpack_below(&root, "piece", 0o755, &piece).unwrap_err();
        assert!(error.cause.iter().any(|cause| cause.contains("damaged")), "{error:?}");
        std::fs::remove_dir_all(&root).unwrap();
    }
}
