//! A publication that is killed, and two at once.

use std::process::Stdio;

use crate::common::Bench;

/// Kills a publication as soon as a file of it appears, for every kind of file that it writes. The kill may come a little
/// later than the file: what is asserted holds wherever it came.
#[test]
fn a_killed_publication_leaves_the_old_repository_or_the_new_one_and_can_be_run_again() {
    for stage in ["targets/acme/counter", "metadata/3.acme.json", "metadata/3.snapshot.json"] {
        let bench = Bench::with_repository();
        let old = bench.payload("1.0.0");
        bench.repo("publish", &[&old]).ok();
        let mut device = bench.device();
        device.refresh().unwrap();
        let new = bench.payload("1.1.0");
        let stage = bench.path("repo").join(stage);
        let appeared = || match stage.is_dir() {
            true => std::fs::read_dir(&stage).unwrap().count() > 1,
            false => stage.exists(),
        };
        let mut child = bench
            .command(&["repo", "publish", "--repo", "repo", "--keys", "keys", &new])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while !appeared() && child.try_wait().unwrap().is_none() {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();

        let names = device.names("acme/*/*");
        assert_eq!(names[0], "acme/counter/counter-1.0.0.wasm");
        bench.repo("publish", &[&new]).ok();
        assert_eq!(device.names("acme/*/*").len(), 2);
    }
}

#[test]
fn two_publications_at_once_both_happen() {
    let bench = Bench::with_repository();
    let files: Vec<String> = (0..6).map(|n| bench.payload(&format!("1.{n}.0"))).collect();
    let children: Vec<_> = files
        .iter()
        .map(|file| {
            bench
                .command(&["repo", "publish", "--repo", "repo", "--keys", "keys", file])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(bench.device().names("acme/*/*").len(), 6);
}
