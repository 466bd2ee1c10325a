//! The wire between session host (client) and agent.
//!
//! The agent speaks first: [`Challenge`]. The client answers [`Hello`], the agent [`Welcome`] or [`Closing`]. From
//! then on both send frames of [`ToAgent`] and [`ToClient`] as they please. Every [`Request`] has exactly one
//! [`Response`] of the same id, in any order. Streams carry bytes (or one datagram a frame) with credit; a client
//! numbers its streams odd, the agent even. Fields have explicit numbers, unknown ones are skipped (protobuf).
//!
//! `errno` fields are Linux numbers (x86_64 and aarch64 agree on all that are used); 0 is success.

mod change;

use bytes::Bytes;

pub use change::{
    Changed, Extent, HardLink, MAX_WRITE, MakeFolder, MakeLink, Open, Remove, Rename, SetAttributes, Sync,
    Time, Write, Written,
};

/// What this build speaks; both sides take the lower of the two and refuse below [`MIN_PROTOCOL`].
pub const PROTOCOL: u32 = 1;
/// The oldest protocol this build still speaks.
pub const MIN_PROTOCOL: u32 = 1;
/// The most content that a [`Walk`] answers inline, in bytes.
pub const MAX_INLINE: u32 = 64 << 10;
/// The most that one [`Read`] answers, in bytes.
pub const MAX_READ: u32 = 256 << 10;

/// Any frame from client to agent.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ToAgent {
    /// What it carries; a body of a later version reads as `None` and is skipped.
    #[prost(oneof = "to_agent::Body", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    pub body: Option<to_agent::Body>,
}

/// Bodies of [`ToAgent`].
pub mod to_agent {
    /// What a frame to the agent carries.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Body {
        /// Opens the link.
        #[prost(message, tag = "1")]
        Hello(super::Hello),
        /// Asks; answered once.
        #[prost(message, tag = "2")]
        Request(super::Request),
        /// Stream payload.
        #[prost(message, tag = "3")]
        Data(super::Data),
        /// Grants more payload.
        #[prost(message, tag = "4")]
        Credit(super::Credit),
        /// No more payload from this side (half-close).
        #[prost(message, tag = "5")]
        End(super::End),
        /// The stream is over, both ways.
        #[prost(message, tag = "6")]
        Reset(super::Reset),
        /// Are you there?
        #[prost(message, tag = "7")]
        Ping(super::Ping),
        /// Last frame: the client leaves for good.
        #[prost(message, tag = "8")]
        Goodbye(super::Goodbye),
    }
}

/// Any frame from agent to client.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ToClient {
    /// What it carries; a body of a later version reads as `None` and is skipped.
    #[prost(oneof = "to_client::Body", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11")]
    pub body: Option<to_client::Body>,
}

/// Bodies of [`ToClient`].
pub mod to_client {
    /// What a frame to the client carries.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Body {
        /// First frame of a connection.
        #[prost(message, tag = "1")]
        Challenge(super::Challenge),
        /// The client is in.
        #[prost(message, tag = "2")]
        Welcome(super::Welcome),
        /// Answers a request.
        #[prost(message, tag = "3")]
        Response(super::Response),
        /// Stream payload.
        #[prost(message, tag = "4")]
        Data(super::Data),
        /// Grants more payload.
        #[prost(message, tag = "5")]
        Credit(super::Credit),
        /// No more payload from this side (half-close).
        #[prost(message, tag = "6")]
        End(super::End),
        /// The stream is over, both ways.
        #[prost(message, tag = "7")]
        Reset(super::Reset),
        /// Answers a ping with its number.
        #[prost(message, tag = "8")]
        Pong(super::Ping),
        /// A new connection on a subscribed port; opens an even-numbered stream.
        #[prost(message, tag = "9")]
        Incoming(super::Incoming),
        /// Something the user should know.
        #[prost(message, tag = "10")]
        Event(super::AgentEvent),
        /// Last frame: why the agent ends this link.
        #[prost(message, tag = "11")]
        Closing(super::Closing),
    }
}

/// The agent's first frame.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Challenge {
    /// 32 random bytes to be signed (see [`crate::auth`]).
    #[prost(bytes = "bytes", tag = "1")]
    pub nonce: Bytes,
    /// The highest protocol the agent speaks.
    #[prost(uint32, tag = "2")]
    pub protocol: u32,
    /// The agent's build.
    #[prost(string, tag = "3")]
    pub version: String,
}

