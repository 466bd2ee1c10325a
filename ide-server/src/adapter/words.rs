//! What dlv's command line says about where its client is, and what the holder's own dlv is started with.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The word by which dlv dials its client, without the address.
pub(super) const CLIENT: &str = "--client-addr=";

/// How the editor and an adapter's front find each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// Standard input and output.
    Stdio,
    /// The front listens at this address.
    Listen(String),
    /// The front dials this address.
    Dial(String),
}

/// dlv's words without those about its client; where that is, and the descriptor of its log if it has one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dlv {
    pub(super) words: Vec<OsString>,
    pub(super) door: Door,
    pub(super) log: Option<i32>,
}

/// Reads dlv's words. As in dlv itself the last word of a kind counts.
pub(super) fn dlv(words: &[OsString]) -> Dlv {
    let mut read = Dlv { words: Vec::new(), door: Door::Listen("127.0.0.1:0".to_owned()), log: None };
    let mut rest = words.iter();
    let mut dials = None;
    while let Some(word) = rest.next() {
        let mut value = |names: &[&str]| {
            names.iter().find_map(|name| {
                if word == name {
                    return rest.next().cloned();
                }
                let after = word.as_bytes().strip_prefix(name.as_bytes())?;
                Some(OsStr::from_bytes(after.strip_prefix(b"=")?).to_owned())
            })
        };
        if let Some(address) = value(&["--listen", "-l"]) {
            read.door = Door::Listen(address.to_string_lossy().into_owned());
        } else if let Some(address) = value(&["--client-addr"]) {
            dials = Some(address.to_string_lossy().into_owned());
        } else if let Some(place) = value(&["--log-dest"]) {
            read.log = place.to_str().and_then(|text| text.parse().ok()).filter(|number| *number > 2);
            read.words.push(joined("--log-dest=", place));
        } else {
            read.words.push(word.clone());
        }
    }
    if let Some(address) = dials {
        read.door = Door::Dial(address);
    }
    read
}

fn joined(name: &str, value: OsString) -> OsString {
    OsString::from_vec([name.as_bytes(), &value.into_vec()].concat())
}

/// An address as Go writes it: without a host it is this machine's.
pub(super) fn address(text: &str) -> String {
    if text.starts_with(':') { format!("127.0.0.1{text}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> (Vec<String>, Door, Option<i32>) {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let Dlv { words, door, log } = dlv(&words);
        (words.into_iter().map(|word| word.into_string().unwrap()).collect(), door, log)
    }

    #[test]
    fn what_dlv_is_told_of_its_client_is_the_fronts() {
        let listen = |address: &str| Door::Listen(address.to_owned());
        for (words, left, door, log) in [
            (vec!["/x/dlv", "dap"], vec!["/x/dlv", "dap"], listen("127.0.0.1:0"), None),
            (
                vec!["/x/dlv", "dap", "--listen=127.0.0.1:81", "--log-dest=3", "--log"],
                vec!["/x/dlv", "dap", "--log-dest=3", "--log"],
                listen("127.0.0.1:81"),
                Some(3),
            ),
            (
                vec!["dlv", "dap", "-l", "[::1]:2", "--check-go-version=false"],
                vec!["dlv", "dap", "--check-go-version=false"],
                listen("[::1]:2"),
                None,
            ),
            (
                vec!["dlv", "dap", "--log-dest", "/tmp/log", "--client-addr=:99"],
                vec!["dlv", "dap", "--log-dest=/tmp/log"],
                Door::Dial(":99".to_owned()),
                None,
            ),
            (
                vec!["dlv", "dap", "--log-dest=1"],
                vec!["dlv", "dap", "--log-dest=1"],
                listen("127.0.0.1:0"),
                None,
            ),
        ] {
            let left: Vec<String> = left.into_iter().map(str::to_owned).collect();
            assert_eq!(read(&words), (left, door, log));
        }
        assert_eq!(address(":99"), "127.0.0.1:99");
        assert_eq!(address("localhost:99"), "localhost:99");
    }
}
