//! A pod for tests: a folder of this machine, walked name by name, with every question counted.

mod changes;

use super::{Errno, PodFs};
use bytes::Bytes;
use protocol::agent::{
    Entry, Figures, Listed, Response, Stat, Step, Walk, Walked, request::Op, response::Answer,
};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

/// Entries in a batch, few so that small folders have several.
const BATCH: usize = 1024;

#[derive(Default)]
pub(super) struct TestPod {
    root: PathBuf,
    kept: Mutex<HashMap<u64, File>>,
    last: AtomicU32,
    pub(super) walks: AtomicUsize,
    pub(super) lists: AtomicUsize,
    pub(super) reads: AtomicUsize,
    pub(super) others: AtomicUsize,
    pub(super) changes: AtomicUsize,
    /// How long each write was.
    pub(super) written: Mutex<Vec<usize>>,
    /// How much can still be written, where that has an end.
    pub(super) room: Mutex<Option<usize>>,
    /// How far each synchronisation went.
    pub(super) syncs: Mutex<Vec<i32>>,
    /// Refuses changes, as an agent that knows of none.
    pub(super) old: AtomicBool,
    /// Answers nothing any more, with this errno.
    pub(super) lost: AtomicU32,
    /// Owner that all files are shown with, when set.
    pub(super) owner: AtomicU32,
    /// Shows regular files as having no size.
    pub(super) sizeless: AtomicBool,
    /// How long each answer takes, in milliseconds.
    pub(super) slow: AtomicU32,
}

impl TestPod {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), owner: AtomicU32::new(u32::MAX), ..Self::default() }
    }

    /// Questions since the last call, closes left out: nobody waits for them.
    pub(super) fn take_questions(&self) -> usize {
        [&self.walks, &self.lists, &self.reads, &self.others, &self.changes]
            .iter()
            .map(|count| count.swap(0, Ordering::SeqCst))
            .sum()
    }

    pub(super) fn kept(&self) -> usize {
        self.kept.lock().unwrap().len()
    }

    /// As after the agent was replaced.
    pub(super) fn lose_kept(&self) {
        self.kept.lock().unwrap().clear();
    }

    fn place(&self, path: &[u8]) -> PathBuf {
        self.root.join(OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path)))
    }

    fn stat(&self, place: &Path) -> io::Result<Stat> {
        Ok(self.stat_of(&place.symlink_metadata()?))
    }

    fn stat_of(&self, meta: &std::fs::Metadata) -> Stat {
        let owner = self.owner.load(Ordering::SeqCst);
        let sizeless = self.sizeless.load(Ordering::SeqCst) && meta.is_file();
        Stat {
            ino: meta.ino(),
            dev: meta.dev(),
            mode: meta.mode(),
            nlink: meta.nlink() as u32,
            uid: if owner == u32::MAX { meta.uid() } else { owner },
            gid: if owner == u32::MAX { meta.gid() } else { owner },
            rdev: meta.rdev(),
            size: if sizeless { 0 } else { meta.size() },
            blksize: meta.blksize() as u32,
            blocks: meta.blocks(),
            atime: meta.atime(),
            atime_nsec: meta.atime_nsec() as u32,
            mtime: meta.mtime(),
            mtime_nsec: meta.mtime_nsec() as u32,
            ctime: meta.ctime(),
            ctime_nsec: meta.ctime_nsec() as u32,
        }
    }

    fn step(&self, path: &[u8]) -> io::Result<Step> {
        let place = self.place(path);
        let stat = self.stat(&place)?;
        let link = match stat.mode & libc::S_IFMT {
            libc::S_IFLNK => std::fs::read_link(&place)?.into_os_string().into_encoded_bytes(),
            _ => Vec::new(),
        };
        Ok(Step { path: Bytes::copy_from_slice(path), stat: Some(stat), link: Bytes::from(link) })
    }

    fn walk(&self, ask: &Walk) -> Walked {
        let mut walked = Walked::default();
        match self.follow(ask, &mut walked.steps) {
            Ok(()) => {}
            Err(errno) => {
                walked.errno = errno;
                return walked;
            }
        }
        let last = walked.steps.last().unwrap().clone();
        let stat = last.stat.unwrap();
        match stat.mode & libc::S_IFMT {
            libc::S_IFREG if ask.inline > 0 || ask.keep => {
                let file = File::open(self.place(&last.path)).unwrap();
                let mut content = vec![0; ask.inline as usize + 1];
                let read = read_full(&file, &mut content, 0);
                walked.whole = read <= ask.inline as usize;
                content.truncate(read.min(ask.inline as usize));
                walked.content = content.into();
                if ask.keep && !walked.whole {
                    walked.handle = self.keep(file);
                }
            }
            libc::S_IFDIR if ask.list => walked.listed = Some(self.list(&last.path, 0)),
            _ => {}
        }
        walked
    }

    fn follow(&self, ask: &Walk, steps: &mut Vec<Step>) -> Result<(), Errno> {
        let mut ahead: Vec<Vec<u8>> = names(&ask.path);
        let mut here: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            if name == b".." {
                here.pop();
                continue;
            }
            if name.len() > 255 {
                return Err(libc::ENAMETOOLONG);
            }
            here.push(name);
            let path = absolute(&here);
            let step = self.step(&path).map_err(|error| {
                steps.push(Step { path: path.clone().into(), stat: None, link: Bytes::new() });
                error.raw_os_error().unwrap()
            })?;
            steps.push(step.clone());
            match step.stat.unwrap().mode & libc::S_IFMT {
                libc::S_IFDIR => {}
                libc::S_IFLNK if !ahead.is_empty() || ask.follow => {
                    links += 1;
                    if links > 40 {
                        return Err(libc::ELOOP);
                    }
                    here.pop();
                    if step.link.starts_with(b"/") {
                        here.clear();
                    }
                    ahead.extend(names(&step.link));
                }
                _ if ahead.is_empty() => return Ok(()),
                _ => return Err(libc::ENOTDIR),
            }
        }
        let path = absolute(&here);
        if steps.last().is_none_or(|step| step.path != path) {
            steps.push(self.step(&path).map_err(|error| error.raw_os_error().unwrap())?);
        }
        Ok(())
    }

    fn list(&self, path: &[u8], from: u64) -> Listed {
        let mut names: Vec<_> =
            std::fs::read_dir(self.place(path)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        let from = from as usize;
        let end = names.len().min(from + BATCH);
        let entries = names[from..end]
            .iter()
            .map(|name| {
                let mut path = path.to_vec();
                if path != b"/" {
                    path.push(b'/');
                }
                path.extend_from_slice(name.as_bytes());
                let step = self.step(&path).unwrap();
                Entry { name: Bytes::copy_from_slice(name.as_bytes()), stat: step.stat, link: step.link }
            })
            .collect();
        Listed { entries, next: if end < names.len() { end as u64 } else { 0 } }
    }
}

