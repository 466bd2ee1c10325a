//! Asking the pod to change: opening for writing, names, attributes.
//!
//! The agent acts as the pod's own program, so nothing is judged here. What was looked at before a change is forgotten
//! with it. Where the agent cannot act so, or is of a version that never could, the caller is told EROFS, and why
//! stands in [`Pod::refusal`].

use super::Errno;
use super::lookup::{Found, Pod, lock};
use protocol::agent::{
    Changed, Open, Response, SetAttributes, Step, Time, Write, request::Op, response::Answer,
};
use std::sync::atomic::Ordering;

/// Attributes to be set; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributes {
    /// Permissions.
    pub mode: Option<u32>,
    /// Owner, as this machine numbers users: the session's own user stands for the pod's.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length in bytes.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<Time>,
    /// Last change of content.
    pub mtime: Option<Time>,
}

impl Pod {
    /// Opens as the pod's program would; one round trip.
    pub(super) fn open(&self, ask: Open) -> Result<Found, Errno> {
        let changes = ask.create || ask.truncate;
        let answer = self.change(Op::Open(ask))?;
        if changes {
            self.forget_looks();
        }
        let Some(Answer::Walked(walked)) = answer.answer else { return Err(libc::EIO) };
        self.found(walked)
    }

    pub(super) fn write(&self, ask: Write) -> Result<u64, Errno> {
        let length = ask.bytes.len() as u64;
        let answer = self.change(Op::Write(ask));
        self.forget_looks();
        match answer?.answer {
            Some(Answer::Written(written)) if written.count <= length => Ok(written.count),
            _ => Err(libc::EIO),
        }
    }

    /// A change of names or attributes: how things stand afterwards.
    pub(super) fn changed(&self, op: Op) -> Result<Vec<Step>, Errno> {
        let answer = self.change(op);
        self.forget_looks();
        match answer?.answer {
            Some(Answer::Changed(Changed { steps })) => Ok(steps),
            _ => Err(libc::EIO),
        }
    }

    /// Asks for a change. Refused with a word on why, it is the agent that cannot, and not the pod that will not.
    pub(super) fn change(&self, op: Op) -> Result<Response, Errno> {
        let response = self.put(op)?;
        match response.errno {
            0 => Ok(response),
            errno if response.message.is_empty() => Err(errno),
            libc::ENOSYS => Err(self.refuse("the agent is of a version that does not write".to_owned())),
            _ => Err(self.refuse(response.message)),
        }
    }

    /// Notes why nothing can be written.
    pub(super) fn refuse(&self, why: String) -> Errno {
        *lock(&self.refusal) = Some(why);
        libc::EROFS
    }

    /// What an agent is asked to set.
    pub(super) fn asked(&self, attributes: &Attributes) -> SetAttributes {
        let Attributes { mode, uid, gid, size, atime, mtime } = attributes.clone();
        let (uid, gid) = self.look.owner_there(uid, gid);
        SetAttributes { mode, uid, gid, size, atime, mtime, ..SetAttributes::default() }
    }

    /// How often something was changed so far.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    fn forget_looks(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.recent.clear();
        self.resolver.clear();
    }
}
