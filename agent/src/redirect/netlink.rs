//! Just enough of netlink to speak to nf_tables: messages built by hand, one transaction a batch.
//!
//! The kernel handles a batch while it is being sent, so its answers are there when `sendto` returns: nothing here
//! waits.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NESTED: u16 = 0x8000;

/// A message of the nf_tables subsystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Verb {
    NewTable = 0,
    DeleteTable = 2,
    NewChain = 3,
    NewRule = 6,
    DeleteRule = 8,
}

/// What is asked of the kernel at once: all of it comes true, or nothing.
#[derive(Debug)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    sequence: u32,
    family: u8,
}

/// The kernel's refusal of one message of a batch.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Which message, counted from 0.
    pub(super) message: usize,
    pub(super) source: io::Error,
}

impl Batch {
    /// An empty batch for tables of a protocol family.
    pub(super) fn new(family: u8) -> Self {
        let mut batch = Self { bytes: Vec::new(), sequence: 0, family };
        batch.header(BATCH_BEGIN, 0, 0, SUBSYSTEM);
        batch.close(0);
        batch
    }

    /// Adds a message; `fill` writes its attributes.
    pub(super) fn message(&mut self, verb: Verb, fill: impl FnOnce(&mut Attributes<'_>)) {
        self.sequence += 1;
        let start = self.bytes.len();
        let flags = match verb {
            Verb::NewTable | Verb::NewChain | Verb::NewRule => libc::NLM_F_CREATE | libc::NLM_F_APPEND,
            Verb::DeleteTable | Verb::DeleteRule => 0,
        };
        self.header(SUBSYSTEM << 8 | verb as u16, (flags | libc::NLM_F_ACK) as u16, self.family, 0);
        fill(&mut Attributes(&mut self.bytes));
        self.close(start);
    }

    fn header(&mut self, kind: u16, flags: u16, family: u8, resource: u16) {
        // struct nlmsghdr, its length to be filled in, then struct nfgenmsg.
        self.bytes.extend(0_u32.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
        self.bytes.extend(self.sequence.to_ne_bytes());
        self.bytes.extend(0_u32.to_ne_bytes());
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
    }

    fn close(&mut self, start: usize) {
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// The bytes that make it come true, for whoever sends them without us.
    pub(super) fn whole(mut self) -> Vec<u8> {
        self.commit();
        self.bytes
    }

    fn commit(&mut self) {
        let start = self.bytes.len();
        self.header(BATCH_END, 0, 0, SUBSYSTEM);
        self.close(start);
    }
}

/// Attributes under construction: type, length, value, padded to four bytes.
pub(super) struct Attributes<'a>(&'a mut Vec<u8>);

impl Attributes<'_> {
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.0.extend((4 + value.len() as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// nf_tables has its numbers in network order.
    pub(super) fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(super) fn text(&mut self, kind: u16, value: &str) {
        self.bytes(kind, &[value.as_bytes(), b"\0"].concat());
    }

    pub(super) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend((kind | NESTED).to_ne_bytes());
        fill(&mut Attributes(self.0));
        let length = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }
}

/// A netlink socket; tables with an owner live as long as it is open.
#[derive(Debug)]
pub(super) struct Socket(OwnedFd);

impl Socket {
    pub(super) fn open() -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: socket(2) takes integers only.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_NETFILTER) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Makes a batch come true.
    pub(super) fn commit(&self, mut batch: Batch) -> Result<(), Refusal> {
        batch.commit();
        self.send(&batch)
    }

    /// Has the kernel check a batch without making it come true: one without an end is checked and undone.
    pub(super) fn check(&self, batch: &Batch) -> Result<(), Refusal> {
        self.send(batch)
    }

    /// Throws away what is left of the answers to a batch that was refused.
    fn drain(&self) {
        let mut buffer = [0_u8; 4096];
        // SAFETY: `buffer` has the length given and lives through the call.
        while unsafe {
            libc::recv(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
        } > 0
        {}
    }

    fn send(&self, batch: &Batch) -> Result<(), Refusal> {
        self.drain();
        let failed = |source| Refusal { message: 0, source };
        // SAFETY: all-zero is a value of this plain structure: the kernel's own address.
        let mut kernel: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        kernel.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        // SAFETY: both buffers have the lengths given and live through the call, which only reads them.
        let sent = unsafe {
            libc::sendto(
                self.0.as_raw_fd(),
                batch.bytes.as_ptr().cast(),
                batch.bytes.len(),
                0,
                (&raw const kernel).cast(),
                size_of::<libc::sockaddr_nl>() as libc::socklen_t,
            )
        };
        if sent < 0 {
            return Err(failed(io::Error::last_os_error()));
        }
        let mut unanswered = batch.sequence as usize;
        let mut refusal: Option<Refusal> = None;
        let mut buffer = vec![0_u8; 16 << 10];
        while unanswered > 0 {
            // SAFETY: `buffer` has the length given and lives through the call.
            let length = unsafe {
                libc::recv(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
            };
            if length < 0 {
                let error = io::Error::last_os_error();
                if refusal.is_some() && error.kind() == io::ErrorKind::WouldBlock {
                    break;
                }
                return Err(failed(error));
            }
            for answer in answers(&buffer[..length as usize]) {
                unanswered = unanswered.saturating_sub(1);
                if answer.errno != 0 && refusal.is_none() {
                    let source = io::Error::from_raw_os_error(answer.errno);
                    refusal = Some(Refusal { message: (answer.sequence as usize).saturating_sub(1), source });
                }
            }
            // The whole batch was refused (as for a missing capability): there is one answer only.
            if refusal.as_ref().is_some_and(|refusal| refusal.source.raw_os_error() == Some(libc::EPERM)) {
                break;
            }
        }
        refusal.map_or(Ok(()), Err)
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    sequence: u32,
    errno: i32,
}

/// The acknowledgements and errors in what the kernel sent.
fn answers(mut bytes: &[u8]) -> Vec<Answer> {
    const HEADER: usize = 16;
    let word = |bytes: &[u8], at: usize| -> Option<u32> {
        Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
    };
    let mut found = Vec::new();
    while let (Some(length), Some(kind)) = (word(bytes, 0), bytes.get(4..6)) {
        let length = length as usize;
        if kind == (libc::NLMSG_ERROR as u16).to_ne_bytes()
            && let (Some(sequence), Some(errno)) = (word(bytes, 8), word(bytes, HEADER))
        {
            found.push(Answer { sequence, errno: (errno as i32).wrapping_neg() });
        }
        let next = length.max(HEADER).next_multiple_of(4);
        bytes = bytes.get(next..).unwrap_or_default();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_laid_out_as_the_kernel_reads_them() {
        let mut batch = Batch::new(1);
        batch.message(Verb::NewTable, |table| {
            table.text(1, "ab");
            table.nested(4, |inner| inner.number(2, 0x0102_0304));
        });
        let header = 20;
        let message = &batch.bytes[header..];
        assert_eq!(message[..4], 40_u32.to_ne_bytes());
        assert_eq!(message[4..6], 0x0a00_u16.to_ne_bytes());
        assert_eq!(message[8..12], 1_u32.to_ne_bytes());
        assert_eq!(message[16..20], [1, 0, 0, 0]);
        // The text with its NUL is 3 bytes; one of padding is not part of the length.
        assert_eq!(message[20..22], 7_u16.to_ne_bytes());
        assert_eq!(message[24..28], *b"ab\0\0");
        assert_eq!(message[28..30], 12_u16.to_ne_bytes());
        assert_eq!(message[30..32], (4 | NESTED).to_ne_bytes());
        assert_eq!(message[36..40], [1, 2, 3, 4]);
        assert_eq!(message.len(), 40);
    }

    #[test]
    fn acknowledgements_and_errors_are_told_apart() {
        let mut bytes = Vec::new();
        for (sequence, errno) in [(1_u32, 0_i32), (2, -libc::EEXIST)] {
            bytes.extend(36_u32.to_ne_bytes());
            bytes.extend((libc::NLMSG_ERROR as u16).to_ne_bytes());
            bytes.extend([0; 2]);
            bytes.extend(sequence.to_ne_bytes());
            bytes.extend([0; 4]);
            bytes.extend(errno.to_ne_bytes());
            bytes.extend([0; 16]);
        }
        let expected = [Answer { sequence: 1, errno: 0 }, Answer { sequence: 2, errno: libc::EEXIST }];
        assert_eq!(answers(&bytes), expected);
        assert_eq!(answers(&bytes[..7]), []);
    }
}