/// The client's first frame.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Hello {
    /// The session's name.
    #[prost(string, tag = "1")]
    pub session: String,
    /// The session's public key, 32 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub public_key: Bytes,
    /// The signature of nonce and session.
    #[prost(bytes = "bytes", tag = "3")]
    pub proof: Bytes,
    /// The highest protocol the client speaks.
    #[prost(uint32, tag = "4")]
    pub protocol: u32,
    /// Who: user name on the laptop, for "who holds this port".
    #[prost(string, tag = "5")]
    pub user: String,
    /// From where: the laptop's host name.
    #[prost(string, tag = "6")]
    pub host: String,
    /// Send the target process's environment in the answer.
    #[prost(bool, tag = "7")]
    pub want_env: bool,
}

/// The agent's view of the target, sent once.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Welcome {
    /// The protocol that both use from here on.
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
    /// The target's host name (uname nodename of its UTS namespace).
    #[prost(string, tag = "2")]
    pub hostname: String,
    /// The target's environment as `NAME=value`, when asked for. Not text: values are bytes.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub env: Vec<Bytes>,
    /// User id of the target's process, as the target's user namespace shows it.
    #[prost(uint32, tag = "4")]
    pub uid: u32,
    /// Group id of the target's process.
    #[prost(uint32, tag = "5")]
    pub gid: u32,
    /// Supplementary groups of the target's process.
    #[prost(uint32, repeated, tag = "6")]
    pub groups: Vec<u32>,
    /// TCP ports on which something listens in the target's network namespace.
    #[prost(uint32, repeated, tag = "7")]
    pub listening: Vec<u32>,
    /// Mount points inside the target that are volumes: neither its root nor kernel file systems.
    #[prost(string, repeated, tag = "8")]
    pub mounts: Vec<String>,
    /// Whether the agent can take over ports.
    #[prost(bool, tag = "9")]
    pub incoming: bool,
    /// What is missing for redirecting a port; set when `incoming` is false, and when ports are held.
    #[prost(string, tag = "10")]
    pub incoming_why: String,
    /// The pod's addresses.
    #[prost(string, repeated, tag = "11")]
    pub addresses: Vec<String>,
    /// The target's working directory.
    #[prost(string, tag = "12")]
    pub cwd: String,
    /// Nameservers of the target's resolv.conf.
    #[prost(string, repeated, tag = "13")]
    pub nameservers: Vec<String>,
    /// The target process's command line, NUL-separated, for "which process gave the environment".
    #[prost(bytes = "bytes", tag = "14")]
    pub command: Bytes,
    /// Ports are not redirected but held: see [`Subscribed::held_addr`]. `incoming` is true then.
    #[prost(bool, tag = "15")]
    pub holds: bool,
}

/// A question to the agent.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    /// Unique among the link's unanswered requests.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The question.
    #[prost(oneof = "request::Op", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19")]
    pub op: Option<request::Op>,
}

/// Questions.
pub mod request {
    /// The question of a request.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Op {
        /// Look up a path, with content or listing.
        #[prost(message, tag = "2")]
        Walk(super::Walk),
        /// More of a kept file.
        #[prost(message, tag = "3")]
        Read(super::Read),
        /// More of a directory.
        #[prost(message, tag = "4")]
        List(super::List),
        /// Let go of a kept file.
        #[prost(message, tag = "5")]
        Close(super::CloseFile),
        /// Connect from the target's network.
        #[prost(message, tag = "6")]
        Connect(super::Connect),
        /// Take or watch a port.
        #[prost(message, tag = "7")]
        Subscribe(super::Subscribe),
        /// Give a port back.
        #[prost(message, tag = "8")]
        Unsubscribe(super::Unsubscribe),
        /// File system figures of a path.
        #[prost(message, tag = "9")]
        Statfs(super::Statfs),
        /// End, unless somebody else needs the agent.
        #[prost(message, tag = "10")]
        Finish(super::Finish),
        /// Open a file to keep it.
        #[prost(message, tag = "11")]
        Open(super::Open),
        /// Write to a kept file.
        #[prost(message, tag = "12")]
        Write(super::Write),
        /// Change attributes.
        #[prost(message, tag = "13")]
        SetAttributes(super::SetAttributes),
        /// Make a folder.
        #[prost(message, tag = "14")]
        MakeFolder(super::MakeFolder),
        /// Make a symbolic link.
        #[prost(message, tag = "15")]
        MakeLink(super::MakeLink),
        /// Give a file another name.
        #[prost(message, tag = "16")]
        HardLink(super::HardLink),
        /// Remove a name.
        #[prost(message, tag = "17")]
        Remove(super::Remove),
        /// Rename.
        #[prost(message, tag = "18")]
        Rename(super::Rename),
        /// Bring what was written to where it belongs.
        #[prost(message, tag = "19")]
        Sync(super::Sync),
    }
}

