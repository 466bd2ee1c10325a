//! Incoming traffic of the target: ports taken over or watched.
use std::sync::Arc;

use nix::errno::Errno;
use protocol::agent::{Subscribe, Subscribed, Unsubscribe};

use crate::link::Link;
use crate::link::requests::Failure;

/// The ports that sessions have taken.
#[derive(Debug)]
pub(crate) struct Traffic {}

impl Traffic {
    pub(crate) fn new(_has_target: bool) -> Arc<Self> {
        Arc::new(Self {})
    }
    pub(crate) async fn probe(&self) {}
    pub(crate) fn missing(&self) -> Option<String> {
        Some("this agent does not take over ports yet".to_owned())
    }
    pub(crate) async fn subscribe(&self, _link: &Arc<Link>, _ask: &Subscribe) -> Result<Subscribed, Failure> {
        Err(Failure { errno: Errno::ENOTSUP, message: self.missing().unwrap_or_default() })
    }
    pub(crate) async fn unsubscribe(&self, _link: &Arc<Link>, _ask: &Unsubscribe) -> Result<(), Failure> {
        Err(Failure { errno: Errno::ENOTSUP, message: self.missing().unwrap_or_default() })
    }
    pub(crate) fn leave(&self, _link: &Arc<Link>) {}
    pub(crate) async fn drained(&self) {}
    pub(crate) async fn end(&self) {}
}
