use std::fmt;

use data_encoding::HEXLOWER_PERMISSIVE;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// A bearer token and its scope. Only the SHA-256 digest of the token is kept.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Token {
    /// The owner, for logs.
    pub name: String,
    /// What the token allows.
    pub scope: Scope,
    /// The SHA-256 digest of the token.
    pub sha256: [u8; 32],
}

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scope {
    /// Sending events.
    Ingest,
    /// Reading, and asking whether a deploy is allowed.
    Read,
}

impl Scope {
    /// Returns the name in files and commands.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Read => "read",
        }
    }

    /// Returns the scope with this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Ingest, Self::Read].into_iter().find(|scope| scope.as_str() == name)
    }
}

impl Token {
    /// What every token begins with.
    pub(crate) const PREFIX: &str = "sre_";

    /// Creates a token of `name` from its digest.
    pub fn new(name: impl Into<String>, scope: Scope, sha256: [u8; 32]) -> Self {
        Self { name: name.into(), scope, sha256 }
    }

    /// Generates a token, for its owner, and its digest, for the settings. The token has 256 bits from the system's random number
    /// generator.
    ///
    /// # Errors
    ///
    /// Returns an error if the random number generator cannot be read.
    pub fn generate() -> std::io::Result<(String, String)> {
        use std::io::Read as _;
        let mut secret = [0; 32];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut secret)?;
        let token = format!("{}{}", Self::PREFIX, HEXLOWER_PERMISSIVE.encode(&secret));
        let digest = HEXLOWER_PERMISSIVE.encode(&Self::hash(&token));
        Ok((token, digest))
    }

    pub(crate) fn hash_from_hex(text: &str) -> Option<[u8; 32]> {
        HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?.try_into().ok()
    }

    fn hash(token: &str) -> [u8; 32] {
        Sha256::digest(token.as_bytes()).into()
    }

    /// Returns the entry of `tokens` that matches, in a time that does not depend on their digests.
    pub(crate) fn find<'a>(tokens: &'a [Self], presented: &str) -> Option<&'a Self> {
        let digest = Self::hash(presented);
        tokens.iter().fold(None, |found, token| if token.sha256.ct_eq(&digest).into() { Some(token) } else { found })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("name", &self.name).field("scope", &self.scope).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_by_its_digest() {
        let (secret, digest) = Token::generate().unwrap();
        let sha256 = Token::hash_from_hex(&digest).unwrap();
        let tokens = [
            Token { name: "other".into(), scope: Scope::Read, sha256: [0; 32] },
            Token { name: "mine".into(), scope: Scope::Ingest, sha256 },
        ];
        assert_eq!(Token::find(&tokens, &secret).map(|token| token.name.as_str()), Some("mine"));
        assert_eq!(Token::find(&tokens, "sre_00"), None);
        assert_ne!(Token::generate().unwrap().0, secret);
        assert!(!format!("{tokens:?}").contains(&digest[..8]));
        for text in ["", "00", "zz", &"é".repeat(32), &"+f".repeat(32)] {
            assert_eq!(Token::hash_from_hex(text), None);
        }
    }
}
