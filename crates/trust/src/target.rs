//! A target as trusted metadata describes it, and the check of bytes against that description.

use ring::digest;
use serde_json::{Map, Value};

use crate::Refusal;

/// The hashes of a file that we can check. At least one is present in every [`Target`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hashes {
    /// SHA-256.
    pub sha256: Option<[u8; 32]>,
    /// SHA-512.
    pub sha512: Option<[u8; 64]>,
}

impl Hashes {
    /// Reads TUF's `hashes` object. Kinds that we do not know are skipped; one that we know must be well formed.
    pub(crate) fn parse(value: &Value) -> Result<Hashes, Refusal> {
        let map = value.as_object().ok_or_else(|| Refusal::Malformed("hashes is not an object".into()))?;
        let hashes = Hashes { sha256: read(map, "sha256")?, sha512: read(map, "sha512")? };
        if hashes == Hashes::default() { Err(Refusal::NoUsableHash) } else { Ok(hashes) }
    }

    /// Checks bytes that are in memory as a whole.
    pub(crate) fn check(&self, bytes: &[u8]) -> Result<(), Refusal> {
        if self.sha256.is_some_and(|want| digest::digest(&digest::SHA256, bytes).as_ref() != want) {
            return Err(Refusal::Hash("sha256"));
        }
        if self.sha512.is_some_and(|want| digest::digest(&digest::SHA512, bytes).as_ref() != want) {
            return Err(Refusal::Hash("sha512"));
        }
        Ok(())
    }

    /// The hash that names the file on the repository, in hex: sha256 where there is one.
    pub fn name(&self) -> String {
        match (&self.sha256, &self.sha512) {
            (Some(hash), _) => hex::encode(hash),
            (None, Some(hash)) => hex::encode(hash),
            (None, None) => String::new(),
        }
    }
}

fn read<const N: usize>(map: &Map<String, Value>, kind: &'static str) -> Result<Option<[u8; N]>, Refusal> {
    let Some(value) = map.get(kind) else { return Ok(None) };
    let mut hash = [0; N];
    let text = value.as_str().unwrap_or_default();
    hex::decode_to_slice(text, &mut hash).map_err(|_| Refusal::Malformed(format!("{kind} is not {N} bytes in hex")))?;
    Ok(Some(hash))
}

/// A target that a chain of roles vouches for.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Its name, as in the metadata.
    pub name: String,
    /// Length in bytes.
    pub length: u64,
    /// Hashes, at least one.
    pub hashes: Hashes,
    /// Whatever the signer said beyond that, opaque to TUF.
    pub custom: Option<Value>,
    /// The roles that vouch for it, from `targets` to the one that signed it.
    pub roles: Vec<String>,
    /// Where the file lies, relative to the targets URL, percent-encoded: `dir/<hash>.file` (TUF 5.7.3).
    pub remote_path: String,
}

impl Target {
    /// The role that signed the target's description.
    pub fn signer(&self) -> &str {
        self.roles.last().map_or("", String::as_str)
    }

    /// A check of a download, fed as the bytes arrive.
    pub fn verifier(&self) -> Verifier {
        Verifier {
            expected: self.hashes.clone(),
            length: self.length,
            seen: 0,
            sha256: digest::Context::new(&digest::SHA256),
            sha512: self.hashes.sha512.map(|_| digest::Context::new(&digest::SHA512)),
        }
    }

    /// Checks a whole file in memory.
    pub fn verify(&self, bytes: &[u8]) -> Result<(), Refusal> {
        if bytes.len() as u64 != self.length {
            return Err(Refusal::Length { expected: self.length, found: bytes.len() as u64 });
        }
        self.hashes.check(bytes)
    }
}

/// Checks length and every hash of a download as it arrives (TUF 5.7.3).
pub struct Verifier {
    expected: Hashes,
    length: u64,
    seen: u64,
    sha256: digest::Context,
    sha512: Option<digest::Context>,
}

impl Verifier {
    /// Takes the next bytes; fails as soon as there are more than promised.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.seen = self.seen.saturating_add(bytes.len() as u64);
        if self.seen > self.length {
            return Err(Refusal::Length { expected: self.length, found: self.seen });
        }
        self.sha256.update(bytes);
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(bytes);
        }
        Ok(())
    }

    /// Bytes taken so far.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The verdict after the last byte; on success the SHA-256 of what was read (computed even if only SHA-512 was promised).
    pub fn finish(self) -> Result<[u8; 32], Refusal> {
        if self.seen != self.length {
            return Err(Refusal::Length { expected: self.length, found: self.seen });
        }
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(self.sha256.finish().as_ref());
        if self.expected.sha256.is_some_and(|want| want != sha256) {
            return Err(Refusal::Hash("sha256"));
        }
        if let (Some(context), Some(want)) = (self.sha512, self.expected.sha512)
            && context.finish().as_ref() != want
        {
            return Err(Refusal::Hash("sha512"));
        }
        Ok(sha256)
    }
}
