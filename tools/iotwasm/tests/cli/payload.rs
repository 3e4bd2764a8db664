//! `iotwasm payload`, completions and the command line itself, from outside.

use crate::common::Bench;

#[test]
fn the_command_line_overrides_the_manifest() {
    let bench = Bench::new();
    bench.payload("1.0.0");
    let pack = ["payload", "pack", "--wasm", "good.wasm", "--manifest", "manifest.toml"];
    let more =
        ["--version", "2.0.0-rc.1", "--id", "meter", "--set", "limits.fuel=5000", "--set", "description=two words"];
    bench.run(&[&pack[..], &more].concat()).ok();
    let json = bench.run(&["--json", "payload", "inspect", "meter-2.0.0-rc.1.wasm"]).ok();
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["manifest"]["version"], "2.0.0-rc.1");
    assert_eq!(json["manifest"]["id"], "meter");
    assert_eq!(json["manifest"]["limits"]["fuel"], 5000);
    assert_eq!(json["manifest"]["description"], "two words");
    bench.run(&[&pack[..], &["--set", "limits.fuell=1"]].concat()).fails(78, "fuell");
    bench.run(&[&pack[..], &["--set", "id.x=1"]].concat()).fails(64, "id is no table");
    bench.run(&[&pack[..], &["--version", "two"]].concat()).fails(64, "--version");
}

#[test]
fn a_check_lists_everything_that_is_wrong_with_each_file() {
    let bench = Bench::new();
    let good = bench.payload_of("acme", "counter", "1.0.0", "boards = ['other']");
    bench.run(&["payload", "check", &good]).ok();
    let both = bench.run(&["payload", "check", "--board", "mine", &good, "good.wasm"]).fails(1, "2 of 2");
    assert!(both.out.contains("not for mine") && both.out.contains("pack it first"), "{both:?}");
    let json = bench.run(&["--json", "payload", "check", &good, "good.wasm"]).fails(1, "\"code\":1");
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["payloads"][0]["accepted"], true);
    assert_eq!(json["payloads"][1]["accepted"], false);
}

#[test]
fn an_inspection_shows_what_a_module_imports() {
    let bench = Bench::new();
    let good = bench.payload("1.0.0");
    let words = bench.run(&["payload", "inspect", &good]).ok().out;
    assert!(words.contains("iotwasm.iotwasm_wait") && words.contains("memory_pages = 32"), "{words}");
    bench.run(&["payload", "inspect", "manifest.toml"]).fails(1, "manifest.toml");
    bench.run(&["payload", "inspect", "missing.wasm"]).fails(1, "missing.wasm");
}

#[test]
fn help_goes_to_standard_output_and_a_wrong_line_ends_with_64() {
    let bench = Bench::new();
    for args in [&["--help"][..], &["repo", "publish", "--help"], &["device", "logs", "--help"]] {
        assert!(bench.run(args).ok().out.contains("Usage: iotwasm"));
    }
    bench.run(&["frobnicate"]).fails(64, "frobnicate");
    bench.run(&[]).fails(64, "Usage");
}

#[test]
fn completions_know_every_group() {
    let bench = Bench::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = bench.run(&["completions", shell]).ok().out;
        for word in ["rotate-key", "withdraw", "check-now"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn without_a_daemon_the_device_commands_end_with_69() {
    let bench = Bench::new();
    for args in [&["device", "status"][..], &["device", "history"], &["device", "check-now"], &["device", "monitor"]] {
        let run: crate::common::Run = bench
            .command(args)
            .env("IOTWASM_OTA_SOCKET", "missing.sock")
            .env("IOTWASM_SUPERVISOR_SOCKET", "missing.sock")
            .output()
            .unwrap()
            .into();
        let run = run.fails(69, "missing.sock");
        assert_eq!(run.err.matches("No such file").count(), 1, "{run:?}");
    }
}
