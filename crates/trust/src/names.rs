//! Names that come from metadata and become paths: encoded so that they stay in their folder, or refused.

use crate::Refusal;

/// Longest encoded role name: with a version and `.json` it stays within the 255 bytes of a file name.
const MAX_ROLE: usize = 200;
/// Longest target name; URLs beyond this are refused by common servers anyway.
const MAX_TARGET: usize = 1024;

/// Percent-encodes everything but RFC 3986's unreserved characters.
pub(crate) fn encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Name of a role's file relative to the metadata URL.
pub(crate) fn remote(role: &str, version: Option<u64>) -> String {
    match version {
        Some(version) => format!("{version}.{}.json", encode(role)),
        None => format!("{}.json", encode(role)),
    }
}

/// Name of a role's file in the store and in a chain.
pub(crate) fn local(role: &str) -> String {
    remote(role, None)
}

/// The role whose file [`local`] names so.
pub(crate) fn decode_local(file: &str) -> Option<String> {
    let mut bytes = file.strip_suffix(".json")?.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            out.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

/// Refuses delegated role names that would take a top-level role's place or do not fit a file name.
pub(crate) fn check_delegated(role: &str) -> Result<(), Refusal> {
    let taken = matches!(role, "" | "root" | "timestamp" | "snapshot" | "targets" | "mirrors");
    if taken || encode(role).len() > MAX_ROLE { Err(Refusal::RoleName) } else { Ok(()) }
}

/// True for target names that stay below the folder they are put in.
pub(crate) fn is_safe_target(name: &str) -> bool {
    name.len() <= MAX_TARGET
        && !name.contains('\0')
        && !name.contains('\\')
        && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Path of a target relative to the targets URL: `dir/<hash>.file`, or the bare name without consistent snapshots.
pub(crate) fn target_path(name: &str, hash: Option<&str>) -> String {
    let (dir, file) = match name.rsplit_once('/') {
        Some((dir, file)) => (Some(dir), file),
        None => (None, name),
    };
    let mut path = String::new();
    for part in dir.into_iter().flat_map(|dir| dir.split('/')) {
        path.push_str(&encode(part));
        path.push('/');
    }
    if let Some(hash) = hash {
        path.push_str(hash);
        path.push('.');
    }
    path.push_str(&encode(file));
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_goes_before_the_file_not_before_the_folder() {
        assert_eq!(target_path("acme/blinky/a b.wasm", Some("00ff")), "acme/blinky/00ff.a%20b.wasm");
        assert_eq!(target_path("file", None), "file");
    }

    #[test]
    fn role_names_cannot_leave_the_folder() {
        assert_eq!(remote("../delegatedrole", Some(1)), "1...%2Fdelegatedrole.json");
        assert_eq!(local("?"), "%3F.json");
        assert_eq!(decode_local(&local("a/é?")).as_deref(), Some("a/é?"));
    }

    #[test]
    fn names_of_top_level_roles_are_refused_for_delegations() {
        assert_eq!(check_delegated("snapshot"), Err(Refusal::RoleName));
        assert_eq!(check_delegated(&"x".repeat(300)), Err(Refusal::RoleName));
        assert_eq!(check_delegated("acme"), Ok(()));
    }

    #[test]
    fn target_names_with_dots_or_empty_parts_are_unsafe() {
        for name in ["../x", "a//b", "/a", "a/./b", "a/..", "", "a\0b", "a\\b"] {
            assert!(!is_safe_target(name), "{name:?}");
        }
        assert!(is_safe_target("a/b..c/.d"));
    }
}
