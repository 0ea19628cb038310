use std::fmt;

use data_encoding::HEXLOWER_PERMISSIVE;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Who may do what. The token itself is kept nowhere: only its SHA-256 is.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Whose it is, for logs.
    pub name: String,
    /// What it is good for.
    pub scope: Scope,
    /// The digest of the token.
    pub sha256: [u8; 32],
}

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Sending events.
    Ingest,
    /// Reading, and asking whether a deploy may go on.
    Read,
}

impl Scope {
    /// The name in files and commands.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Read => "read",
        }
    }

    /// The scope of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Ingest, Self::Read].into_iter().find(|scope| scope.as_str() == name)
    }
}

impl Token {
    /// A new token, to be told to its owner once, and its digest, to be written into the settings. It has 256 bits from the
    /// system's source of randomness.
    pub fn generate() -> std::io::Result<(String, String)> {
        use std::io::Read as _;
        let mut secret = [0; 32];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut secret)?;
        let token = format!("sre_{}", HEXLOWER_PERMISSIVE.encode(&secret));
        let digest = HEXLOWER_PERMISSIVE.encode(&Self::hash(&token));
        Ok((token, digest))
    }

    pub(crate) fn hash_from_hex(text: &str) -> Option<[u8; 32]> {
        HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?.try_into().ok()
    }

    fn hash(token: &str) -> [u8; 32] {
        Sha256::digest(token.as_bytes()).into()
    }

    /// The one of `tokens` that this is, found in a time that says nothing about them.
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
    fn a_token_is_known_by_its_digest() {
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
