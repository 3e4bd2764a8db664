//! What the command refuses, and that a build that failed leaves nothing behind.

use std::fs;

use crate::common::{Bench, release_command, run};

fn nothing_left(bench: &Bench) {
    let left: Vec<_> = fs::read_dir(bench.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let left: Vec<_> =
        left.iter().filter(|name| name.to_string_lossy().contains("release") || *name == "out").collect();
    assert!(left.iter().all(|name| *name == "os-release"), "{left:?}");
}

#[test]
fn a_missing_program_is_named_with_its_package() {
    let bench = Bench::new();
    let folder = bench.path("bin");
    fs::create_dir(&folder).unwrap();
    // ukify's interpreter.
    std::os::unix::fs::symlink("/usr/bin/python3", folder.join("python3")).unwrap();
    for (program, package) in [
        ("mksquashfs", "squashfs-tools"),
        ("veritysetup", "cryptsetup-bin"),
        ("ukify", "systemd-ukify"),
        ("mkfs.vfat", "dosfstools"),
        ("mmd", "mtools"),
        ("mcopy", "mtools"),
        ("rauc", "rauc"),
    ] {
        let mut command = bench.command("tree", "out");
        let words = format!("{program} is missing; install it (Debian: {package})");
        run(command.env("PATH", &folder)).fails(69, &words);
        nothing_left(&bench);
        // What comes before it in the build is there from now on.
        let found = ["/usr/bin", "/usr/sbin"].map(|dir| std::path::Path::new(dir).join(program));
        let found = found.iter().find(|path| path.exists()).unwrap();
        std::os::unix::fs::symlink(found, folder.join(program)).unwrap();
    }
}

#[test]
fn a_program_that_fails_is_quoted() {
    let bench = Bench::new();
    run(bench.bare("tree", "out").args(["--stub", "/etc/hostname"])).fails(1, "ukify failed (exit status: 1)");
    let mut command = bench.bare("tree", "out");
    command.args(["--rauc-cert", "/nonexistent.pem", "--rauc-key", "/nonexistent.key"]);
    run(&mut command).fails(1, "rauc failed").fails(1, "/nonexistent");
    nothing_left(&bench);
}

#[test]
fn what_is_there_is_not_overwritten() {
    let bench = Bench::new();
    bench.write("out/precious", b"", 0o644);
    run(&mut bench.bare("tree", "out")).fails(1, "is there already, and nothing is overwritten");
    assert_eq!(fs::read_dir(bench.path("out")).unwrap().count(), 1);
}

#[test]
fn a_tree_without_a_runner_is_no_release() {
    let bench = Bench::new();
    run(bench.bare("tree", "out").args(["--runner", "/usr/bin/none"])).fails(1, "the tree has no /usr/bin/none");
    run(&mut bench.bare("os-release", "out")).fails(1, "is not a folder");
    nothing_left(&bench);
}

#[test]
fn a_tree_that_says_it_is_something_else_is_no_release() {
    let bench = Bench::new();
    for (tree, file, text, said) in [
        ("version", "usr/lib/os-release", "IMAGE_VERSION=1.2.4\n", "IMAGE_VERSION 1.2.4, and the release is for 1.2.3"),
        ("none", "usr/lib/os-release", "ID=test\n", "IMAGE_VERSION missing"),
        (
            "compatible",
            "etc/rauc/system.conf",
            "[system]\ncompatible=other\n",
            "compatible other, and the release is for test-board",
        ),
    ] {
        bench.tree(tree);
        bench.write(&format!("{tree}/{file}"), text.as_bytes(), 0o644);
        run(&mut bench.bare(tree, "out")).fails(1, said);
    }
    nothing_left(&bench);
}

#[test]
fn a_file_that_cannot_be_listed_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let bench = Bench::new();
    let name = std::ffi::OsStr::from_bytes(b"tree/usr/bin/a\xff");
    fs::copy(bench.path("tree/usr/bin/tool"), bench.dir.path().join(name)).unwrap();
    run(&mut bench.bare("tree", "out")).fails(1, "is not text");
    nothing_left(&bench);
}

#[test]
fn a_uki_that_does_not_fit_is_refused_before_anything_is_copied() {
    let bench = Bench::new();
    bench.write("initrd", &vec![0; 31 << 20], 0o644);
    run(&mut bench.bare("tree", "out")).fails(1, "does not fit into an ESP of 34 MiB");
    nothing_left(&bench);
}

#[test]
fn a_wrong_command_line_is_told_apart() {
    let bench = Bench::new();
    for (option, value, words) in [
        ("--compatible", "a b", "beginning with a letter"),
        ("--version", "1.2", "unexpected end"),
        ("--version", "1.2.3+build", "no build metadata"),
        ("--time", "yesterday", "invalid value"),
        ("--time", "2026-03-01T00:00:00.5Z", "whole seconds"),
        ("--esp-size", "1", "34..=2048"),
    ] {
        let args: Vec<_> = bench.bare("tree", "out").get_args().map(ToOwned::to_owned).collect();
        let at = args.iter().position(|arg| arg == option).unwrap();
        let args = [&args[..=at], &[value.into()], &args[at + 2..]].concat();
        run(release_command().args(args)).fails(64, words);
    }
    let args: Vec<_> = bench.bare("tree", "out").get_args().map(ToOwned::to_owned).collect();
    let at = args.iter().position(|arg| arg == "--time").unwrap();
    run(release_command().args([&args[..at], &args[at + 2..]].concat())).fails(64, "there is no time");
    run(bench.bare("tree", "out").args(["--rauc-cert", "x"])).fails(64, "--rauc-key");
    nothing_left(&bench);
}