impl PodFs for TestPod {
    fn request(&self, op: Op) -> Result<Response, Errno> {
        std::thread::sleep(Duration::from_millis(self.slow.load(Ordering::SeqCst).into()));
        match self.lost.load(Ordering::SeqCst) {
            0 => {}
            errno => return Err(errno as i32),
        }
        let mut errno = 0;
        let mut message = String::new();
        let answer = match op {
            Op::Walk(ask) => {
                self.walks.fetch_add(1, Ordering::SeqCst);
                Some(Answer::Walked(self.walk(&ask)))
            }
            Op::List(ask) => {
                self.lists.fetch_add(1, Ordering::SeqCst);
                Some(Answer::Listed(self.list(&ask.path, ask.from)))
            }
            Op::Read(ask) => {
                self.reads.fetch_add(1, Ordering::SeqCst);
                match self.kept.lock().unwrap().get(&ask.handle) {
                    Some(file) => {
                        let mut content = vec![0; ask.length as usize];
                        let read = read_full(file, &mut content, ask.offset);
                        content.truncate(read);
                        Some(Answer::Content(content.into()))
                    }
                    None => {
                        errno = libc::EBADF;
                        None
                    }
                }
            }
            Op::Close(ask) => {
                if self.kept.lock().unwrap().remove(&ask.handle).is_none() {
                    errno = libc::EBADF;
                }
                None
            }
            Op::Statfs(ask) => {
                self.others.fetch_add(1, Ordering::SeqCst);
                let path = self.place(&ask.path);
                let figures = nix::sys::statvfs::statvfs(&path).unwrap();
                Some(Answer::Figures(Figures {
                    kind: 0x0102_1994,
                    bsize: figures.block_size(),
                    blocks: figures.blocks(),
                    bfree: figures.blocks_free(),
                    bavail: figures.blocks_available(),
                    files: figures.files(),
                    ffree: figures.files_free(),
                    namelen: figures.name_max(),
                }))
            }
            _ if self.old.load(Ordering::SeqCst) => {
                errno = libc::ENOSYS;
                message = "this agent does not know the request".to_owned();
                None
            }
            op => self.change(op).unwrap_or_else(|refused| {
                errno = refused;
                None
            }),
        };
        Ok(Response { id: 0, errno, message, answer })
    }
}

fn names(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|&byte| byte == b'/')
        .filter(|name| !matches!(*name, b"" | b"."))
        .map(<[u8]>::to_vec)
        .rev()
        .collect()
}

fn absolute(names: &[Vec<u8>]) -> Vec<u8> {
    let mut path: Vec<u8> = names.iter().flat_map(|name| [b"/", &name[..]].concat()).collect();
    if path.is_empty() {
        path.push(b'/');
    }
    path
}

fn read_full(file: &File, buffer: &mut [u8], offset: u64) -> usize {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64).unwrap() {
            0 => break,
            read => filled += read,
        }
    }
    filled
}
