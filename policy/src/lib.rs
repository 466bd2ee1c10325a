//! Which world answers a path: the pod, this machine, or nobody.
//!
//! The session host builds a [`PathTable`] from the session's plan and hands its bytes to the preload layer in an
//! environment variable. Both decide by the same [`PathView`] over those bytes, so they cannot disagree. Deciding
//! never allocates, never locks and never panics: the layer does it inside any libc call of any program.
//!
//! A path is decided by its text alone, after [`normalize`]; what links mean is left to the kernel that walks it.

#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

mod normal;
#[cfg(feature = "std")]
mod table;
mod text;
mod view;

pub use normal::normalize;
#[cfg(feature = "std")]
pub use table::{PathTable, TableError};
pub use text::from_text;
#[cfg(feature = "std")]
pub use text::to_text;
pub use view::{PathView, RuleKind, Verdict};
