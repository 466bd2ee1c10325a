//! Whose a TCP connection over loopback is: a debugger runs code for whoever speaks to it.

use session_host::sockets::table::Row;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// Whether this user made the connection. One that does not come over loopback was let in by who chose the address.
pub(super) fn is_ours(stream: &TcpStream) -> bool {
    let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else { return false };
    if !peer.ip().to_canonical().is_loopback() {
        return true;
    }
    let me = nix::unistd::geteuid().as_raw();
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .any(|table| owner(&table, peer, local) == Some(me))
}

/// The user whose socket has the address `ours` and is connected to `theirs`.
fn owner(table: &str, ours: SocketAddr, theirs: SocketAddr) -> Option<u32> {
    let plain = |addr: SocketAddr| (addr.ip().to_canonical(), addr.port());
    let fits = |row: &Row| plain(row.local) == plain(ours) && plain(row.remote) == plain(theirs);
    table.lines().filter_map(Row::read).find(fits).map(|row| row.uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 1
   1: 0100007F:C350 0100007F:1F90 01 00000000:00000000 00:00000000 00000000    33        0 2
";

    #[test]
    fn the_owner_is_that_of_the_other_end() {
        let (server, client) = ("127.0.0.1:8080".parse().unwrap(), "127.0.0.1:50000".parse().unwrap());
        assert_eq!(owner(TABLE, client, server), Some(33));
        assert_eq!(owner(TABLE, "[::ffff:127.0.0.1]:50000".parse().unwrap(), server), Some(33));
        assert_eq!(owner(TABLE, "127.0.0.1:50001".parse().unwrap(), server), None);
        let mapped = TABLE.replace("0100007F:", "0000000000000000FFFF00000100007F:");
        assert_eq!(owner(&mapped, client, server), Some(33));
    }

    #[tokio::test]
    async fn a_connection_of_this_process_is_ours() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        assert!(is_ours(&listener.accept().await.unwrap().0));
    }
}
