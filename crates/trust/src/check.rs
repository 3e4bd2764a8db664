//! The checks that hold online and offline alike: signatures, types, promised versions, lengths and hashes.
//! Expiry and rollback are not here: they need a time and a past, which only the client has.

use crate::Refusal;
use crate::schema::{Meta, Root, Snapshot, Targets, Timestamp};
use crate::verify::{Envelope, Signers};

/// A root that is trusted for where it lies: it must still meet its own threshold (TUF 5.2).
pub(crate) fn pinned_root(bytes: &[u8]) -> Result<Root, Refusal> {
    let file = Envelope::parse(bytes)?;
    let root = Root::read(&file.signed)?;
    root.root.check(&file)?;
    Ok(root)
}

/// The root that follows `trusted`: signed by the keys of both, version one higher (TUF 5.3.4, 5.3.5).
pub(crate) fn next_root(trusted: &Root, bytes: &[u8]) -> Result<Root, Refusal> {
    let file = Envelope::parse(bytes)?;
    trusted.root.check(&file)?;
    let root = Root::read(&file.signed)?;
    root.root.check(&file)?;
    let expected = trusted.header.version.saturating_add(1);
    expect_version(expected, root.header.version)?;
    Ok(root)
}

/// A timestamp under a root (TUF 5.4.2).
pub(crate) fn timestamp(root: &Root, bytes: &[u8]) -> Result<Timestamp, Refusal> {
    let file = Envelope::parse(bytes)?;
    root.timestamp.check(&file)?;
    Timestamp::read(&file.signed)
}

/// A snapshot under a root, whatever a timestamp says (TUF 5.5.3).
pub(crate) fn any_snapshot(root: &Root, bytes: &[u8]) -> Result<Snapshot, Refusal> {
    let file = Envelope::parse(bytes)?;
    root.snapshot.check(&file)?;
    Snapshot::read(&file.signed)
}

/// The snapshot that a timestamp promises (TUF 5.5.2-5.5.4).
pub(crate) fn snapshot(root: &Root, promised: &Meta, bytes: &[u8]) -> Result<Snapshot, Refusal> {
    promised.check(bytes)?;
    let snapshot = any_snapshot(root, bytes)?;
    expect_version(promised.version, snapshot.header.version)?;
    Ok(snapshot)
}

/// The targets file, top-level or delegated, that a snapshot promises (TUF 5.6.2-5.6.4).
pub(crate) fn targets(signers: &Signers, promised: &Meta, bytes: &[u8]) -> Result<Targets, Refusal> {
    promised.check(bytes)?;
    let file = Envelope::parse(bytes)?;
    signers.check(&file)?;
    let targets = Targets::read(&file.signed)?;
    expect_version(promised.version, targets.header.version)?;
    Ok(targets)
}

/// Nothing that was listed goes back or goes away (TUF 5.5.5).
pub(crate) fn snapshot_rollback(trusted: &Snapshot, offered: &Snapshot) -> Result<(), Refusal> {
    for (file, old) in &trusted.meta {
        let new = offered.meta.get(file).ok_or_else(|| Refusal::Unlisted(file.clone()))?;
        expect_no_rollback(file, old.version, new.version)?;
    }
    expect_no_rollback("snapshot.json", trusted.header.version, offered.header.version)
}

/// Neither the timestamp nor the snapshot that it names goes back (TUF 5.4.3).
pub(crate) fn timestamp_rollback(trusted: &Timestamp, offered: &Timestamp) -> Result<(), Refusal> {
    expect_no_rollback("timestamp.json", trusted.header.version, offered.header.version)?;
    // The same version again is discarded, so what it says does not matter.
    if offered.header.version == trusted.header.version {
        return Ok(());
    }
    expect_no_rollback("snapshot.json", trusted.snapshot.version, offered.snapshot.version)
}

fn expect_version(expected: u64, found: u64) -> Result<(), Refusal> {
    if expected == found { Ok(()) } else { Err(Refusal::WrongVersion { expected, found }) }
}

fn expect_no_rollback(what: &str, trusted: u64, offered: u64) -> Result<(), Refusal> {
    if offered < trusted { Err(Refusal::Rollback { what: what.into(), trusted, offered }) } else { Ok(()) }
}
