//! The Varlink service as its callers see it: over a socket, through the proxies that they use.

use std::{os::unix::net::UnixListener, path::Path, pin::pin, rc::Rc, time::Duration};

use crate::support::{Bench, Device, Payload, SPIN, WORK, on_loop};
use futures_util::StreamExt;
use iotwasm_api::{
    Reason,
    supervisor::{Health, Phase, SupervisorError, SupervisorProxy},
};
use iotwasm_kit::{access::Access, varlink};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wasm_supervisord::{keeper::wire_slot, service::Service};

/// Serve with this access list for as long as the loop lives.
fn serve(bench: &Bench, socket: &Path, access: &Access, as_uid: u32) {
    serve_within(bench, socket, access, as_uid, varlink::Limits::default());
}

/// [`serve`] with other limits.
fn serve_within(bench: &Bench, socket: &Path, access: &Access, as_uid: u32, limits: varlink::Limits) {
    let listener = UnixListener::bind(socket).unwrap();
    let (supervisor, grants) = (Rc::clone(&bench.supervisor), Rc::new(access.resolve().unwrap()));
    let service = move |peer: varlink::Peer| {
        let peer = varlink::Peer { uid: as_uid, ..peer };
        Service::new(Rc::clone(&supervisor), Rc::clone(&grants), peer)
    };
    tokio::task::spawn_local(varlink::serve(listener, limits, service));
}

#[test]
fn a_caller_starts_watches_confirms_and_stops() {
    on_loop(async {
        let device = Device::new();
        let slot = wire_slot(device.install(&Payload::reactor("(i32.const 0)", WORK), false));
        let (bench, socket) = (device.supervisor(), device.path("socket"));
        serve(&bench, &socket, &Access::default(), 0);
        let mut watcher = zlink::tokio::unix::connect(&socket).await.unwrap();
        let mut events = pin!(watcher.monitor().await.unwrap());

        let mut caller = zlink::tokio::unix::connect(&socket).await.unwrap();
        let started = caller.start("probe", slot, true).await.unwrap().unwrap().status;
        assert_eq!((started.phase, started.trial), (Phase::Running, true));
        let mut sequence = 0;
        loop {
            let event = events.next().await.unwrap().unwrap().unwrap().event;
            assert_eq!(event.sequence, sequence + 1, "no event is left out");
            sequence = event.sequence;
            if event.status.health == Health::Healthy {
                break;
            }
        }
        assert!(!caller.confirm("probe", slot).await.unwrap().unwrap().status.trial);
        caller.stop("probe").await.unwrap().unwrap();
        let status = caller.get_status().await.unwrap().unwrap();
        assert_eq!(status.payloads.len(), 1);
        assert_eq!((status.payloads[0].phase, status.payloads[0].pid), (Phase::Stopped, 0));
        let refused = caller.confirm("probe", slot).await.unwrap();
        assert!(matches!(refused, Err(SupervisorError::WrongState { .. })), "{refused:?}");
    });
}

#[test]
fn a_watcher_first_sees_the_present() {
    on_loop(async {
        let device = Device::new();
        device.install(&Payload::reactor("(i32.const 0)", WORK), true);
        let (mut bench, socket) = (device.supervisor(), device.path("socket"));
        serve(&bench, &socket, &Access::default(), 0);
        bench.boot().await;
        bench.event("running", |status| status.phase == Phase::Running).await;
        let mut watcher = zlink::tokio::unix::connect(&socket).await.unwrap();
        let mut events = pin!(watcher.monitor().await.unwrap());
        let event = events.next().await.unwrap().unwrap().unwrap().event;
        assert_eq!((event.sequence, event.status.phase), (0, Phase::Running));
    });
}

#[test]
fn a_watcher_stays_when_those_who_ask_nothing_are_gone() {
    on_loop(async {
        let device = Device::new();
        let slot = wire_slot(device.install(&Payload::reactor("(i32.const 0)", WORK), false));
        let (bench, socket) = (device.supervisor(), device.path("socket"));
        let limits = varlink::Limits { idle: Duration::from_millis(200), ..varlink::Limits::default() };
        serve_within(&bench, &socket, &Access::default(), 0, limits);
        let mut watcher = zlink::tokio::unix::connect(&socket).await.unwrap();
        let mut events = pin!(watcher.monitor().await.unwrap());
        // Each begins after the watcher, and lasts as long as one may that asks nothing.
        for _ in 0..2 {
            let mut silent = tokio::net::UnixStream::connect(&socket).await.unwrap();
            assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0);
        }
        bench.supervisor.start("probe", slot, true).await.unwrap();
        assert_eq!(events.next().await.unwrap().unwrap().unwrap().event.sequence, 1);
    });
}

