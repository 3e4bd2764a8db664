//! One module for each thing that is refused, beside a good one of each style.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use iotwasm_payload::check::{Finding, Policy, check};
use iotwasm_payload::manifest::SECTION;
use iotwasm_payload::pack::{PackError, inspect, manifest_of, pack};
use proptest::prelude::*;

const REACTOR: &str = "id = \"blinky\"\nvendor = \"acme\"\nversion = \"1.2.3\"\nboards = [\"qemu\"]\n[entry]\nstyle = \"reactor\"\n\
    [limits]\nmemory_pages = 4\n";

const GOOD: &str = r#"
    (import "iotwasm" "iotwasm_health" (func (param i32 i32 i32) (result i32)))
    (import "iotwasm" "iotwasm_wait" (func (param i64) (result i32)))
    (memory (export "memory") 2)
    (func (export "iotwasm_self_test") (result i32) (i32.const 0))
    (func (export "iotwasm_run"))"#;

fn command() -> String {
    REACTOR.replace("reactor", "command")
}

fn packed(body: &str, manifest: &str) -> Vec<u8> {
    pack(&wat::parse_str(format!("(module {body})")).unwrap(), manifest).unwrap()
}

fn findings_of(wasm: &[u8]) -> Vec<Finding> {
    check(wasm, &Policy::default()).map_or_else(|refused| refused.findings().to_vec(), |_| Vec::new())
}

/// Findings for the good reactor with something more in it.
fn findings(more: &str) -> Vec<Finding> {
    findings_of(&packed(&format!("{GOOD} {more}"), REACTOR))
}

/// Exactly one finding, whose words contain these.
fn one(found: &[Finding], words: &str) {
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].to_string().contains(words), "{}", found[0]);
}

#[test]
fn a_good_reactor_passes() {
    let wasm = packed(&format!("{GOOD} (func (export \"_initialize\"))"), REACTOR);
    let checked = check(&wasm, &Policy { board: Some("qemu".into()), ..Policy::default() }).unwrap();
    assert_eq!(checked.manifest().id.as_str(), "blinky");
    assert!(checked.has_initialize());
}

#[test]
fn a_good_command_passes_and_has_wasi() {
    let body = r#"(import "iotwasm" "iotwasm_health" (func (param i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
        (memory (export "memory") 1) (func (export "_start"))"#;
    assert_eq!(findings_of(&packed(body, &command())), []);
    let no_health = packed(r#"(memory (export "memory") 1) (func (export "_start"))"#, &command());
    one(&findings_of(&no_health), "no self-test");
}

#[test]
fn what_rustc_and_clang_emit_by_default_passes() {
    let more = r#"(global $g (export "g") (mut i32) (i32.const 0)) (table 2 4 funcref) (data $d "x")
        (func (param i32 f32) (result i32 i32) (memory.copy (i32.const 0) (i32.const 1) (i32.const 1))
            (memory.fill (i32.const 0) (i32.const 1) (i32.const 1)) (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1))
            (i32.extend8_s (local.get 0)) (i32.trunc_sat_f32_s (local.get 1)))"#;
    assert_eq!(findings(more), []);
}

#[test]
fn features_that_are_not_allowed_are_invalid() {
    for more in [
        "(func (drop (i32x4.splat (i32.const 1))))",
        "(func (result i32) (i32.atomic.load (i32.const 0)))",
        "(func (return_call 2))",
        "(tag) (func (throw 0))",
        "(memory 1)",
        "(memory i64 1)",
        "(memory 1 1 shared)",
        "(type (struct (field i32)))",
        "(global i32 (i32.add (i32.const 1) (i32.const 1)))",
    ] {
        let found = findings(more);
        assert!(found.iter().any(|f| matches!(f, Finding::Invalid { .. })), "{more}: {found:?}");
    }
    let component = wat::parse_str("(component)").unwrap();
    let found = findings_of(&component);
    assert!(found.iter().any(|f| matches!(f, Finding::Invalid { .. })), "{found:?}");
    assert!(matches!(pack(&component, REACTOR), Err(PackError::NotAModule)));
}

