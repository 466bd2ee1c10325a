//! What front and holder say to each other: frames of a length, a kind and a body, on a socket in the plan's folder.
//!
//! Both are of one machine and one user, and of one installation unless that was replaced between: the first frame
//! tells the version.

use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The version that must be the same on both sides.
pub(super) const VERSION: u32 = 1;
/// The longest body.
const MAX_BODY: usize = 1 << 28;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// [`Hello`], the first one of who connects.
    Hello = 1,
    /// [`Welcome`], the answer to it.
    Welcome = 2,
    /// Bytes of the debug adapter protocol, both ways.
    Dap = 3,
    /// What the adapter wrote to standard output, where that is not the protocol's.
    Stdout = 4,
    /// What it wrote to standard error.
    Stderr = 5,
    /// What it wrote to the descriptor of its log.
    Log = 6,
    /// The status that the front ends with: one `i32`.
    Exit = 7,
    /// What was typed into a terminal.
    Input = 8,
    /// A terminal's rows and columns: two `u16`.
    Size = 9,
    /// The adapter can be spoken to.
    Ready = 10,
}

impl Kind {
    fn of(number: u8) -> Option<Self> {
        use Kind::{Dap, Exit, Hello, Input, Log, Ready, Size, Stderr, Stdout, Welcome};
        [Hello, Welcome, Dap, Stdout, Stderr, Log, Exit, Input, Size, Ready]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }
}

/// Who connects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// [`VERSION`].
    pub(super) version: u32,
    /// What for.
    pub(super) role: Role,
}

/// What a front is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Role {
    /// The editor's way to the adapter.
    Adapter,
    /// A terminal of the editor's.
    Terminal {
        /// Which of the holder's it shows.
        number: u32,
        /// What runs in it, if that does not run yet.
        start: Option<Start>,
    },
}

/// A program for a terminal, as it would run there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) words: Vec<OsString>,
    pub(super) folder: OsString,
    pub(super) env: Vec<(OsString, OsString)>,
}

/// What comes of connecting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Welcome {
    /// The adapter, or the terminal's program, is there.
    Joined,
    /// What was here is ending; its end is the end of this connection.
    Ending,
    /// The other side is of another installation.
    OtherVersion,
}

/// A frame's bytes.
pub(super) fn frame(kind: Kind, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(body.len() + 5);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.push(kind as u8);
    bytes.extend_from_slice(body);
    bytes
}

/// A frame with a body of JSON.
pub(super) fn json_frame(kind: Kind, body: &impl Serialize) -> io::Result<Vec<u8>> {
    Ok(frame(kind, &serde_json::to_vec(body)?))
}

/// The next frame; `None` at the end.
pub(super) async fn read<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<Option<(Kind, Vec<u8>)>> {
    let mut head = [0; 5];
    match reader.read_exact(&mut head).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let [a, b, c, d, kind] = head;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    let invalid = |message| io::Error::new(io::ErrorKind::InvalidData, message);
    if length > MAX_BODY {
        return Err(invalid("a frame is too long"));
    }
    let kind = Kind::of(kind).ok_or_else(|| invalid("a frame of no known kind"))?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await?;
    Ok(Some((kind, body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_come_out_as_they_went_in_and_nonsense_is_an_error() {
        let hello = Hello {
            version: VERSION,
            role: Role::Terminal {
                number: 3,
                start: Some(Start { words: vec!["a b".into()], folder: "/".into(), env: vec![] }),
            },
        };
        let mut bytes = json_frame(Kind::Hello, &hello).unwrap();
        bytes.extend(frame(Kind::Exit, &7_i32.to_le_bytes()));
        let mut reader = bytes.as_slice();
        let (kind, body) = read(&mut reader).await.unwrap().unwrap();
        assert_eq!((kind, serde_json::from_slice::<Hello>(&body).unwrap()), (Kind::Hello, hello));
        assert_eq!(read(&mut reader).await.unwrap(), Some((Kind::Exit, vec![7, 0, 0, 0])));
        assert_eq!(read(&mut reader).await.unwrap(), None);
        assert!(read(&mut [1, 0, 0, 0, 99, 0].as_slice()).await.is_err());
        assert!(read(&mut [255, 255, 255, 255, 3].as_slice()).await.is_err());
    }
}
