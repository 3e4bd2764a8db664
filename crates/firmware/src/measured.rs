//! Which files of a root tree IMA measures, so that the maker's list and the device's log speak of the same set.

/// First bytes of an ELF file.
const ELF: &[u8] = b"\x7fELF";

/// True if a device may measure this regular file into PCR 10: it can be executed, mapped executable, or loaded into the
/// kernel. The list may hold more than a device ever touches; it must not hold less.
///
/// `mode` is the file's permission bits, `head` its first bytes (four are enough).
pub fn is_measured(path: &str, mode: u32, head: &[u8]) -> bool {
    mode & 0o111 != 0 || head.starts_with(ELF) || is_named_as_code(path)
}

/// `libc.so.6`, `gpio-sim.ko`, `virtio_blk.ko.xz`.
fn is_named_as_code(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let library = name.ends_with(".so") || name.split_once(".so.").is_some_and(|(_, rest)| is_number(rest));
    // A compressed module is measured as it lies on the disk: the kernel reads the file, then unpacks it.
    let module = ["", ".xz", ".zst", ".gz"].iter().any(|packed| name.ends_with(&format!(".ko{packed}")));
    library || module
}

#[cfg(test)]
mod tests {
    use super::is_measured;

    #[test]
    fn code_is_measured_whatever_its_mode() {
        for (path, mode, head) in [
            ("/usr/bin/tool", 0o755, &b"#!/b"[..]),
            ("/usr/libexec/hidden", 0o711, b"\x7fELF"),
            ("/usr/lib/libc.so.6", 0o644, b"\x7fELF"),
            ("/usr/lib/libc.so", 0o644, b"/* G"),
            ("/usr/lib/plugin", 0o644, b"\x7fELF\x02"),
            ("/usr/lib/modules/6.12/a.ko", 0o644, b"\x7fELF"),
            ("/usr/lib/modules/6.12/a.ko.xz", 0o644, b"\xfd7zX"),
        ] {
            assert!(is_measured(path, mode, head), "{path}");
        }
    }

    #[test]
    fn data_are_not() {
        for path in ["/etc/fstab", "/usr/share/a.socket", "/usr/lib/os-release", "/usr/share/so.txt", "/etc/ld.so.conf"]
        {
            assert!(!is_measured(path, 0o644, b"text"), "{path}");
        }
    }
}
