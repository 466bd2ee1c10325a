//! The data plane of one debuggee: the session host, and the front that the editor sees.
//!
//! The front ([`front`]) starts the host ([`host`]), the host starts the debuggee ([`launch`]) under a seccomp filter and
//! answers its trapped calls ([`traps`]) with real kernel objects: files of the pod ([`files`]) and sockets
//! ([`sockets`]) whose bytes travel over the link to the agent ([`agent_link`]).

pub mod agent_link;
pub mod control;
pub mod debugger;
pub mod env;
pub mod files;
pub mod front;
pub mod host;
pub mod launch;
pub mod places;
pub mod skip;
pub mod sockets;
pub mod sys;
pub mod traps;
