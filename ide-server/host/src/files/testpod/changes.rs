//! What the pod for tests does when it is told to change: the same on its folder, without the care of the real agent.

use super::{Errno, TestPod, read_full};
use bytes::Bytes;
use protocol::agent::{
    Changed, Open, SetAttributes, Stat, Step, Time, Walk, Walked, Written, request::Op, response::Answer,
};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt, symlink};
use std::path::Path;
use std::sync::atomic::Ordering;

impl TestPod {
    pub(super) fn change(&self, op: Op) -> Result<Option<Answer>, Errno> {
        self.changes.fetch_add(1, Ordering::SeqCst);
        let errno = |error: io::Error| error.raw_os_error().unwrap();
        Ok(Some(match op {
            Op::Open(ask) => Answer::Walked(self.open(&ask)),
            Op::Write(ask) => {
                let kept = self.kept.lock().unwrap();
                let file = kept.get(&ask.handle).ok_or(libc::EBADF)?;
                let offset = if ask.append { file.metadata().unwrap().len() } else { ask.offset };
                self.written.lock().unwrap().push(ask.bytes.len());
                let mut room = self.room.lock().unwrap();
                let count = ask.bytes.len().min(room.unwrap_or(usize::MAX));
                if count == 0 {
                    return Err(libc::ENOSPC);
                }
                *room = room.map(|room| room - count);
                file.write_all_at(&ask.bytes[..count], offset).map_err(errno)?;
                Answer::Written(Written { count: count as u64 })
            }
            Op::Sync(ask) => {
                self.syncs.lock().unwrap().push(ask.extent);
                return Ok(None);
            }
            Op::SetAttributes(ask) => self.set_attributes(&ask)?,
            Op::MakeFolder(ask) => {
                std::fs::create_dir(self.place(&ask.path)).map_err(errno)?;
                self.left(&[&ask.path])
            }
            Op::MakeLink(ask) => {
                let text = std::str::from_utf8(&ask.text).unwrap();
                symlink(text, self.place(&ask.path)).map_err(errno)?;
                self.left(&[&ask.path])
            }
            Op::HardLink(ask) => {
                std::fs::hard_link(self.place(&ask.from), self.place(&ask.to)).map_err(errno)?;
                self.left(&[&ask.to])
            }
            Op::Remove(ask) => {
                let place = self.place(&ask.path);
                match ask.folder {
                    true => std::fs::remove_dir(place),
                    false => std::fs::remove_file(place),
                }
                .map_err(errno)?;
                self.left(&[&ask.path])
            }
            Op::Rename(ask) => {
                std::fs::rename(self.place(&ask.from), self.place(&ask.to)).map_err(errno)?;
                self.left(&[&ask.from, &ask.to])
            }
            other => panic!("no change of files: {other:?}"),
        }))
    }

    fn open(&self, ask: &Open) -> Walked {
        let mut walked = Walked::default();
        let walk = Walk { path: ask.path.clone(), follow: ask.follow, ..Walk::default() };
        let found = self.follow(&walk, &mut walked.steps);
        let created = match found {
            Ok(()) if ask.create && ask.exclusive => {
                walked.errno = libc::EEXIST;
                return walked;
            }
            Ok(()) => false,
            Err(libc::ENOENT) if ask.create => true,
            Err(errno) => {
                walked.errno = errno;
                return walked;
            }
        };
        let path = walked.steps.last().unwrap().path.clone();
        let place = self.place(&path);
        if !created && !place.symlink_metadata().unwrap().is_file() {
            if ask.list && place.is_dir() {
                walked.listed = Some(self.list(&path, 0));
            }
            return walked;
        }
        let opened = OpenOptions::new()
            .read(ask.read)
            .write(ask.write)
            .create(created)
            .truncate(ask.truncate)
            .mode(ask.mode)
            .open(&place);
        let file = match opened {
            Ok(file) => file,
            Err(error) => {
                walked.errno = error.raw_os_error().unwrap();
                return walked;
            }
        };
        walked.steps.pop();
        walked.steps.push(self.step(&path).unwrap());
        if ask.read && ask.inline > 0 {
            let mut content = vec![0; ask.inline as usize];
            let filled = read_full(&file, &mut content, 0);
            content.truncate(filled);
            walked.content = content.into();
        }
        walked.handle = self.keep(file);
        walked
    }

    pub(super) fn keep(&self, file: File) -> u64 {
        let handle = u64::from(self.last.fetch_add(1, Ordering::SeqCst) + 1);
        self.kept.lock().unwrap().insert(handle, file);
        handle
    }

    fn set_attributes(&self, ask: &SetAttributes) -> Result<Answer, Errno> {
        let kept = self.kept.lock().unwrap();
        let place = match ask.handle {
            0 => self.place(&ask.path),
            handle => {
                let file = kept.get(&handle).ok_or(libc::EBADF)?;
                format!("/proc/self/fd/{}", file.as_raw_fd()).into()
            }
        };
        self.set_at(&place, ask).map_err(|error| error.raw_os_error().unwrap())?;
        let stat = self.stat_of(&std::fs::metadata(&place).unwrap());
        let path = if ask.handle == 0 { ask.path.clone() } else { Bytes::new() };
        Ok(Answer::Changed(Changed { steps: vec![step(path, Some(stat))] }))
    }

    fn set_at(&self, place: &Path, ask: &SetAttributes) -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        if let Some(size) = ask.size {
            OpenOptions::new().write(true).open(place)?.set_len(size)?;
        }
        if ask.uid.is_some() || ask.gid.is_some() {
            std::os::unix::fs::chown(place, ask.uid, ask.gid)?;
        }
        if let Some(mode) = ask.mode {
            std::fs::set_permissions(place, std::fs::Permissions::from_mode(mode))?;
        }
        if ask.atime.is_some() || ask.mtime.is_some() {
            let path = std::ffi::CString::new(place.as_os_str().as_encoded_bytes()).unwrap();
            let times = [ask.atime, ask.mtime].map(|time| match time {
                None => libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT },
                Some(Time { now: true, .. }) => libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_NOW },
                Some(time) => libc::timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() },
            });
            // SAFETY: the path is a C string, the array holds two times.
            if unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), 0) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }

    /// The folders of these paths, and what is there now.
    fn left(&self, paths: &[&Bytes]) -> Answer {
        let folders = paths.iter().map(|path| {
            let slash = path.iter().rposition(|&byte| byte == b'/').unwrap();
            self.step(&path[..slash.max(1)]).unwrap()
        });
        let names = paths.iter().map(|path| self.step(path).unwrap_or_else(|_| step((*path).clone(), None)));
        Answer::Changed(Changed { steps: folders.chain(names).collect() })
    }
}

fn step(path: Bytes, stat: Option<Stat>) -> Step {
    Step { path, stat, link: Bytes::new() }
}
