//! Calls that make, remove, rename or change what a path leads to, done in the pod for the caller.

use super::Paths;
use crate::files::Attributes;
use crate::sys::Errno;
use crate::traps::notify::Answer;
use crate::traps::{Call, memory};
use protocol::agent::Time;

/// What is to be done, by the arguments of the call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    MakeFolder {
        mode: u32,
    },
    /// mknod(2): a regular file, or something that only the pod's kernel could serve.
    MakeNode {
        mode: u32,
    },
    Remove {
        folder: bool,
    },
    Rename {
        flags: u32,
    },
    HardLink {
        follow: bool,
    },
    /// The link's text, in the caller's memory.
    Symlink {
        text: u64,
    },
    Mode {
        mode: u32,
        follow: bool,
    },
    Owner {
        uid: u32,
        gid: u32,
        follow: bool,
    },
    Times {
        times: u64,
        form: TimesForm,
        follow: bool,
    },
    Truncate {
        size: u64,
    },
    /// What is not carried over to the pod.
    ExtendedAttribute,
}

/// What a call's times look like in memory; none there means now.
#[derive(Clone, Copy, Debug)]
pub(super) enum TimesForm {
    /// Two of seconds and nanoseconds, with numbers that mean "now" and "leave it".
    Timespec,
    /// Two of seconds and microseconds.
    Timeval,
    /// Two of seconds.
    Utimbuf,
}

impl Paths {
    /// Does it in the pod. What the pod refuses is an answer, EPERM too; errors are those of the caller's memory.
    pub(super) fn change(
        &self,
        call: &Call,
        path: &[u8],
        other: Option<&[u8]>,
        change: Change,
    ) -> Result<Answer, Errno> {
        let files = &self.files;
        let done = match change {
            Change::MakeFolder { mode } => files.make_folder(path, mode & !umask(call)?),
            Change::MakeNode { mode } => match mode & libc::S_IFMT {
                0 | libc::S_IFREG => files.make_file(path, mode & !umask(call)?),
                _ => Err(libc::EPERM),
            },
            Change::Remove { folder } => files.remove(path, folder),
            Change::Rename { flags } => files.rename(path, other.ok_or(libc::ENOENT)?, flags),
            Change::HardLink { follow } => files.hard_link(path, follow, other.ok_or(libc::ENOENT)?),
            Change::Symlink { text } => {
                let text = memory::path(call.tid(), text)?;
                if text.is_empty() {
                    return Err(libc::ENOENT);
                }
                files.make_link(path, &text)
            }
            Change::Mode { mode, follow } => {
                let mode = Some(mode & 0o7777);
                files.set_attributes(path, follow, &Attributes { mode, ..Attributes::default() })
            }
            Change::Owner { uid, gid, follow } => {
                let given = |id: u32| (id != u32::MAX).then_some(id);
                let (uid, gid) = (given(uid), given(gid));
                files.set_attributes(path, follow, &Attributes { uid, gid, ..Attributes::default() })
            }
            Change::Times { times, form, follow } => {
                let [atime, mtime] = read_times(call.tid(), times, form)?;
                files.set_attributes(path, follow, &Attributes { atime, mtime, ..Attributes::default() })
            }
            Change::Truncate { size } => {
                let size = i64::try_from(size).map_err(|_| libc::EINVAL)?;
                let size = Some(size as u64);
                files.set_attributes(path, true, &Attributes { size, ..Attributes::default() })
            }
            Change::ExtendedAttribute => Err(libc::EOPNOTSUPP),
        };
        Ok(match done {
            Ok(()) => Answer::Value(0),
            Err(errno) => Answer::Fail(errno),
        })
    }
}

/// The caller's umask: what it makes is made by somebody else, who does not have it.
pub(super) fn umask(call: &Call) -> Result<u32, Errno> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", call.tid()))
        .map_err(|error| error.raw_os_error().unwrap_or(libc::ESRCH))?;
    let text = status.lines().find_map(|line| line.strip_prefix("Umask:")).ok_or(libc::ESRCH)?;
    u32::from_str_radix(text.trim(), 8).map_err(|_| libc::EIO)
}

pub(super) fn read_times(tid: u32, address: u64, form: TimesForm) -> Result<[Option<Time>; 2], Errno> {
    const NOW: Time = Time { now: true, seconds: 0, nanoseconds: 0 };
    if address == 0 {
        return Ok([Some(NOW); 2]);
    }
    let words = match form {
        TimesForm::Utimbuf => 2,
        TimesForm::Timespec | TimesForm::Timeval => 4,
    };
    let bytes = memory::bytes(tid, address, words * 8)?;
    let word = |index: usize| bytes[index * 8..].first_chunk().map_or(0, |word| i64::from_ne_bytes(*word));
    let time = |seconds: i64, nanoseconds: i64| match nanoseconds {
        0..=999_999_999 => Ok(Some(Time { now: false, seconds, nanoseconds: nanoseconds as u32 })),
        _ => Err(libc::EINVAL),
    };
    let one = |index: usize| match form {
        TimesForm::Utimbuf => time(word(index), 0),
        TimesForm::Timeval => match word(2 * index + 1) {
            micros @ 0..=999_999 => time(word(2 * index), micros * 1000),
            _ => Err(libc::EINVAL),
        },
        TimesForm::Timespec => match word(2 * index + 1) {
            libc::UTIME_NOW => Ok(Some(NOW)),
            libc::UTIME_OMIT => Ok(None),
            nanoseconds => time(word(2 * index), nanoseconds),
        },
    };
    Ok([one(0)?, one(1)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[i64], form: TimesForm) -> Result<[Option<Time>; 2], Errno> {
        read_times(std::process::id(), words.as_ptr() as u64, form)
    }

    #[test]
    fn times_are_read_in_each_form() {
        let at = |seconds, nanoseconds| Some(Time { now: false, seconds, nanoseconds });
        assert_eq!(read(&[5, 6], TimesForm::Utimbuf), Ok([at(5, 0), at(6, 0)]));
        assert_eq!(read(&[5, 7, 6, 999_999], TimesForm::Timeval), Ok([at(5, 7000), at(6, 999_999_000)]));
        assert_eq!(read(&[5, 1_000_000, 6, 0], TimesForm::Timeval), Err(libc::EINVAL));
        let now = Some(Time { now: true, ..Time::default() });
        assert_eq!(read(&[5, libc::UTIME_NOW, 6, libc::UTIME_OMIT], TimesForm::Timespec), Ok([now, None]));
        assert_eq!(read(&[-5, 7, 6, 8], TimesForm::Timespec), Ok([at(-5, 7), at(6, 8)]));
        assert_eq!(read(&[5, -7, 6, 8], TimesForm::Timespec), Err(libc::EINVAL));
        assert_eq!(read_times(std::process::id(), 0, TimesForm::Utimbuf), Ok([now, now]));
    }
}
