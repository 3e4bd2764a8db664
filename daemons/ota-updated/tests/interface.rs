//! `io.iotwasm.Ota` as its callers see it, over a socket.

mod common;

use std::os::unix::net::UnixListener;
use std::sync::mpsc;

use common::{BOARD, World, until};
use futures_util::StreamExt;
use iotwasm_api::ota::{OtaError, OtaProxy, Outcome};
use iotwasm_kit::access::Access;
use zlink::tokio::unix;

#[test]
fn callers_see_status_history_and_news_and_order_a_check() {
    let mut world = World::new();
    world.repo.release("blinky", "1.0.0");
    world.start().until_committed("1.0.0");
    let socket = world.dir.path().join("ota.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let daemon = world.daemon.take().unwrap();
    let shared = std::sync::Arc::clone(daemon.shared());
    let (stop, stopping) = tokio::sync::oneshot::channel::<()>();
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || {
        let grants = Access::default().resolve().unwrap();
        let shutdown = async {
            let _ = stopping.await;
            Ok(())
        };
        ended.send(daemon.serve(listener, grants, shutdown)).unwrap();
    });

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    world.repo.release("blinky", "1.1.0");
    runtime.block_on(async {
        let mut connection = unix::connect(&socket).await.unwrap();
        let status = connection.get_status().await.unwrap().unwrap();
        assert_eq!((status.device_id.as_str(), status.board.as_str()), ("dev-1", BOARD));
        assert_eq!(status.payloads[0].committed, "1.0.0");
        assert_eq!(status.payloads[0].slots.len(), 2);

        let history = connection.get_history(Some("blinky"), 10, None).await.unwrap().unwrap();
        assert_eq!(history.attempts[0].outcome, Outcome::Committed);
        assert!(connection.get_history(Some("other"), 10, None).await.unwrap().unwrap().attempts.is_empty());
        let refused = connection.get_history(None, 0, None).await.unwrap().unwrap_err();
        assert!(matches!(refused, OtaError::InvalidArgument { .. }));

        let mut listening = unix::connect(&socket).await.unwrap();
        let news = listening.monitor().await.unwrap();
        futures_util::pin_mut!(news);
        let first = news.next().await.unwrap().unwrap().unwrap();
        assert!(first.attempt.is_none());
        connection.check_now().await.unwrap().unwrap();
        let (mut activities, mut outcomes) = (Vec::new(), Vec::new());
        while outcomes.last() != Some(&Outcome::Committed) {
            let news = news.next().await.unwrap().unwrap().unwrap();
            activities.push(news.activity);
            outcomes.extend(news.attempt.map(|attempt| attempt.outcome));
        }
        for activity in ["checking", "downloading", "installing", "trial"] {
            assert!(activities.iter().any(|a| a == activity), "{activity} is not among {activities:?}");
        }
        assert_eq!(outcomes, [Outcome::Installing, Outcome::Trial, Outcome::Committed]);
    });
    until("it is committed", || shared.status().payloads[0].committed == "1.1.0");
    stop.send(()).unwrap();
    end.recv_timeout(common::LIMIT).unwrap().unwrap();
}