/// An answer of the agent.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Response {
    /// The request's id.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// 0, or why it failed. [`Walked`] carries its own.
    #[prost(int32, tag = "2")]
    pub errno: i32,
    /// For people, when an errno does not say enough.
    #[prost(string, tag = "3")]
    pub message: String,
    /// The answer; absent on failure and where success says all.
    #[prost(oneof = "response::Answer", tags = "4, 5, 6, 7, 8, 9, 10, 11")]
    pub answer: Option<response::Answer>,
}

/// Answers.
pub mod response {
    /// The answer of a response.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Answer {
        /// To a walk or an open.
        #[prost(message, tag = "4")]
        Walked(super::Walked),
        /// To a read: the bytes; fewer than asked only at the end of the file.
        #[prost(bytes = "bytes", tag = "5")]
        Content(bytes::Bytes),
        /// To a listing.
        #[prost(message, tag = "6")]
        Listed(super::Listed),
        /// To a connect.
        #[prost(message, tag = "7")]
        Connected(super::Connected),
        /// To a subscription.
        #[prost(message, tag = "8")]
        Subscribed(super::Subscribed),
        /// To a statfs.
        #[prost(message, tag = "9")]
        Figures(super::Figures),
        /// To a write.
        #[prost(message, tag = "10")]
        Written(super::Written),
        /// To what changes names or attributes.
        #[prost(message, tag = "11")]
        Changed(super::Changed),
    }
}

/// The client leaves, and the agent closes the connection. Some ways through a cluster tell of a closed connection
/// late; whoever asks next whether the agent is still needed is not to wait for that.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Goodbye {}

/// Ends the agent. Fails with EBUSY while a session is on it whose key was not let in together with the asker's, or is on
/// its way to it: the last one out ends it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Finish {}

/// Looks up an absolute path inside the target's root, following links as the target's kernel would.
///
/// One round trip for open+stat+first read, and for opendir+readdir+stat of all.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Walk {
    /// Absolute path; bytes, not text.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// Follow a symbolic link in the last place.
    #[prost(bool, tag = "2")]
    pub follow: bool,
    /// Send up to this many bytes of a regular file's content; at most [`MAX_INLINE`].
    #[prost(uint32, tag = "3")]
    pub inline: u32,
    /// Send the first batch of entries when it is a directory.
    #[prost(bool, tag = "4")]
    pub list: bool,
    /// Keep a regular file open for later [`Read`]s when its content was not sent whole.
    #[prost(bool, tag = "5")]
    pub keep: bool,
}

/// What a walk met, in order.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Walked {
    /// Each name that was looked up, links included; the last step is the result (or, with `errno`, the failure).
    #[prost(message, repeated, tag = "1")]
    pub steps: Vec<Step>,
    /// 0, or what the whole lookup fails with (ENOENT, ENOTDIR, ELOOP, EACCES …).
    #[prost(int32, tag = "2")]
    pub errno: i32,
    /// Content from the start, when asked for and regular.
    #[prost(bytes = "bytes", tag = "3")]
    pub content: Bytes,
    /// Whether `content` is the whole file.
    #[prost(bool, tag = "4")]
    pub whole: bool,
    /// A kept file's number, or 0.
    #[prost(uint64, tag = "5")]
    pub handle: u64,
    /// Entries, when asked for and a directory.
    #[prost(message, optional, tag = "6")]
    pub listed: Option<Listed>,
}

/// One name on the way.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Step {
    /// Its path from the target's root, with no links, `.` or `..` before the last name.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// What is there; absent when nothing is.
    #[prost(message, optional, tag = "2")]
    pub stat: Option<Stat>,
    /// The text of a symbolic link.
    #[prost(bytes = "bytes", tag = "3")]
    pub link: Bytes,
}

