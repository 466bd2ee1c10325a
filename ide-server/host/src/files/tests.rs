//! Each way of serving against the kernel's own answers for the same tree, as root and as an ordinary user.

use super::testpod::TestPod;
use super::*;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

mod behaviour;
mod endings;
mod kernel;
mod ordinary;
mod writing;

/// A served tree, and the tree itself.
struct Scene {
    folder: PathBuf,
    pod: Arc<TestPod>,
    server: Option<FileServer>,
}

static SCENES: AtomicU32 = AtomicU32::new(0);

impl Scene {
    /// By this way; `None`, and a word on why, where the machine does not allow it.
    fn new(way: Backend) -> Option<Self> {
        Self::with_creds(way, nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
    }

    fn with_creds(way: Backend, uid: u32, gid: u32) -> Option<Self> {
        let number = SCENES.fetch_add(1, Ordering::SeqCst);
        let folder = std::env::temp_dir().join(format!("ide-files-{}-{number}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
        std::fs::create_dir(folder.join("tree")).unwrap();
        std::fs::DirBuilder::new().mode(0o700).create(folder.join("session")).unwrap();
        let pod = Arc::new(TestPod::new(&folder.join("tree")));
        let creds = Creds { uid, gid, groups: Vec::new() };
        let server =
            FileServer::start(prepare_only(&[way]), pod.clone(), creds, &folder.join("session")).unwrap();
        let scene = Self { folder, pod, server: Some(server) };
        if scene.server().backend() != way {
            println!("SKIPPED {way:?}: {}", scene.server().why_not());
            assert!(std::env::var_os("FILES_TEST_ALL_WAYS").is_none(), "every way must work here");
            return None;
        }
        Some(scene)
    }

    fn server(&self) -> &FileServer {
        self.server.as_ref().unwrap()
    }

    fn tree(&self, path: &str) -> PathBuf {
        self.folder.join("tree").join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, content: &[u8]) {
        std::fs::create_dir_all(self.tree(path).parent().unwrap()).unwrap();
        std::fs::write(self.tree(path), content).unwrap();
    }

    /// The kernel's own answer: the tree's folder stands for the root.
    fn natively(&self, path: &str, flags: i32) -> Result<OwnedFd, Errno> {
        let root = File::open(self.tree("")).unwrap();
        let relative = CString::new(if path == "/" { "." } else { path.trim_start_matches('/') }).unwrap();
        // SAFETY: plain integers.
        let mut how: libc::open_how = unsafe { std::mem::zeroed() };
        how.flags = (flags | libc::O_CLOEXEC) as u64;
        how.resolve = libc::RESOLVE_IN_ROOT;
        // SAFETY: path and struct outlive the call.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                root.as_raw_fd(),
                relative.as_ptr(),
                &raw const how,
                size_of::<libc::open_how>(),
            )
        };
        match fd {
            // SAFETY: the kernel has just made it for us.
            0.. => Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
            _ => Err(io::Error::last_os_error().raw_os_error().unwrap()),
        }
    }

    fn open(&self, path: &str, flags: i32) -> Result<File, Errno> {
        self.server().open(path.as_bytes(), flags, 0, 0, Rights::Read).map(File::from)
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, Errno> {
        let mut content = Vec::new();
        self.open(path, libc::O_RDONLY)?
            .read_to_end(&mut content)
            .map_err(|error| error.raw_os_error().unwrap())?;
        Ok(content)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        drop(self.server.take());
        let left: Vec<_> = std::fs::read_dir(self.folder.join("session"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        let removed = std::fs::remove_dir_all(&self.folder);
        if !std::thread::panicking() {
            assert_eq!(left, Vec::<PathBuf>::new(), "something is left behind in the session's folder");
            removed.unwrap();
        }
    }
}

const FUSE: [Backend; 2] = [Backend::FuseUserns, Backend::FuseMount3];
const ALL: [Backend; 3] = [Backend::FuseUserns, Backend::FuseMount3, Backend::Memfd];

fn each(ways: &[Backend], test: impl Fn(&Scene)) {
    let mut ran = 0;
    for &way in ways {
        if let Some(scene) = Scene::new(way) {
            println!("{way:?}");
            test(&scene);
            ran += 1;
        }
    }
    if ran == 0 {
        println!("SKIPPED: no way to serve files by FUSE on this machine");
    }
}

/// What stat tells, times of access left out.
fn told(stat: &libc::stat) -> [u64; 12] {
    [
        stat.st_dev,
        stat.st_ino,
        stat.st_mode.into(),
        stat.st_nlink,
        stat.st_uid.into(),
        stat.st_gid.into(),
        stat.st_size as u64,
        stat.st_blocks as u64,
        stat.st_mtime as u64,
        stat.st_mtime_nsec as u64,
        stat.st_ctime as u64,
        stat.st_ctime_nsec as u64,
    ]
}

fn link_text(file: &File) -> String {
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .unwrap()
        .into_os_string()
        .into_string()
        .unwrap()
}

fn names_of(folder: &File) -> BTreeSet<String> {
    std::fs::read_dir(format!("/proc/self/fd/{}", folder.as_raw_fd()))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}
