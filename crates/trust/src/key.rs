//! Public keys as TUF metadata writes them (4.2): read, named and asked whether they made a signature, by `ring`.
//!
//! Accepted is what `tough` accepts: what the specification says and the two ways in which others depart from it, ECDSA
//! keys in hex (go-tuf) and under their old key type. `crate::beside_tough` holds us to it.

use olpc_cjson::CanonicalFormatter;
use ring::digest::{SHA256, digest};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use serde::Serialize as _;
use serde_json::Value;

/// AlgorithmIdentifiers (RFC 8410, RFC 5480, RFC 8017), without their outermost tag and length.
const ED25519_ID: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
const P256_ID: &[u8] =
    &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const RSA_ID: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// SHA-256 of a key's canonical JSON.
pub(crate) type KeyId = [u8; 32];

/// A key that can be checked against.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    /// The true id, whatever the metadata lists the key under.
    pub(crate) id: KeyId,
    public: UnparsedPublicKey<Vec<u8>>,
}

impl Key {
    /// Reads a key; `None` for a type or scheme that we do not know. Its bytes may still be no key at all: then no
    /// signature verifies.
    pub(crate) fn read(key: &Value) -> Option<Key> {
        let public = key["keyval"]["public"].as_str()?;
        let algorithm: &'static dyn VerificationAlgorithm;
        let bytes = match (key["keytype"].as_str()?, key["scheme"].as_str()?) {
            ("ed25519", "ed25519") => {
                algorithm = &ED25519;
                from_hex(public, ED25519_ID)?
            }
            ("ecdsa" | "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256") => {
                algorithm = &ECDSA_P256_SHA256_ASN1;
                if public.starts_with("-----BEGIN ") { from_pem(public, P256_ID)? } else { from_hex(public, P256_ID)? }
            }
            ("rsa", "rsassa-pss-sha256") => {
                algorithm = &RSA_PSS_2048_8192_SHA256;
                from_pem(public, RSA_ID)?
            }
            _ => return None,
        };
        // Fields that we do not know are part of what the id stands for.
        Some(Key { id: sha256(&canonical(key).ok()?), public: UnparsedPublicKey::new(algorithm, bytes) })
    }

    /// Whether this key made the signature.
    pub(crate) fn made(&self, signature: &[u8], message: &[u8]) -> bool {
        self.public.verify(message, signature).is_ok()
    }
}

/// The JSON that signatures and ids are made over.
pub(crate) fn canonical(value: &Value) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, CanonicalFormatter::new()))?;
    Ok(bytes)
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// The key itself, or wrapped.
fn from_hex(text: &str, algorithm: &[u8]) -> Option<Vec<u8>> {
    let bytes = hex::decode(text).ok()?;
    Some(unwrap(&bytes, algorithm).map(<[u8]>::to_vec).unwrap_or(bytes))
}

fn from_pem(text: &str, algorithm: &[u8]) -> Option<Vec<u8>> {
    unwrap(pem::parse(text).ok()?.contents(), algorithm).map(<[u8]>::to_vec)
}

/// The key inside a SubjectPublicKeyInfo (RFC 5280 4.1) of this algorithm.
fn unwrap<'a>(der: &'a [u8], algorithm: &[u8]) -> Option<&'a [u8]> {
    const SEQUENCE: u8 = 0x30;
    const BIT_STRING: u8 = 0x03;
    let (info, after) = value(SEQUENCE, der)?;
    let (identifier, rest) = value(SEQUENCE, info)?;
    let (bits, rest) = value(BIT_STRING, rest)?;
    // A bit string begins with the number of bits that its last byte has too many.
    let (0, key) = bits.split_first()? else { return None };
    (identifier == algorithm && rest.is_empty() && after.is_empty()).then_some(key)
}

/// The value of the first DER element, which must have this tag, and what comes after it.
fn value(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match *der.strip_prefix(&[tag])? {
        [short @ 0..=0x7f, ref rest @ ..] => (short.into(), rest),
        [0x81, long @ 0x80..=0xff, ref rest @ ..] => (long.into(), rest),
        [0x82, high @ 1..=0xff, low, ref rest @ ..] => (u16::from_be_bytes([high, low]).into(), rest),
        _ => return None,
    };
    rest.split_at_checked(length)
}
