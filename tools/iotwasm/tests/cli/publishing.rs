//! `iotwasm repo`, from outside: what is published, withdrawn and refused, judged by the project's own client.

use crate::common::Bench;

#[test]
fn published_payloads_are_found_by_a_device() {
    let bench = Bench::with_repository();
    let mut device = bench.device();
    assert!(device.names("acme/*/*").is_empty());
    let files = [bench.payload("1.0.0"), bench.payload("1.1.0")];
    bench.repo("publish", &[&files[0], &files[1]]).ok();
    let targets = device.sees("acme/counter/*");
    assert_eq!(targets.len(), 2);
    assert_eq!(targets[1].roles, ["targets", "acme"]);
    let custom = targets[1].custom.as_ref().unwrap();
    assert_eq!(
        custom["iotwasm"],
        serde_json::json!({"kind": "payload", "id": "counter", "vendor": "acme", "version": "1.1.0"})
    );
}

#[test]
fn publishing_the_same_file_again_changes_nothing() {
    let bench = Bench::with_repository();
    let file = bench.payload("1.0.0");
    bench.repo("publish", &[&file]).ok();
    let before = std::fs::read(bench.path("repo/metadata/timestamp.json")).unwrap();
    let again = bench.repo("publish", &[&file]).ok();
    assert!(again.out.contains("already"), "{again:?}");
    assert_eq!(std::fs::read(bench.path("repo/metadata/timestamp.json")).unwrap(), before);
}

#[test]
fn a_version_cannot_be_published_with_other_content() {
    let bench = Bench::with_repository();
    let file = bench.payload("1.0.0");
    bench.repo("publish", &[&file]).ok();
    let other = bench.payload_of("acme", "counter", "1.0.0", "description = 'changed'");
    bench.repo("publish", &[&other]).fails(1, "published already with other content");
}

