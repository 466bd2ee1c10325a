//! Takes the program's bytes from whoever connects.
//!
//! Each connection is greeted with one line and then read to exactly the size that was ordered; the first that has
//! the right hash is taken. Several may be at it at once, as a tunnel that hangs is tried again by its client; one that
//! is wrong, short or silent is dropped, and the next may come. One thread does it all.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::program::{Draft, Program};
use crate::{Order, say};

const GREETING: &[u8] = b"mirrord-ide stage0 1\n";
const TAKEN: &[u8] = b"ok\n";
/// Connections at once; more wait in the kernel.
const MAX_CLIENTS: usize = 8;
/// Whatever happens meanwhile: nobody needs longer.
const LONGEST: Duration = Duration::from_secs(600);
const CHUNK: usize = 64 << 10;

/// How it ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Taken(Program),
    NobodyCame,
}

/// One connection.
struct Client {
    stream: TcpStream,
    draft: Draft,
    hash: Sha256,
    left: u64,
    last_byte: Instant,
}

/// What one look at a connection came to.
enum Progress {
    More,
    Whole,
    Over(String),
}

/// Listens until the program is there, or nobody is to be expected any more. The listener is closed on return.
pub(crate) fn take(order: &Order) -> io::Result<Outcome> {
    let listener = TcpListener::bind(order.listen)?;
    listener.set_nonblocking(true)?;
    let (start, mut last_byte, mut number) = (Instant::now(), Instant::now(), 0);
    let mut clients: Vec<Client> = Vec::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        let now = Instant::now();
        if now - last_byte >= order.patience || now - start >= LONGEST {
            return Ok(Outcome::NobodyCame);
        }
        let mut polled: Vec<libc::pollfd> = clients.iter().map(|client| readable(&client.stream)).collect();
        if clients.len() < MAX_CLIENTS {
            polled.push(readable(&listener));
        }
        wait(&mut polled, Duration::from_millis(500))?;
        for at in (0..clients.len()).rev() {
            let client = &mut clients[at];
            let received = client.left;
            let progress = match polled[at].revents {
                0 if client.last_byte.elapsed() < order.stall => Progress::More,
                0 => Progress::Over("it fell silent".into()),
                _ => client.read(&mut buffer),
            };
            if client.left < received {
                last_byte = Instant::now();
            }
            let why = match progress {
                Progress::More => continue,
                Progress::Over(why) => why,
                Progress::Whole => match finish(clients.swap_remove(at), order) {
                    Ok((program, mut stream)) => {
                        // Who hears of it connects to the agent next, and must not end in the queue of this listener.
                        drop(listener);
                        // It may be gone already; what it brought is good all the same.
                        drop(stream.write_all(TAKEN));
                        return Ok(Outcome::Taken(program));
                    }
                    Err(why) => {
                        say(&["an upload is dropped: ", &why]);
                        continue;
                    }
                },
            };
            drop_client(clients.swap_remove(at), &why);
        }
        if clients.len() < MAX_CLIENTS {
            number += 1;
            clients.extend(accept(&listener, order, number));
        }
    }
}

fn accept(listener: &TcpListener, order: &Order, number: u64) -> Option<Client> {
    let greeted = listener.accept().and_then(|(mut stream, _)| {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        stream.write_all(GREETING)?;
        let draft = Draft::new(&order.to, number)?;
        Ok(Client { stream, draft, hash: Sha256::new(), left: order.size, last_byte: Instant::now() })
    });
    match greeted {
        Ok(client) => Some(client),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) => {
            say(&["cannot take a connection: ", &error.to_string()]);
            None
        }
    }
}

impl Client {
    fn read(&mut self, buffer: &mut [u8]) -> Progress {
        // What comes beyond the size is left unread.
        let room = self.left.min(buffer.len() as u64) as usize;
        match self.stream.read(&mut buffer[..room]) {
            Ok(0) => Progress::Over("it ended too early".into()),
            Ok(count) => {
                self.last_byte = Instant::now();
                self.left -= count as u64;
                self.hash.update(&buffer[..count]);
                match self.draft.write(&buffer[..count]) {
                    Ok(()) if self.left == 0 => Progress::Whole,
                    Ok(()) => Progress::More,
                    Err(error) => Progress::Over(["it cannot be kept: ", &error.to_string()].concat()),
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Progress::More
            }
            Err(error) => Progress::Over(error.to_string()),
        }
    }
}

fn finish(client: Client, order: &Order) -> Result<(Program, TcpStream), String> {
    let Client { mut stream, draft, hash, .. } = client;
    let outcome = if hash.finalize().as_slice() == order.sha256.as_slice() {
        draft.finish().map_err(|error| ["it cannot be kept: ", &error.to_string()].concat())
    } else {
        drop(draft);
        Err("its SHA-256 is not the one ordered".to_owned())
    };
    match outcome {
        Ok(program) => Ok((program, stream)),
        Err(why) => {
            tell(&mut stream, &why);
            Err(why)
        }
    }
}

fn drop_client(client: Client, why: &str) {
    say(&["an upload is dropped: ", why]);
    let Client { mut stream, draft, .. } = client;
    // Before its client can know of it.
    drop(draft);
    tell(&mut stream, why);
}

fn tell(stream: &mut TcpStream, why: &str) {
    // It may be gone, which is why it is dropped.
    let _ = stream.write_all(["error: ", why, "\n"].concat().as_bytes());
}

fn readable(socket: &impl AsRawFd) -> libc::pollfd {
    libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 }
}

fn wait(polled: &mut [libc::pollfd], at_most: Duration) -> io::Result<()> {
    let timeout = at_most.as_millis() as libc::c_int;
    // SAFETY: the slice is ours, as long as we say, and lives until the call returns.
    let outcome = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, timeout) };
    let error = io::Error::last_os_error();
    if outcome < 0 && error.kind() != io::ErrorKind::Interrupted { Err(error) } else { Ok(()) }
}
