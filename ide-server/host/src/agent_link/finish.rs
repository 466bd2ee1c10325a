//! Asks an agent to end, for whoever keeps agents.

use super::cluster::Clusters;
use super::connection::{Connection, Outlets, Patience, REQUEST_DEADLINE, Writes};
use super::error::LinkError;
use super::handshake::Identity;
use super::{EVENTS, INCOMING, reach};
use nix::errno::Errno;
use protocol::agent::{Finish, request};
use protocol::auth::SecretKey;
use protocol::host::Endpoint;
use tokio::sync::mpsc;

/// What an agent makes of being asked to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finished {
    /// It ends.
    Ends,
    /// It stays: somebody else needs it. Its own words.
    Stays(String),
}

/// Asks the agent to end unless somebody else needs it.
///
/// # Errors
/// It cannot be reached, does not know the key, or does not answer. What it makes of the question is then unknown.
pub async fn finish(endpoint: &Endpoint, key: &SecretKey) -> Result<Finished, LinkError> {
    let identity = Identity::new("finish", key.clone());
    let (shaken, _) = reach(endpoint, &mut Clusters::default(), &identity, false).await?;
    let (incoming, _nobody) = mpsc::channel(INCOMING);
    let outlets = Outlets::new(incoming, EVENTS);
    let connection = Connection::start(1, shaken, outlets, Patience::default());
    let asked = connection.request(request::Op::Finish(Finish {}), REQUEST_DEADLINE, Writes::Writer).await;
    connection.say_goodbye().await;
    connection.lose("all is said");
    let answer = asked?;
    match answer.errno {
        0 => Ok(Finished::Ends),
        errno if errno == Errno::EBUSY as i32 => Ok(Finished::Stays(answer.message)),
        _ => Err(LinkError::Protocol { detail: format!("it does not end when asked: {}", answer.message) }),
    }
}
