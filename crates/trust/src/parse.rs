//! The parsers that untrusted bytes reach, one by one: entry points for a fuzzer. None of them checks a signature.

use crate::Refusal;
use crate::schema::{Root, Snapshot, Targets, Timestamp};
use crate::verify::Envelope;

/// Reads a root file.
pub fn root(bytes: &[u8]) -> Result<(), Refusal> {
    Root::read(&Envelope::parse(bytes)?.signed).map(|_| ())
}

/// Reads a timestamp file.
pub fn timestamp(bytes: &[u8]) -> Result<(), Refusal> {
    Timestamp::read(&Envelope::parse(bytes)?.signed).map(|_| ())
}

/// Reads a snapshot file.
pub fn snapshot(bytes: &[u8]) -> Result<(), Refusal> {
    Snapshot::read(&Envelope::parse(bytes)?.signed).map(|_| ())
}

/// Reads a targets file, top-level or delegated, and asks it for a target.
pub fn targets(bytes: &[u8]) -> Result<(), Refusal> {
    let targets = Targets::read(&Envelope::parse(bytes)?.signed)?;
    for delegation in &targets.delegations {
        delegation.paths.cover("acme/blinky/blinky-1.0.0.wasm");
        delegation.paths.may_cover("acme/*/*");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            for parse in [root, timestamp, snapshot, targets] {
                let _ = parse(&bytes);
            }
        }

        #[test]
        fn no_altered_file_makes_a_parser_panic(at in 0..400_usize, byte in any::<u8>()) {
            let text = r#"{"signatures":[{"keyid":"00","sig":"00"}],"signed":{"_type":"targets","spec_version":"1.0.33",
                "version":1,"expires":"2030-01-01T00:00:00Z","targets":{"a":{"length":1,"hashes":{"sha256":"00"}}},
                "delegations":{"keys":{"00":{"keytype":"ed25519","scheme":"ed25519","keyval":{"public":"00"}}},
                "roles":[{"name":"a","keyids":["00"],"threshold":1,"terminating":true,"paths":["*/?"]}]}}}"#;
            let mut bytes = text.as_bytes().to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = targets(&bytes);
        }
    }
}
