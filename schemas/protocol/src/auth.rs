//! Proof that a client may speak to an agent: an Ed25519 key pair a session (RFC 8032).
//!
//! The pod's spec and everything else that can be read of an agent holds public keys only. The agent opens each
//! connection with a nonce; the client signs it together with its session's name.

use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};

const CONTEXT: &[u8] = b"mirrord-ide agent link v1\0";

/// A session's private key: 32 bytes of a good random source. Never logged, never written outside the state folder.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct SecretKey([u8; 32]);

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// A session's public key, written as 64 hexadecimal digits on an agent's command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl SecretKey {
    /// Makes a key from random bytes of the caller's.
    pub fn from_random(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(SigningKey::from_bytes(&self.0).verifying_key().to_bytes())
    }

    /// Signs an agent's `nonce` for `session`.
    pub fn prove(&self, nonce: &[u8], session: &str) -> Vec<u8> {
        SigningKey::from_bytes(&self.0).sign(&statement(nonce, session)).to_bytes().to_vec()
    }
}

impl PublicKey {
    /// Reads a key as a message carries it; `None` unless it is 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The 32 bytes of the key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether `proof` was made by the holder of the private half for this `nonce` and `session`.
    pub fn verifies(&self, nonce: &[u8], session: &str, proof: &[u8]) -> bool {
        let Ok(key) = VerifyingKey::from_bytes(&self.0) else { return false };
        let Ok(signature) = Signature::from_slice(proof) else { return false };
        key.verify(&statement(nonce, session), &signature).is_ok()
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::str::FromStr for PublicKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("a public key is 64 hexadecimal digits, not {text:?}");
        if text.len() != 64 || !text.is_ascii() {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

fn statement(nonce: &[u8], session: &str) -> Vec<u8> {
    [CONTEXT, &(nonce.len() as u32).to_be_bytes(), nonce, session.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_private_half_proves_and_only_for_its_nonce_and_session() {
        let key = SecretKey::from_random([7; 32]);
        let proof = key.prove(b"nonce", "s1");
        assert!(key.public().verifies(b"nonce", "s1", &proof));
        assert!(!key.public().verifies(b"other", "s1", &proof));
        assert!(!key.public().verifies(b"nonce", "s2", &proof));
        assert!(!SecretKey::from_random([8; 32]).public().verifies(b"nonce", "s1", &proof));
        assert!(!key.public().verifies(b"nonce", "s1", &proof[..63]));
    }

    #[test]
    fn a_public_key_reads_back_from_its_text_and_a_secret_key_never_prints() {
        let key = SecretKey::from_random([9; 32]);
        assert_eq!(key.public().to_string().parse(), Ok(key.public()));
        assert!("zz".repeat(32).parse::<PublicKey>().is_err());
        assert_eq!(format!("{key:?}"), "SecretKey(..)");
    }
}
