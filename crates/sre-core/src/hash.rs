use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::canonical_json::canonical_json;

/// Hashes parts, for data that is stored or published: SipHash-1-3 with 128 bits and a key of zeros, over each part
/// preceded by its length. The hash is the same on every machine and in every version.
pub fn stable_hash(parts: &[impl AsRef<[u8]>]) -> [u8; 16] {
    let mut hasher = SipHasher13::new();
    for part in parts {
        let part = part.as_ref();
        hasher.write(&(part.len() as u64).to_le_bytes());
        hasher.write(part);
    }
    hasher.finish128().as_u128().to_be_bytes()
}

/// Returns a 128-bit id, not all zero. The same texts give the same id in every version and on every machine.
///
/// ```
/// assert_ne!(sre_core::stable_id(&["ab", "c"]), sre_core::stable_id(&["a", "bc"]));
/// ```
pub fn stable_id(parts: &[&str]) -> [u8; 16] {
    u128::from_be_bytes(stable_hash(parts)).max(1).to_be_bytes()
}

/// Returns a digest of a tool call's arguments: 32 hex digits, equal for equal JSON regardless of whitespace, the order
/// of keys and the format of numbers.
///
/// Text that is not JSON, or has more than 65,536 members, is hashed as it is. It detects repeated calls. It does not hide arguments that can be guessed.
///
/// ```
/// use sre_core::arguments_hash;
/// assert_eq!(arguments_hash(r#"{"a": 1, "b": 2}"#), arguments_hash(r#"{"b":2.0,"a":1e0}"#));
/// assert_ne!(arguments_hash("{}"), arguments_hash("[]"));
/// ```
pub fn arguments_hash(arguments: &str) -> String {
    let canonical = canonical_json(arguments);
    let hash = stable_hash(&[canonical.as_deref().unwrap_or(arguments.as_bytes())]);
    format!("{:032x}", u128::from_be_bytes(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stored hashes of earlier versions are compared with new ones, so these values must never change.
    #[test]
    fn hashes_are_those_of_every_other_version() {
        let hex = |parts: &[&[u8]]| format!("{:032x}", u128::from_be_bytes(stable_hash(parts)));
        assert_eq!(hex(&[]), "b91c5ed031fb33032134935d61d9b40d");
        assert_eq!(hex(&[b"agent", b"task-1"]), "b23b91a9e860ce294d666ca052eb0f01");
        assert_eq!(arguments_hash(r#"{"query":"weather","days":3}"#), "cf34f9fbc9902139b093f8832155a774");
        assert_eq!(arguments_hash("not json"), "1384141a8d69eda5c5586b6dcac4baaf");
    }

    #[test]
    fn parts_are_kept_apart() {
        assert_ne!(stable_hash(&["ab", "c"]), stable_hash(&["a", "bc"]));
    }

    #[test]
    fn equal_json_has_an_equal_digest() {
        let digest = arguments_hash(r#"{"a":[1,-2.5,{"x":null,"y":"é"}],"b":100}"#);
        for same in [
            r#" { "b" : 1e2 , "a" : [ 1.0 , -2.50 , { "y" : "\u00e9" , "x" : null } ] } "#,
            r#"{"b":100.0,"a":[1e0,-25e-1,{"x":null,"y":"é"}]}"#,
        ] {
            assert_eq!(arguments_hash(same), digest);
        }
        for other in [
            r#"{"a":[-2.5,1,{"x":null,"y":"é"}],"b":100}"#,
            r#"{"a":[1,-2.5,{"x":null,"y":"é"}],"b":"100"}"#,
            r#"{"a":[1,-2.5,{"x":null,"y":"é"}],"b":100.5}"#,
        ] {
            assert_ne!(arguments_hash(other), digest);
        }
        assert_ne!(arguments_hash("9007199254740993"), arguments_hash("9007199254740992"));
    }
}
