//! The settings, typed. Everything is optional, because "absent" often means something of its own; what holds in
//! the end is answered by the methods in [`effective`](self) terms, never by the fields alone.

mod agent;
mod effective;
mod experimental;
mod feature;
mod http_filter;
mod network;
mod proxies;
mod root;
mod target_config;

pub use agent::*;
pub use effective::*;
pub use experimental::*;
pub use feature::*;
pub use http_filter::*;
pub use network::*;
pub use proxies::*;
pub use root::*;
pub use target_config::*;
