//! Which accelerator QEMU can use here.

use std::fs;
use std::process::{Command, Stdio};

/// How the guest's instructions are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// By the processor.
    Kvm,
    /// By translation.
    Tcg,
}

impl Accel {
    /// QEMU's `-accel` argument.
    pub fn argument(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg,thread=multi,tb-size=512",
        }
    }

    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "KVM",
            Self::Tcg => "TCG",
        }
    }

    /// KVM where the processor has it and a guest really runs; `/dev/kvm` alone says nothing, for a host that is itself a
    /// virtual machine may open it and fail later.
    pub fn detect() -> Self {
        let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        if has_virtualisation(&flags) && probe() { Self::Kvm } else { Self::Tcg }
    }
}

fn has_virtualisation(cpuinfo: &str) -> bool {
    cpuinfo.lines().filter(|l| l.starts_with("flags")).flat_map(str::split_whitespace).any(|f| f == "vmx" || f == "svm")
}

/// A machine without a disk, stopped by its own monitor: whether it got as far as running.
fn probe() -> bool {
    let script = r#"{"execute":"qmp_capabilities"}{"execute":"cont"}{"execute":"query-status"}{"execute":"quit"}"#;
    let child = Command::new("timeout")
        .args([
            "20",
            "qemu-system-x86_64",
            "-accel",
            "kvm",
            "-cpu",
            "host",
            "-m",
            "64",
            "-nodefaults",
            "-display",
            "none",
        ])
        .args(["-qmp", "stdio", "-S"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else { return false };
    if let Some(mut stdin) = child.stdin.take() {
        let _ = std::io::Write::write_all(&mut stdin, script.as_bytes());
    }
    child
        .wait_with_output()
        .is_ok_and(|o| o.status.success() && String::from_utf8_lossy(&o.stdout).contains(r#""status": "running""#))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_with_svm_has_virtualisation() {
        assert!(has_virtualisation("model name : vmx\nflags\t: fpu svm lm\n"));
    }

    #[test]
    fn name_of_the_processor_does_not_count() {
        assert!(!has_virtualisation("model name : vmx\nflags\t: fpu lm\n"));
    }
}
