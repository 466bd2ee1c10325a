//! The files that a resolver reads before it asks anybody: fetched together, and believed for a moment.
//!
//! One look-up of a name reads several of them one after the other, each a round trip; a client that connects anew for
//! each request does so each time. Kubernetes and the engines write them when a container starts.

use super::PodFs;
use super::lookup::lock;
use protocol::agent::{MAX_INLINE, Response, Walk, Walked, request::Op, response::Answer};
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Read by glibc, musl, Go and the JDK.
const FILES: [&[u8]; 5] =
    [b"/etc/resolv.conf", b"/etc/hosts", b"/etc/nsswitch.conf", b"/etc/host.conf", b"/etc/gai.conf"];
/// Long enough for one look-up over a slow line, short enough for whoever edits a file and tries again.
const VALID: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Resolver {
    known: Mutex<HashMap<&'static [u8], (Instant, Walked)>>,
}

impl Resolver {
    /// Something was changed: nothing is known any more.
    pub(super) fn clear(&self) {
        lock(&self.known).clear();
    }

    /// What a walk to the path shows, links followed and with all of its content; `None` for every other path, for one
    /// that is too long, and where the agent does not answer.
    pub(super) fn walked(&self, fs: &dyn PodFs, path: &[u8]) -> Option<Walked> {
        let path = FILES.into_iter().find(|file| *file == path)?;
        let fresh = |known: &HashMap<&[u8], (Instant, Walked)>| {
            let (at, walked) = known.get(path)?;
            (at.elapsed() < VALID).then(|| walked.clone())
        };
        let known = fresh(&lock(&self.known));
        let walked = match known {
            Some(walked) => walked,
            None => {
                let fetched = fetch(fs);
                let mut all = lock(&self.known);
                *all = fetched;
                fresh(&all)?
            }
        };
        (walked.whole || walked.errno != 0).then_some(walked)
    }
}

/// Asks for all of them at once.
fn fetch(fs: &dyn PodFs) -> HashMap<&'static [u8], (Instant, Walked)> {
    let ask = |path: &'static [u8]| {
        let walk = Walk { path: path.into(), follow: true, inline: MAX_INLINE, list: false, keep: false };
        match fs.request(Op::Walk(walk)) {
            Ok(Response { errno: 0, answer: Some(Answer::Walked(walked)), .. }) => {
                Some((path, (Instant::now(), walked)))
            }
            _ => None,
        }
    };
    std::thread::scope(|scope| {
        let asked = FILES.map(|path| {
            std::thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, move || ask(path))
        });
        asked.into_iter().filter_map(|asked| asked.ok()?.join().ok()?).collect()
    })
}
