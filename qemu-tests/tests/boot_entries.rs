//! `boot-entries` beside an efibootmgr that keeps its variables in a file: the script as it is on the device, but for the
//! folders that it looks into.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

const SCRIPT: &str = include_str!("../../meta-iotwasm/recipes-iotwasm/iotwasm-base/files/boot-entries");

/// Entries in the format of efibootmgr 18, and the order.
const EFIBOOTMGR: &str = r#"#!/bin/sh
vars=$DIR/vars
case "$1 $2" in
  " " | "--verbose ") cat "$vars" ;;
  "--quiet --create-only")
    while [ $# -gt 0 ]; do case $1 in --label) label=$2 ;; --part) part=$2 ;; esac; shift; done
    n=0; while grep -q "^Boot000$n" "$vars"; do n=$((n + 1)); done
    echo "Boot000$n* $label	HD($part,GPT,0000000$part-aaaa-bbbb-cccc-dddddddddddd,0x800,0x20000)/\EFI\BOOT\BOOTX64.EFI" >>"$vars" ;;
  "--quiet --bootnum") sed -i -e "/^Boot$3/d" -e "/^BootOrder/s/,*$3//" -e 's/^BootOrder: ,/BootOrder: /' "$vars" ;;
  "--quiet --bootorder") sed -i '/^BootOrder/d' "$vars"; echo "BootOrder: $3" >>"$vars" ;;
  *) echo "unexpected: $*" >&2; exit 1 ;;
esac
"#;

/// A device that runs from that slot, with these variables and this state of the update daemon; gives the variables afterwards.
fn run(slot: &str, vars: &str, state: Option<&str>) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for folder in
        ["run", "dev/disk/by-partlabel", "dev/disk/by-partuuid", "block", "sys/vda/vda1", "sys/vda/vda2", "ota", "bin"]
    {
        fs::create_dir_all(path(folder)).unwrap();
    }
    for (part, label) in [("1", "esp-a"), ("2", "esp-b")] {
        let node = path("dev").join(format!("vda{part}"));
        fs::write(&node, "").unwrap();
        symlink(&node, path("dev/disk/by-partlabel").join(label)).unwrap();
        symlink(&node, path("dev/disk/by-partuuid").join(format!("0000000{part}-aaaa-bbbb-cccc-dddddddddddd")))
            .unwrap();
        let device = path(&format!("sys/vda/vda{part}"));
        fs::write(device.join("partition"), format!("{part}\n")).unwrap();
        symlink(device, path("block").join(format!("vda{part}"))).unwrap();
    }
    fs::write(path("run/slot"), format!("RAUC_SLOT={slot}\n")).unwrap();
    if let Some(state) = state {
        fs::write(path("ota/firmware.json"), state).unwrap();
    }
    fs::write(path("vars"), vars).unwrap();
    let program = |name: &str, text: &str| {
        fs::write(path(name), text).unwrap();
        fs::set_permissions(path(name), fs::Permissions::from_mode(0o755)).unwrap();
    };
    program("bin/efibootmgr", EFIBOOTMGR);
    let here = |folder: &str| path(folder).display().to_string();
    let script = SCRIPT
        .replace("/run/iot/", &(here("run") + "/"))
        .replace("/dev/disk/", &(here("dev/disk") + "/"))
        .replace("/sys/class/block/", &(here("block") + "/"))
        .replace("/data/iotwasm/ota/", &(here("ota") + "/"));
    program("boot-entries", &script);
    let search = format!("{}:{}", here("bin"), std::env::var("PATH").unwrap());
    let output = Command::new(path("boot-entries")).env("PATH", search).env("DIR", dir.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    fs::read_to_string(Path::new(&path("vars"))).unwrap()
}

fn order(vars: &str) -> String {
    let number = |name: &str| {
        let line = vars.lines().find(|line| line.contains(&format!("* {name}\t"))).unwrap_or_else(|| panic!("{vars}"));
        line[4..8].to_owned()
    };
    let order = vars.lines().find_map(|line| line.strip_prefix("BootOrder: ")).unwrap_or_default();
    order.replace(&number("slot-a"), "a").replace(&number("slot-b"), "b")
}

const BARE: &str = "BootCurrent: 0000\nBoot0000* UEFI Misc Device\tPciRoot(0x0)/Pci(0x1,0x0)\nBootOrder: 0000\n";
const GOOD: &str = "BootCurrent: 0001\n\
    Boot0001* slot-a\tHD(1,GPT,00000001-aaaa-bbbb-cccc-dddddddddddd,0x800,0x20000)/\\EFI\\BOOT\\BOOTX64.EFI\n\
    Boot0002* slot-b\tHD(2,GPT,00000002-AAAA-BBBB-CCCC-DDDDDDDDDDDD,0x20800,0x20000)/\\EFI\\BOOT\\BOOTX64.EFI\n";

#[test]
fn a_device_from_the_factory_gets_entries_and_the_slot_that_runs_comes_first() {
    for (slot, expected) in [("slot-a", "a,b"), ("slot-b", "b,a")] {
        let vars = run(slot, BARE, None);
        assert_eq!(order(&vars), expected, "{vars}");
        assert!(vars.contains("* slot-b\tHD(2,GPT,00000002-"), "{vars}");
    }
}

#[test]
fn an_order_with_a_slot_is_left_as_it_is() {
    for given in ["0002,0001", "0007,0002", "0001"] {
        let vars = format!("{GOOD}BootOrder: {given}\n");
        assert_eq!(run("slot-a", &vars, None), vars);
    }
}

#[test]
fn what_was_never_kept_does_not_become_the_first_where_the_order_was_lost() {
    for name in ["installing", "installed", "trial", "rolled_back"] {
        let state = |slot: &str| {
            format!("{{\n  \"state\": {{\n    \"name\": \"{name}\",\n    \"slot\": \"{slot}\"\n  }}\n}}\n")
        };
        for vars in [BARE.to_owned(), GOOD.to_owned(), format!("{GOOD}BootOrder: 0007\n")] {
            assert_eq!(order(&run("slot-a", &vars, Some(&state("a")))), "b,a", "{name} {vars}");
            // What is half-written or undone in the other slot does not come first either.
            assert_eq!(order(&run("slot-a", &vars, Some(&state("b")))), "a,b", "{name} {vars}");
        }
    }
    assert_eq!(order(&run("slot-b", GOOD, Some("{ \"state\": { \"name\": \"idle\" } }"))), "b,a");
    // What was undone and told.
    let idle = "{\n  \"state\": {\n    \"name\": \"idle\"\n  },\n  \"unkept\": \"a\"\n}\n";
    assert_eq!(order(&run("slot-a", BARE, Some(idle))), "b,a");
    assert_eq!(order(&run("slot-b", BARE, Some(idle))), "b,a");
}

#[test]
fn entries_that_lead_to_another_disk_are_made_anew() {
    let vars = GOOD.replace("-aaaa-", "-eeee-").replace("-AAAA-", "-EEEE-") + "BootOrder: 0002,0001\n";
    let vars = run("slot-a", &vars, None);
    assert!(!vars.to_lowercase().contains("-eeee-") && vars.contains("00000001-aaaa-"), "{vars}");
    assert_eq!(order(&vars), "a,b");
    // One whose place cannot be compared is not.
    let vars = "Boot0001* slot-a\tsomewhere\nBoot0002* slot-b\nBootOrder: 0001,0002\n";
    assert_eq!(run("slot-a", vars, None), vars);
}