#[test]
fn what_is_left_of_a_hold_grows_less_while_nobody_says_anything() {
    on_loop(async {
        let device = Device::new();
        let run = "(drop (call $hold (i32.const 2))) (drop (call $wait (i64.const 3600000)))";
        let slot = wire_slot(device.install(&Payload::reactor("(i32.const 0)", run), false));
        let (mut bench, socket) = (device.supervisor(), device.path("socket"));
        serve(&bench, &socket, &Access::default(), 0);
        bench.supervisor.start("probe", slot, true).await.unwrap();
        bench.event("holding", |status| status.hold_s == 2).await;
        let mut caller = zlink::tokio::unix::connect(&socket).await.unwrap();
        let mut left = vec![2];
        while left.last() != Some(&0) {
            left.push(caller.get_status().await.unwrap().unwrap().payloads[0].hold_s);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(left.is_sorted_by(|before, after| before >= after), "{left:?}");
        assert!(bench.events.try_recv().is_err(), "it was no event");
    });
}

#[test]
fn a_failed_start_is_told_with_its_reason_while_others_are_served() {
    on_loop(async {
        let device = Device::new();
        let payload = Payload::reactor(&format!("{SPIN} (i32.const 0)"), WORK)
            .settings("[limits]\nself_test_ms = 1000\nfuel = 10_000_000_000");
        let slot = wire_slot(device.install(&payload, false));
        let (mut bench, socket) = (device.supervisor(), device.path("socket"));
        serve(&bench, &socket, &Access::default(), 0);
        let mut caller = zlink::tokio::unix::connect(&socket).await.unwrap();
        let mut other = zlink::tokio::unix::connect(&socket).await.unwrap();
        let meanwhile = async {
            bench.event("in its self-test", |status| status.phase == Phase::SelfTest).await;
            other.get_status().await.unwrap().unwrap().payloads[0].phase
        };
        let (started, phase) = tokio::join!(caller.start("probe", slot, true), meanwhile);
        assert_eq!(phase, Phase::SelfTest);
        let refused = started.unwrap();
        let expected = matches!(&refused, Err(SupervisorError::StartFailed { reason: Reason::SelfTestFailed, .. }));
        assert!(expected, "{refused:?}");
    });
}

#[test]
fn only_who_is_on_the_list_gives_orders() {
    on_loop(async {
        let device = Device::new();
        let slot = wire_slot(device.install(&Payload::reactor("(i32.const 0)", WORK), false));
        let (bench, socket) = (device.supervisor(), device.path("socket"));
        serve(&bench, &socket, &Access::default(), 4242);
        let mut caller = zlink::tokio::unix::connect(&socket).await.unwrap();
        let denied = Some(SupervisorError::PermissionDenied { uid: 4242 });
        assert_eq!(caller.start("probe", slot, true).await.unwrap().err(), denied);
        assert_eq!(caller.stop("probe").await.unwrap().err(), denied);
        assert_eq!(caller.confirm("probe", slot).await.unwrap().err(), denied);
        assert!(caller.get_status().await.unwrap().unwrap().payloads.is_empty());
    });
}

#[test]
fn whoever_may_not_observe_sees_nothing() {
    on_loop(async {
        let device = Device::new();
        let (bench, socket) = (device.supervisor(), device.path("socket"));
        serve(&bench, &socket, &Access { observe: vec![], control: vec![] }, 4242);
        let mut caller = zlink::tokio::unix::connect(&socket).await.unwrap();
        let denied = Some(SupervisorError::PermissionDenied { uid: 4242 });
        assert_eq!(caller.get_status().await.unwrap().err(), denied);
        let mut events = pin!(caller.monitor().await.unwrap());
        assert_eq!(events.next().await.unwrap().unwrap().err(), denied);
    });
}

#[test]
fn the_interface_describes_itself() {
    on_loop(async {
        let device = Device::new();
        let (bench, socket) = (device.supervisor(), device.path("socket"));
        serve(&bench, &socket, &Access::default(), 0);
        let mut caller = tokio::net::UnixStream::connect(&socket).await.unwrap();
        let call = r#"{"method":"org.varlink.service.GetInterfaceDescription","#.to_owned()
            + r#""parameters":{"interface":"io.iotwasm.Supervisor"}}"#;
        caller.write_all(call.as_bytes()).await.unwrap();
        caller.write_all(&[0]).await.unwrap();
        let mut reply = Vec::new();
        while !reply.ends_with(&[0]) {
            caller.read_buf(&mut reply).await.unwrap();
        }
        let text = String::from_utf8(reply).unwrap();
        for word in [
            "method Start(",
            "method Monitor(",
            "type PayloadStatus",
            "hold_s: int",
            "type Reason",
            "error StartFailed",
            "self_test",
        ] {
            assert!(text.contains(word), "{word} is not in\n{text}");
        }
    });
}