#[test]
fn every_refusal_of_every_file_is_told_and_nothing_is_published() {
    let bench = Bench::with_repository();
    let good = bench.payload("1.0.0");
    let bad = wat::parse_str(r#"(module (import "env" "gettimeofday" (func)) (func (export "iotwasm_run")))"#).unwrap();
    std::fs::write(bench.path("bad.wasm"), bad).unwrap();
    let pack = ["payload", "pack", "--wasm", "bad.wasm", "--manifest", "manifest.toml", "-o", "packed.wasm"];
    bench.run(&pack).fails(1, "gettimeofday");
    assert!(!bench.path("packed.wasm").exists());
    bench.run(&[&pack[..], &["--unchecked"]].concat()).ok();
    std::fs::write(bench.path("text.wasm"), "not wasm").unwrap();

    let refused = bench.repo("publish", &[&good, "packed.wasm", "text.wasm"]);
    let refused =
        refused.fails(1, "2 of the releases").fails(1, "gettimeofday").fails(1, "self-test").fails(1, "text.wasm");
    assert_eq!(refused.err.trim_end().lines().count(), 1);
    assert!(bench.device().names("acme/*/*").is_empty());
}

#[test]
fn an_id_belongs_to_the_vendor_that_published_it_first() {
    let bench = Bench::with_repository();
    bench.run(&["keys", "generate", "--dir", "keys", "beta"]).ok();
    bench.repo("add-vendor", &["beta"]).ok();
    bench.repo("add-vendor", &["beta"]).fails(1, "already");
    let file = bench.payload("1.0.0");
    bench.repo("publish", &[&file]).ok();
    let stolen = bench.payload_of("beta", "counter", "2.0.0", "");
    bench.repo("publish", &[&stolen]).fails(1, "belongs to the vendor acme");
    let own = bench.payload_of("beta", "meter", "1.0.0", "");
    bench.repo("publish", &[&own]).ok();
    assert_eq!(bench.device().names("*/*/*"), ["acme/counter/counter-1.0.0.wasm", "beta/meter/meter-1.0.0.wasm"]);
    let nobody = bench.payload_of("gamma", "thing", "1.0.0", "");
    bench.repo("publish", &[&nobody]).fails(1, "no vendor gamma");
}

#[test]
fn a_withdrawal_is_seen_with_its_reason_and_cannot_be_undone_by_publishing() {
    let bench = Bench::with_repository();
    let file = bench.payload("1.0.0");
    bench.repo("publish", &[&file]).ok();
    bench.repo("withdraw", &["counter@1.0.0"]).fails(64, "--reason");
    bench.repo("withdraw", &["counter@9.9.9", "--reason", "r"]).fails(1, "counter@9.9.9");
    bench.repo("withdraw", &["acme/counter@1.0.0", "--reason", "it leaks"]).ok();
    let custom = bench.device().sees("acme/counter/*").remove(0).custom.unwrap();
    assert_eq!(custom["iotwasm"]["withdrawn"]["reason"], "it leaks");
    bench.repo("publish", &[&file]).fails(1, "was withdrawn");
}

#[test]
fn expiry_is_what_was_asked_for_and_a_refresh_mends_it() {
    let bench = Bench::with_repository();
    bench.repo("refresh", &["--expires-at", "2020-01-01T00:00:00Z"]).ok();
    let mut device = bench.device();
    let refused = device.refresh().unwrap_err();
    assert!(refused.contains("expired"), "{refused}");
    bench.run(&["repo", "status", "--repo", "repo", "--fail-within", "1d"]).fails(1, "snapshot");
    bench.repo("refresh", &["--timestamp-expires", "2d"]).ok();
    device.refresh().unwrap();
    bench.run(&["repo", "status", "--repo", "repo", "--fail-within", "1d"]).ok();
    bench.run(&["repo", "status", "--repo", "repo", "--fail-within", "3d"]).fails(1, "timestamp");
}

#[test]
fn each_role_is_refreshed_by_its_own_keys_alone() {
    let bench = Bench::with_repository();
    let away = |role: &str| {
        std::fs::create_dir_all(bench.path("away")).unwrap();
        for path in bench.keys_of(role) {
            std::fs::rename(&path, bench.path("away").join(path.file_name().unwrap())).unwrap();
        }
    };
    away("root");
    away("targets");
    away("acme");
    bench.repo("refresh", &[]).ok();
    bench.repo("refresh", &["--role", "acme"]).fails(1, "role acme needs 1 of its keys, but 0");
    away("snapshot");
    bench.repo("refresh", &["--role", "timestamp"]).ok();
    bench.repo("refresh", &[]).fails(1, "role snapshot");
    // From two folders, everything can be signed; the root gets a new version.
    bench.repo("refresh", &["--keys", "away", "--role", "root", "--role", "targets", "--role", "acme"]).ok();
    let mut device = bench.device();
    device.refresh().unwrap();
    assert!(bench.path("repo/metadata/2.root.json").exists());
    bench.repo("refresh", &["--role", "nobody"]).fails(1, "nobody");
}

#[test]
fn what_was_altered_on_the_server_is_not_built_upon() {
    let bench = Bench::with_repository();
    let file = bench.payload("1.0.0");
    bench.repo("publish", &[&file]).ok();
    let path = bench.path("repo/metadata/2.acme.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let altered = text.replace("counter-1.0.0.wasm", "counter-6.6.6.wasm");
    assert_ne!(text, altered);
    std::fs::write(&path, altered).unwrap();
    let next = bench.payload("1.1.0");
    bench.repo("publish", &[&next]).fails(78, "2.acme.json").fails(78, "altered");
}

#[test]
fn a_second_repository_is_not_made_over_the_first() {
    let bench = Bench::with_repository();
    let before = std::fs::read(bench.path("repo/metadata/1.root.json")).unwrap();
    bench.repo("init", &[]).fails(1, "already");
    assert_eq!(std::fs::read(bench.path("repo/metadata/1.root.json")).unwrap(), before);
    bench.run(&["repo", "status", "--repo", "nowhere"]).fails(78, "repo init");
    assert!(!bench.path("nowhere").exists());
}

#[test]
fn an_init_that_was_cut_short_can_be_run_again() {
    let bench = Bench::with_repository();
    std::fs::remove_file(bench.path("repo/metadata/timestamp.json")).unwrap();
    bench.repo("init", &["--vendor", "acme"]).ok();
    bench.device().refresh().unwrap();
}

#[test]
fn the_status_lists_roles_and_payloads() {
    let bench = Bench::with_repository();
    let file = bench.payload_of("acme", "counter", "1.0.0", "boards = ['qemu-x86-64']");
    bench.repo("publish", &[&file]).ok();
    let words = bench.repo("status", &[]).ok().out;
    assert!(words.contains("2 of 3") && words.contains("qemu-x86-64"), "{words}");
    let json = bench.run(&["--json", "repo", "status", "--repo", "repo"]).ok();
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["payloads"][0]["target"], "acme/counter/counter-1.0.0.wasm");
    assert_eq!(json["roles"][0]["threshold"], 2);
}
