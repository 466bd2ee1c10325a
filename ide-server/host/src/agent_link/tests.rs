//! Tests against a peer that speaks the wire.