#[test]
fn native_code_is_refused() {
    one(&findings(r#"(@custom "wasmedge" "code")"#), "native code");
}

#[test]
fn imports_that_do_not_exist_or_were_not_asked_for_are_refused() {
    let import = |import: &str| findings_of(&packed(&format!("(import {import}) {GOOD}"), REACTOR));
    one(&import(r#""env" "f" (func)"#), "env.f, which does not exist");
    one(&import(r#""iotwasm" "iotwasm_gpio" (func)"#), "does not exist");
    one(&import(r#""iotwasm" "iotwasm_log" (func (param i32))"#), "(i32, i32, i32) -> (i32)");
    one(&import(r#""iotwasm" "iotwasm_log" (global i32)"#), "as global");
    one(&import(r#""iotwasm" "iotwasm_hold_restart" (func (param i64) (result i32))"#), "(i32) -> (i32)");
    assert_eq!(import(r#""iotwasm" "iotwasm_hold_restart" (func (param i32) (result i32))"#), []);
    one(&import(r#""wasi_snapshot_preview1" "fd_close" (func (param i32) (result i32))"#), "[wasi] in the manifest");
    one(&import(r#""wasi_snapshot_preview1" "sock_send" (func)"#), "does not exist");
    let with_wasi = format!("{REACTOR}[wasi]\n");
    let wasi = r#"(import "wasi_snapshot_preview1" "fd_close" (func (param i32) (result i32)))"#;
    assert_eq!(findings_of(&packed(&format!("{wasi} {GOOD}"), &with_wasi)), []);
}

#[test]
fn memory_is_one_and_within_the_manifest() {
    let memory = |memory: &str| {
        let body = GOOD.replace(r#"(memory (export "memory") 2)"#, memory);
        findings_of(&packed(&body, REACTOR))
    };
    assert_eq!(memory(r#"(memory (export "memory") 4 65536)"#), []);
    one(&memory(r#"(memory (export "memory") 5)"#), "limits.memory_pages is 4");
    one(&memory(r#"(memory 1)"#), "does not export memory");
    one(&memory(r#"(memory 1) (global (export "memory") i32 (i32.const 0))"#), "exports memory as global");
    let none = memory("");
    assert!(none.iter().any(|f| matches!(f, Finding::Memories { found: 0 })), "{none:?}");
    let body = GOOD.replace(r#"(memory (export "memory") 2)"#, r#"(export "memory" (memory 0))"#);
    one(&findings_of(&packed(&format!("(import \"env\" \"m\" (memory 1)) {body}"), REACTOR)), "env.m");
}

#[test]
fn a_reactor_without_its_exports_is_refused() {
    let without = |what: &str| findings_of(&packed(&GOOD.replace(what, "iotwasm_x"), REACTOR));
    one(&without("iotwasm_self_test"), "no self-test");
    one(&without("iotwasm_run"), "does not export iotwasm_run, a function () -> ()");
    let wrong = GOOD.replace("(result i32) (i32.const 0)", "");
    one(&findings_of(&packed(&wrong, REACTOR)), "must be a function () -> (i32)");
    one(&findings(r#"(func (export "_initialize") (param i32))"#), "_initialize");
}

#[test]
fn a_start_function_is_refused() {
    one(&findings("(func $s) (start $s)"), "start function");
}

#[test]
fn declarations_have_limits() {
    let locals = |n: usize| findings(&format!("(func (local {}))", "i64 ".repeat(n)));
    assert_eq!(locals(4096), []);
    one(&locals(4097), "locals in one function: 4097, at most 4096");
    one(&findings(&format!("(func (param {}) (local {}))", "i32 ".repeat(97), "i64 ".repeat(4000))), "4097");
    let nested = |n: usize| findings(&format!("(func {} {})", "block ".repeat(n), "end ".repeat(n)));
    assert_eq!(nested(1024), []);
    one(&nested(1025), "levels of nesting: 1025");
    one(&findings("(table 65537 funcref)"), "entries in one table: 65537");
    one(&findings(&"(table 1 funcref)".repeat(5)), "tables: 5");
    one(&findings(&"(func)".repeat(20_001)), "functions: 20003");
    one(&findings(&"(data \"\")".repeat(4097)), "data segments: 4097");
    one(&findings(&"(elem func)".repeat(1025)), "element segments: 1025");
    one(&findings(&format!("(elem func {})", "0 ".repeat(65_537))), "elements: 65537");
    one(&findings(&"(global i32 (i32.const 0))".repeat(1025)), "globals: 1025");
    let targets = "0 ".repeat(16_385);
    one(&findings(&format!("(func (block (br_table {targets} 0 (i32.const 0))))")), "targets of one branch table");
    one(&findings(&format!("(func {})", "nop ".repeat(1024 * 1024))), "bytes in one function");
    one(&findings(&r#"(@custom "x" "y")"#.repeat(64)), "custom sections: 65");
}

#[test]
fn a_table_that_grows_needs_a_maximum() {
    let grow = "(func (drop (table.grow 0 (ref.null func) (i32.const 1))))";
    assert_eq!(findings(&format!("(table 1 10 funcref) {grow}")), []);
    one(&findings(&format!("(table 1 funcref) {grow}")), "grows tables");
    one(&findings(&format!("(table 1 65537 funcref) {grow}")), "grows tables");
    assert_eq!(findings("(table 1 funcref)"), []);
}

#[test]
fn another_board_is_refused() {
    let wasm = packed(GOOD, REACTOR);
    let refused = check(&wasm, &Policy { board: Some("other".into()), ..Policy::default() }).unwrap_err();
    one(refused.findings(), "for the boards qemu, not for other");
}

#[test]
fn a_file_too_long_is_not_read() {
    let wasm = packed(GOOD, REACTOR);
    let mut policy = Policy::default();
    policy.limits.file_bytes = wasm.len() as u64;
    check(&wasm, &policy).unwrap();
    policy.limits.file_bytes -= 1;
    one(check(&wasm, &policy).unwrap_err().findings(), "bytes: ");
}

#[test]
fn everything_that_is_wrong_is_listed() {
    let body = r#"(import "env" "f" (func)) (memory 9) (table 99999 funcref) (func $s) (start $s)"#;
    let refused = check(&packed(body, REACTOR), &Policy::default()).unwrap_err();
    let text = refused.to_string();
    for words in ["env.f", "9 pages", "99999", "start function", "export memory", "iotwasm_run", "self-test"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(refused.findings().len(), 7, "{text}");
}

#[test]
fn a_manifest_is_there_once_and_is_right() {
    let bare = wat::parse_str(format!("(module {GOOD})")).unwrap();
    one(&findings_of(&bare), "pack it first");
    let packed_once = pack(&bare, REACTOR).unwrap();
    // Packing again replaces, and changes nothing else.
    let newer = REACTOR.replace("1.2.3", "1.2.4");
    let again = pack(&packed_once, &newer).unwrap();
    assert_eq!(manifest_of(&again).unwrap().version.to_string(), "1.2.4");
    assert_eq!(pack(&again, REACTOR).unwrap(), packed_once);
    let mut twice = packed_once.clone();
    twice.extend_from_slice(&packed_once[bare.len()..]);
    one(&findings_of(&twice), "several");
    let broken = wat::parse_str(format!("(module {GOOD} (@custom \"{SECTION}\" \"id = 3\"))")).unwrap();
    one(&findings_of(&broken), "the manifest is refused");
    assert!(matches!(pack(&bare, "id = 3"), Err(PackError::Manifest { .. })));
}

#[test]
fn inspection_lists_what_is_there() {
    let found = inspect(&packed(GOOD, REACTOR)).unwrap();
    assert_eq!(found.manifest.unwrap().id.as_str(), "blinky");
    assert_eq!(found.imports.len(), 2);
    assert_eq!(found.imports[1].kind.to_string(), "function (i64) -> (i32)");
    assert_eq!(
        found.exports.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(),
        ["memory", "iotwasm_self_test", "iotwasm_run"]
    );
    assert_eq!(found.memory.unwrap().min_pages, 2);
    assert_eq!(found.sizes.functions, 2);
    assert!(inspect(b"nonsense").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// What passes the check still passes the engine's own idea of validity elsewhere; here: nothing panics, and a
    /// refusal always says something.
    #[test]
    fn any_altered_module_is_checked_or_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<Option<prop::sample::Index>>(),
    ) {
        let mut wasm = packed(GOOD, REACTOR);
        for (at, with) in changes {
            let at = at.index(wasm.len());
            wasm[at] = with;
        }
        if let Some(cut) = cut {
            wasm.truncate(cut.index(wasm.len()));
        }
        let _ = inspect(&wasm);
        let _ = pack(&wasm, REACTOR);
        if let Err(refused) = check(&wasm, &Policy::default()) {
            prop_assert!(!refused.findings().is_empty());
        }
    }

    #[test]
    fn any_bytes_are_checked_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut wasm = b"\0asm\x01\0\0\0".to_vec();
        wasm.extend(bytes);
        prop_assert!(check(&wasm, &Policy::default()).is_err());
        let _ = inspect(&wasm);
    }
}
