//! Ed25519 keys in PKCS#8 PEM files that only their owner can read.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde_json::{Value, json};

use super::RepoError;
use crate::key::sha256;

const PRIVATE: &str = "PRIVATE KEY";
const PUBLIC: &str = "PUBLIC KEY";
/// DER in front of the 32 bytes of an Ed25519 private key in a PKCS#8 of version 1 (RFC 8410): the only kind that `openssl`
/// reads, too.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// DER in front of the 32 bytes of an Ed25519 public key in a SubjectPublicKeyInfo (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A private key that signs metadata. Its bytes are never printed.
pub struct Key {
    pair: Ed25519KeyPair,
    pkcs8: Vec<u8>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.public().id())
    }
}

impl Key {
    /// Makes a new key.
    pub fn generate() -> Result<Key, RepoError> {
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).map_err(|_| RepoError::Crypto { operation: "generate a key" })?;
        Key::from_pkcs8([PKCS8_PREFIX.as_slice(), &seed].concat())
    }

    /// Reads PKCS#8 PEM (what `openssl genpkey -algorithm ed25519` writes, too).
    pub fn from_pem(text: &str) -> Result<Key, RepoError> {
        let parsed = pem::parse(text).map_err(|_| RepoError::NotAKey)?;
        if parsed.tag() != PRIVATE {
            return Err(RepoError::NotAKey);
        }
        Key::from_pkcs8(parsed.into_contents())
    }

    fn from_pkcs8(pkcs8: Vec<u8>) -> Result<Key, RepoError> {
        // Unchecked is what version 1 leaves unchecked: it has no public key to compare with.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8).map_err(|_| RepoError::NotAKey)?;
        Ok(Key { pair, pkcs8 })
    }

    /// PKCS#8 PEM, of the version that was read.
    pub fn to_pem(&self) -> String {
        encode(PRIVATE, &self.pkcs8)
    }

    /// Reads a key file.
    pub fn load(path: &Path) -> Result<Key, RepoError> {
        let text = fs::read_to_string(path).map_err(|err| RepoError::io("read", path, err))?;
        Key::from_pem(&text)
    }

    /// Writes a key file, readable by its owner only. An existing file is left alone and is an error.
    pub fn save(&self, path: &Path) -> Result<(), RepoError> {
        let text = self.to_pem();
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|err| RepoError::io("create", path, err))?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|err| RepoError::io("write", path, err))
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey { bytes }
    }

    /// The TUF key id.
    pub fn id(&self) -> String {
        self.public().id()
    }

    pub(crate) fn sign(&self, message: &[u8]) -> String {
        hex::encode(self.pair.sign(message).as_ref())
    }
}

/// A public key that metadata can trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    bytes: [u8; 32],
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo PEM (what `openssl pkey -pubout` writes).
    pub fn from_pem(text: &str) -> Result<PublicKey, RepoError> {
        let parsed = pem::parse(text).map_err(|_| RepoError::NotAKey)?;
        let bytes = parsed.contents().strip_prefix(SPKI_PREFIX.as_slice()).and_then(|rest| rest.try_into().ok());
        match bytes {
            Some(bytes) if parsed.tag() == PUBLIC => Ok(PublicKey { bytes }),
            _ => Err(RepoError::NotAKey),
        }
    }

    /// SubjectPublicKeyInfo PEM.
    pub fn to_pem(&self) -> String {
        encode(PUBLIC, &[SPKI_PREFIX.as_slice(), &self.bytes].concat())
    }

    /// The key as TUF metadata writes it.
    pub fn to_json(&self) -> Value {
        json!({"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": hex::encode(self.bytes)}})
    }

    /// Reads the form that TUF metadata writes.
    pub fn from_json(value: &Value) -> Result<PublicKey, RepoError> {
        let text = value["keyval"]["public"].as_str().unwrap_or_default();
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| RepoError::NotAKey)?;
        let key = PublicKey { bytes };
        if value["keytype"] == "ed25519" { Ok(key) } else { Err(RepoError::NotAKey) }
    }

    /// Whether this key made the signature (in hex, as metadata writes it) over the message.
    pub fn made(&self, signature: &str, message: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, &self.bytes);
        hex::decode(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok())
    }

    /// The TUF key id: SHA-256 of the key's canonical JSON.
    pub fn id(&self) -> String {
        let canonical = format!(
            r#"{{"keytype":"ed25519","keyval":{{"public":"{}"}},"scheme":"ed25519"}}"#,
            hex::encode(self.bytes)
        );
        hex::encode(sha256(canonical.as_bytes()))
    }
}

fn encode(tag: &str, contents: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(tag, contents), config)
}