/// `struct stat`, whole.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Stat {
    /// Inode number.
    #[prost(uint64, tag = "1")]
    pub ino: u64,
    /// Device of the file system.
    #[prost(uint64, tag = "2")]
    pub dev: u64,
    /// Type and permissions.
    #[prost(uint32, tag = "3")]
    pub mode: u32,
    /// Links.
    #[prost(uint32, tag = "4")]
    pub nlink: u32,
    /// Owner, as the target's user namespace shows it.
    #[prost(uint32, tag = "5")]
    pub uid: u32,
    /// Group.
    #[prost(uint32, tag = "6")]
    pub gid: u32,
    /// Device number of a device file.
    #[prost(uint64, tag = "7")]
    pub rdev: u64,
    /// Size in bytes.
    #[prost(uint64, tag = "8")]
    pub size: u64,
    /// Preferred block size in bytes.
    #[prost(uint32, tag = "9")]
    pub blksize: u32,
    /// Blocks of 512 bytes.
    #[prost(uint64, tag = "10")]
    pub blocks: u64,
    /// Times in seconds and nanoseconds: access.
    #[prost(int64, tag = "11")]
    pub atime: i64,
    /// Nanoseconds of `atime`.
    #[prost(uint32, tag = "12")]
    pub atime_nsec: u32,
    /// Modification.
    #[prost(int64, tag = "13")]
    pub mtime: i64,
    /// Nanoseconds of `mtime`.
    #[prost(uint32, tag = "14")]
    pub mtime_nsec: u32,
    /// Change.
    #[prost(int64, tag = "15")]
    pub ctime: i64,
    /// Nanoseconds of `ctime`.
    #[prost(uint32, tag = "16")]
    pub ctime_nsec: u32,
}

/// Reads of a kept file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Read {
    /// The file's number from [`Walked`].
    #[prost(uint64, tag = "1")]
    pub handle: u64,
    /// From this byte.
    #[prost(uint64, tag = "2")]
    pub offset: u64,
    /// At most this many bytes; at most [`MAX_READ`].
    #[prost(uint32, tag = "3")]
    pub length: u32,
}

/// Asks for more entries of a directory.
#[derive(Clone, PartialEq, prost::Message)]
pub struct List {
    /// The directory, absolute.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// Where the last batch ended (`Listed.next`).
    #[prost(uint64, tag = "2")]
    pub from: u64,
}

/// A batch of entries, at most 1,024, with their stats; `.` and `..` are left out.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Listed {
    /// The entries.
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<Entry>,
    /// To be sent for the next batch; 0 at the end.
    #[prost(uint64, tag = "2")]
    pub next: u64,
}

/// One entry of a directory.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Entry {
    /// Its name.
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    /// Its stat, not followed; absent if it went away meanwhile.
    #[prost(message, optional, tag = "2")]
    pub stat: Option<Stat>,
    /// The text of a symbolic link.
    #[prost(bytes = "bytes", tag = "3")]
    pub link: Bytes,
}

/// Lets go of a kept file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CloseFile {
    /// The file's number.
    #[prost(uint64, tag = "1")]
    pub handle: u64,
}

/// Opens an odd-numbered stream to somewhere, from the target's network namespace.
///
/// UDP: a connected socket; every [`Data`] frame is one datagram and takes no credit.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Connect {
    /// The stream's number, odd, never used before on this link.
    #[prost(uint64, tag = "1")]
    pub stream: u64,
    /// Where to.
    #[prost(oneof = "connect::To", tags = "2, 3, 4, 5")]
    pub to: Option<connect::To>,
    /// Give up after this long; 0 means the kernel's own time.
    #[prost(uint32, tag = "6")]
    pub timeout_ms: u32,
}

/// Destinations.
pub mod connect {
    /// The destination of a connect.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum To {
        /// TCP: `address:port` or `[address]:port`.
        #[prost(string, tag = "2")]
        Tcp(String),
        /// UDP: the same form.
        #[prost(string, tag = "3")]
        Udp(String),
        /// A Unix stream socket by path in the target's root.
        #[prost(bytes = "bytes", tag = "4")]
        UnixPath(bytes::Bytes),
        /// A Unix stream socket by abstract name, without the leading NUL.
        #[prost(bytes = "bytes", tag = "5")]
        UnixAbstract(bytes::Bytes),
    }
}

/// A connect that worked.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Connected {
    /// The agent socket's own address in the pod.
    #[prost(string, tag = "1")]
    pub pod_addr: String,
}

/// Takes a TCP port of the target, or has its connections copied.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Subscribe {
    /// The port in the pod.
    #[prost(uint32, tag = "1")]
    pub port: u32,
    /// Whether the pod still answers.
    #[prost(enumeration = "Capture", tag = "2")]
    pub capture: i32,
    /// A regular expression on `Name: value` of HTTP/1.1 request headers, in any case; empty takes all. Sessions share a
    /// port by different ones.
    #[prost(string, tag = "3")]
    pub header_filter: String,
}

/// What becomes of a connection to a subscribed port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Capture {
    /// The debuggee answers, the pod does not see it.
    Steal = 0,
    /// The pod answers, the debuggee gets a copy.
    Mirror = 1,
}

