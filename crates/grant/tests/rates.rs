//! Token buckets: never more than burst + rate·t, whatever is tried.

use std::time::Duration;

use iotwasm_grant::{BucketState, Rate, TokenBucket};
use proptest::prelude::*;

const START: Duration = Duration::from_secs(1000);

fn at(ms: u64) -> Duration {
    START + Duration::from_millis(ms)
}

#[test]
fn a_burst_passes_and_then_only_the_rate() {
    let mut bucket = TokenBucket::new(Rate { writes_per_minute: 60, burst: 3 }, START);
    assert_eq!((0..5).filter(|_| bucket.take(START).is_ok()).count(), 3);
    assert_eq!(bucket.take(at(1)).unwrap_err().wait, Duration::from_millis(999));
    assert!(bucket.take(at(999)).is_err() && bucket.take(at(1000)).is_ok() && bucket.take(at(1000)).is_err());
    assert_eq!((0..5).filter(|_| bucket.take(at(60_000)).is_ok()).count(), 3, "it never holds more than the burst");
}

#[test]
fn a_restart_does_not_fill_it_again() {
    let rate = Rate { writes_per_minute: 60, burst: 3 };
    let mut bucket = TokenBucket::new(rate, START);
    while bucket.take(START).is_ok() {}
    let state: BucketState = serde_json::from_str(&serde_json::to_string(&bucket.state()).unwrap()).unwrap();
    let mut bucket = TokenBucket::restore(rate, state, at(500));
    assert!(bucket.take(at(500)).is_err() && bucket.take(at(1000)).is_ok());
}

#[test]
fn a_forged_or_foreign_state_is_no_more_than_a_burst() {
    let rate = Rate { writes_per_minute: 60, burst: 2 };
    let state = BucketState { level: u64::MAX, at: Duration::ZERO };
    let mut bucket = TokenBucket::restore(rate, state, START);
    assert_eq!((0..9).filter(|_| bucket.take(START).is_ok()).count(), 2);
    // From another boot, whose clock was further.
    let mut bucket = TokenBucket::restore(rate, BucketState { level: 0, at: Duration::MAX }, START);
    assert!(bucket.take(START).is_err());
    assert!(bucket.take(at(1000)).is_ok(), "and it earns from now on");
}

#[test]
fn a_narrower_rate_holds_after_an_update() {
    let state = TokenBucket::new(Rate { writes_per_minute: 600, burst: 100 }, START).state();
    let mut bucket = TokenBucket::restore(Rate { writes_per_minute: 1, burst: 1 }, state, START);
    assert!(bucket.take(START).is_ok() && bucket.take(at(59_999)).is_err() && bucket.take(at(60_000)).is_ok());
}

#[test]
fn the_boards_rate_holds_for_all_together() {
    let board_rate = Rate { writes_per_minute: 60, burst: 3 };
    let mut board = TokenBucket::new(board_rate, START);
    let mut one = TokenBucket::new(Rate { writes_per_minute: 60, burst: 2 }, START);
    let mut two = one.clone();
    assert!(one.take_with(&mut board, START).is_ok() && one.take_with(&mut board, START).is_ok());
    // Its own is empty: nothing is taken from the board's.
    assert!(one.take_with(&mut board, START).is_err());
    assert!(two.take_with(&mut board, START).is_ok());
    // The board's is empty: nothing is taken from its own.
    let before = two.clone();
    assert_eq!(two.take_with(&mut board, START).unwrap_err().wait, Duration::from_secs(1));
    assert_eq!(two, before);
}

#[test]
fn extremes_neither_panic_nor_open_it() {
    let mut none = TokenBucket::new(Rate { writes_per_minute: 0, burst: 0 }, Duration::ZERO);
    assert_eq!(none.take(Duration::MAX).unwrap_err().wait, Duration::MAX);
    let mut most = TokenBucket::new(Rate { writes_per_minute: u32::MAX, burst: u32::MAX }, Duration::ZERO);
    assert!(most.take(Duration::MAX).is_ok());
    let _ = most.state();
    let mut back = TokenBucket::new(Rate { writes_per_minute: 60, burst: 1 }, START);
    assert!(back.take(START).is_ok() && back.take(Duration::ZERO).is_err(), "a clock that goes back earns nothing");
    assert!(back.take(START).is_err() && back.take(at(1000)).is_ok());
}

/// What may be done with a bucket.
#[derive(Debug, Clone)]
enum Step {
    Take,
    Restart,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![4 => Just(Step::Take), 1 => Just(Step::Restart), 2 => (0..5_000_000_000_u64).prop_map(Step::Pass)]
}

proptest! {
    /// Over every stretch of time, not only from the start, and across restarts: at most burst + rate·t.
    #[test]
    fn never_more_than_burst_and_rate(
        per_minute in 1..2000_u32,
        burst in 1..20_u32,
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let rate = Rate { writes_per_minute: per_minute, burst };
        let mut now = START;
        let mut bucket = TokenBucket::new(rate, now);
        let mut passed: Vec<Duration> = Vec::new();
        for step in steps {
            match step {
                Step::Pass(nanos) => now += Duration::from_nanos(nanos),
                Step::Restart => bucket = TokenBucket::restore(rate, bucket.state(), now),
                Step::Take => match bucket.take(now) {
                    Ok(()) => passed.push(now),
                    Err(soon) => {
                        let mut later = bucket.clone();
                        prop_assert!(later.clone().take(now + soon.wait).is_ok());
                        let before = soon.wait.saturating_sub(Duration::from_nanos(1));
                        prop_assert!(later.take(now + before).is_err());
                    }
                },
            }
        }
        for (i, from) in passed.iter().enumerate() {
            for (j, to) in passed.iter().enumerate().skip(i) {
                let earned = (*to - *from).as_nanos() * u128::from(per_minute) / 60_000_000_000;
                prop_assert!((j - i + 1) as u128 <= u128::from(burst) + earned);
            }
        }
    }
}
