//! The engine: receives trapped calls and answers them, from the pod or by letting the kernel go on.
//!
//! One thread receives and decides, since several threads blocked in the kernel's receive cost 65 % more each call.
//! What is local is answered there at once; what needs the agent, or may wait, goes to a worker.

pub mod filter;
pub mod memory;
pub mod notify;
pub mod paths;
pub mod process;

use crate::sockets::Sockets;
use crate::sys::Errno;
use notify::{Answer, Listener, Notification};
use paths::Paths;
use process::{Caller, Callers};
use std::sync::Arc;

/// One trapped call, with its caller.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who.
    pub caller: Arc<Caller>,
    /// System call number.
    pub nr: libc::c_long,
    /// The arguments.
    pub args: [u64; 6],
}

impl Call {
    /// The calling thread's id.
    pub fn tid(&self) -> u32 {
        self.caller.tid
    }

    /// An argument that is a descriptor, a flag or a length.
    pub fn int(&self, index: usize) -> i32 {
        self.args[index] as i32
    }
}

/// How a call is to be answered.
pub enum Verdict {
    /// Now, with this.
    Now(Answer),
    /// By a worker, who may wait.
    Later(Box<dyn FnOnce() -> Answer + Send>),
}

impl Verdict {
    /// The kernel is to do it.
    pub const CONTINUE: Self = Self::Now(Answer::Continue);

    /// Fails now.
    pub fn fail(error: Errno) -> Self {
        Self::Now(Answer::Fail(error))
    }

    /// Work for a worker.
    pub fn later(work: impl FnOnce() -> Answer + Send + 'static) -> Self {
        Self::Later(Box::new(work))
    }
}

impl Answer {
    /// The answer of work that fails with an errno.
    ///
    /// What may not be looked at (a non-dumpable program) or is gone is left to the kernel.
    pub fn from_result(result: Result<Answer, Errno>) -> Self {
        match result {
            Ok(answer) => answer,
            Err(libc::EPERM | libc::ESRCH) => Answer::Continue,
            Err(error) => Answer::Fail(error),
        }
    }
}

/// What answers the calls of a session.
pub struct Engine {
    /// Files, by path.
    pub paths: Arc<Paths>,
    /// Sockets.
    pub sockets: Arc<Sockets>,
    /// The pod's host name, when uname(2) is to tell it.
    pub hostname: Option<String>,
    /// Where work that may wait is done.
    pub workers: tokio::runtime::Handle,
}

impl Engine {
    /// Answers calls until no process is left under the filter.
    pub fn run(self, listener: Arc<Listener>, mut callers: Callers) {
        loop {
            match listener.receive() {
                Ok(Some(notification)) => self.handle(&listener, &mut callers, &notification),
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(error, "the filter's listener failed");
                    return;
                }
            }
        }
    }

    fn handle(&self, listener: &Arc<Listener>, callers: &mut Callers, notification: &Notification) {
        let id = notification.id;
        let verdict = match callers.get(notification.tid) {
            Ok(caller) => {
                let call = Call {
                    caller,
                    nr: libc::c_long::from(notification.data.nr),
                    args: notification.data.args,
                };
                self.decide(callers, call)
            }
            Err(_) => Verdict::CONTINUE,
        };
        match verdict {
            Verdict::Now(Answer::Continue) => listener.answer(id, Answer::Continue),
            Verdict::Now(answer) => listener.answer(id, answer),
            Verdict::Later(work) => {
                let listener = Arc::clone(listener);
                self.workers.spawn_blocking(move || {
                    // A thread id may have been reused between trap and now: then nobody waits for this call.
                    if listener.is_waiting(id) {
                        listener.answer(id, work());
                    }
                });
            }
        }
    }

    fn decide(&self, callers: &mut Callers, call: Call) -> Verdict {
        match call.nr {
            libc::SYS_execve | libc::SYS_execveat => {
                callers.forget(call.tid());
                Verdict::CONTINUE
            }
            _ if call.caller.skipped.is_some() => Verdict::CONTINUE,
            libc::SYS_uname => match &self.hostname {
                Some(name) => Verdict::Now(Answer::from_result(uname(&call, name))),
                None => Verdict::CONTINUE,
            },
            libc::SYS_socket
            | libc::SYS_connect
            | libc::SYS_bind
            | libc::SYS_listen
            | libc::SYS_accept
            | libc::SYS_accept4
            | libc::SYS_getsockname
            | libc::SYS_getpeername
            | libc::SYS_sendto
            | libc::SYS_recvfrom
            | libc::SYS_sendmsg
            | libc::SYS_recvmsg
            | libc::SYS_sendmmsg
            | libc::SYS_recvmmsg => self.sockets.decide(call),
            _ => self.paths.decide(call),
        }
    }
}

/// uname(2) with another node name.
fn uname(call: &Call, name: &str) -> Result<Answer, Errno> {
    // SAFETY: plain arrays of characters; zero is a value of theirs.
    let mut names: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is ours.
    if unsafe { libc::uname(&mut names) } != 0 {
        return Err(crate::sys::errno());
    }
    names.nodename = [0; 65];
    for (to, from) in names.nodename.iter_mut().zip(name.bytes().take(64)) {
        *to = from as libc::c_char;
    }
    crate::sys::write_memory(call.tid(), call.args[0], memory::structure(&names))?;
    Ok(Answer::Value(0))
}