/// A subscription that holds from now on.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Subscribed {
    /// Established connections that were there before and stay with the pod.
    #[prost(uint32, tag = "1")]
    pub established: u32,
    /// Where the agent listens in front of the port, in the target's network: only connections to there are taken.
    /// Empty when those to the port itself are. It stays as long as the agent, who passes them on when nobody has
    /// the port.
    #[prost(string, tag = "2")]
    pub held_addr: String,
}

/// Gives a port back; connections already taken go on.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Unsubscribe {
    /// The port in the pod.
    #[prost(uint32, tag = "1")]
    pub port: u32,
}

/// A connection to a subscribed port.
///
/// [`Reset`] by the client before it sent anything gives the connection to the pod instead.
///
/// Under a filter it is one request of a connection, and what follows if that changed the protocol. It is given to the
/// pod only where the reset says ECONNREFUSED: any other may come from a program that had acted on it. The agent ends
/// its side once the answer is whole.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Incoming {
    /// The stream's number, even.
    #[prost(uint64, tag = "1")]
    pub stream: u64,
    /// The subscribed port.
    #[prost(uint32, tag = "2")]
    pub port: u32,
    /// Who connected, `address:port`.
    #[prost(string, tag = "3")]
    pub peer_addr: String,
    /// What they connected to, `address:port`.
    #[prost(string, tag = "4")]
    pub pod_addr: String,
    /// A copy: what the client sends on it is dropped.
    #[prost(bool, tag = "5")]
    pub mirrored: bool,
}

/// Asks for statfs(2) of a path.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Statfs {
    /// The path, absolute.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
}

/// `struct statfs`, what is portable of it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Figures {
    /// Type of the file system (its magic).
    #[prost(uint64, tag = "1")]
    pub kind: u64,
    /// Block size in bytes.
    #[prost(uint64, tag = "2")]
    pub bsize: u64,
    /// Blocks.
    #[prost(uint64, tag = "3")]
    pub blocks: u64,
    /// Free blocks.
    #[prost(uint64, tag = "4")]
    pub bfree: u64,
    /// Free blocks for users.
    #[prost(uint64, tag = "5")]
    pub bavail: u64,
    /// Inodes.
    #[prost(uint64, tag = "6")]
    pub files: u64,
    /// Free inodes.
    #[prost(uint64, tag = "7")]
    pub ffree: u64,
    /// Longest name.
    #[prost(uint64, tag = "8")]
    pub namelen: u64,
}

/// Payload of a stream; at most [`crate::codec::MAX_CHUNK`] bytes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Data {
    /// The stream.
    #[prost(uint64, tag = "1")]
    pub stream: u64,
    /// The payload.
    #[prost(bytes = "bytes", tag = "2")]
    pub bytes: Bytes,
}

/// Grants `bytes` more payload; a fresh stream has [`crate::codec::INITIAL_CREDIT`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Credit {
    /// The stream.
    #[prost(uint64, tag = "1")]
    pub stream: u64,
    /// How many more.
    #[prost(uint32, tag = "2")]
    pub bytes: u32,
}

/// No more payload from the sender of this frame; a stream ends when both have said so.
#[derive(Clone, PartialEq, prost::Message)]
pub struct End {
    /// The stream.
    #[prost(uint64, tag = "1")]
    pub stream: u64,
}

/// The stream is over, both ways; nothing more is sent on it by either side.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Reset {
    /// The stream.
    #[prost(uint64, tag = "1")]
    pub stream: u64,
    /// Why: ECONNRESET, EPIPE …
    #[prost(int32, tag = "2")]
    pub errno: i32,
}

/// Any frame counts as a sign of life; this one is sent when there is no other for 10 s.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Ping {
    /// Given back in the pong.
    #[prost(uint64, tag = "1")]
    pub number: u64,
}

/// Something of the pod or the agent that the user should know of.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AgentEvent {
    /// A stable word: `target-exited`, `mirror-dropped`, `redirect-lost` …
    #[prost(string, tag = "1")]
    pub kind: String,
    /// One sentence.
    #[prost(string, tag = "2")]
    pub message: String,
    /// The port concerned, or 0.
    #[prost(uint32, tag = "3")]
    pub port: u32,
    /// How many, where it counts something.
    #[prost(uint64, tag = "4")]
    pub count: u64,
}

/// Why the agent ends a link.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Closing {
    /// A stable word: `unauthorized`, `protocol`, `target-exited`, `shutting-down`, `idle`.
    #[prost(string, tag = "1")]
    pub kind: String,
    /// One sentence.
    #[prost(string, tag = "2")]
    pub message: String,
}
