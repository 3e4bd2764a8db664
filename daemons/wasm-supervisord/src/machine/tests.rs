use super::*;
use iotwasm_api::supervisor::Phase;
use proptest::prelude::*;

const S: Duration = Duration::from_secs(1);
const TERMS: Terms =
    Terms { self_test: Duration::from_secs(5), heartbeat: Duration::from_secs(30), stop: Duration::from_secs(2) };

/// A machine with a clock.
struct Bench {
    machine: Machine,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self { machine: Machine::new(Slot::A), now: Instant::now() }
    }

    fn apply(&mut self, event: Event) -> Vec<Action> {
        self.machine.apply(event, self.now)
    }

    fn start(&mut self, slot: Slot, trial: bool, ticket: Ticket) -> Vec<Action> {
        self.apply(Event::Start { slot, trial, ticket: Some(ticket) })
    }

    fn prepared(&mut self, generation: Generation) -> Vec<Action> {
        let identity = Identity { version: format!("1.0.{generation}"), sha256: String::new() };
        self.apply(Event::Prepared { generation, terms: TERMS, identity })
    }

    fn passed(&mut self, generation: Generation) -> Vec<Action> {
        self.apply(Event::SelfTestPassed { generation })
    }

    fn report(&mut self, generation: Generation, health: Health) -> Vec<Action> {
        self.apply(Event::Reported { generation, report: Report { health, message: "m".into() } })
    }

    /// Hold for so many seconds; what is left by the status.
    fn hold(&mut self, generation: Generation, seconds: u32) -> i64 {
        assert_eq!(self.apply(Event::Held { generation, time: S * seconds }), []);
        self.status().hold_s
    }

    fn end(&mut self, generation: Generation, reason: Reason) -> Vec<Action> {
        self.apply(Event::Ended { generation, end: End::new(reason, "why") })
    }

    /// Let the next deadline pass.
    fn wake(&mut self) -> (Duration, Vec<Action>) {
        let at = self.machine.wake().expect("a deadline is set");
        let waited = at.saturating_duration_since(self.now);
        self.now = self.now.max(at);
        (waited, self.apply(Event::Tick))
    }

    /// Started by ticket 1, past its self-test, generation 1.
    fn running(trial: bool) -> Self {
        let mut bench = Self::new();
        assert_eq!(bench.start(Slot::A, trial, 1), [Action::Prepare { generation: 1, slot: Slot::A }]);
        assert_eq!(bench.prepared(1), [Action::Begin { generation: 1 }]);
        assert_eq!(bench.passed(1), [Action::Started { ticket: 1, outcome: Ok(()) }]);
        bench
    }

    fn phase(&self) -> Phase {
        self.machine.phase()
    }

    fn status(&self) -> iotwasm_api::supervisor::PayloadStatus {
        self.machine.status("p", 0, String::new(), self.now)
    }
}

fn refused(ticket: Ticket, reason: Reason) -> Action {
    Action::Started { ticket, outcome: Err(End::new(reason, "why")) }
}

#[test]
fn start_is_answered_when_the_self_test_has_passed() {
    let mut bench = Bench::new();
    bench.start(Slot::B, true, 7);
    assert_eq!(bench.phase(), Phase::Starting);
    bench.prepared(1);
    assert_eq!(bench.phase(), Phase::SelfTest);
    bench.now += Duration::from_millis(120);
    assert_eq!(bench.passed(1), [Action::Started { ticket: 7, outcome: Ok(()) }]);
    let status = bench.status();
    assert_eq!((status.phase, status.slot, status.trial, status.start_ms), (Phase::Running, Slot::B, true, 120));
    assert_eq!((status.version.as_str(), status.starts, status.crashes), ("1.0.1", 1, 0));
}

#[test]
fn a_swap_tells_how_long_nothing_ran_and_a_first_start_tells_none() {
    let ms = Duration::from_millis;
    let mut bench = Bench::running(false);
    assert_eq!(bench.status().interruption_ms, 0);
    bench.start(Slot::B, true, 2);
    // Prepared while the old one works: costs nothing.
    bench.now += ms(500);
    bench.prepared(2);
    bench.now += ms(30);
    assert_eq!(bench.end(1, Reason::Stopped), [Action::Begin { generation: 2 }]);
    bench.now += ms(70);
    bench.passed(2);
    let status = bench.status();
    assert_eq!((status.start_ms, status.self_test_ms, status.interruption_ms), (600, 70, 100));
}

#[test]
fn a_failed_self_test_ends_a_trial_for_good() {
    let mut bench = Bench::new();
    bench.start(Slot::A, true, 1);
    bench.prepared(1);
    let actions = bench.end(1, Reason::SelfTestFailed);
    assert_eq!(actions, [Action::Count { reason: Reason::SelfTestFailed }, refused(1, Reason::SelfTestFailed)]);
    assert_eq!((bench.phase(), bench.machine.wake()), (Phase::Failed, None));
}

#[test]
fn a_self_test_without_end_is_killed_after_the_runners_own_limit() {
    let mut bench = Bench::new();
    bench.start(Slot::A, true, 1);
    bench.prepared(1);
    let (waited, actions) = bench.wake();
    assert_eq!((waited, actions), (TERMS.self_test + SELF_TEST_GRACE, vec![Action::Kill { generation: 1 }]));
    let actions = bench.end(1, Reason::Killed);
    assert!(actions.contains(&Action::Count { reason: Reason::SelfTestFailed }), "{actions:?}");
}

#[test]
fn a_missed_heartbeat_kills_and_a_report_in_time_does_not() {
    let mut bench = Bench::running(true);
    bench.now += S * 29;
    bench.report(1, Health::Healthy);
    bench.now += S * 29;
    bench.report(1, Health::Degraded);
    let (waited, actions) = bench.wake();
    assert_eq!((waited, actions), (S * 30, vec![Action::Kill { generation: 1 }]));
    assert_eq!(bench.end(1, Reason::Killed), [Action::Count { reason: Reason::HeartbeatMissed }]);
    assert_eq!((bench.phase(), bench.status().reason), (Phase::Failed, Some(Reason::HeartbeatMissed)));
}

#[test]
fn a_committed_payload_is_restarted_with_growing_pauses() {
    let mut bench = Bench::running(false);
    for (round, pause) in [1, 2, 4, 8].into_iter().enumerate() {
        let generation = round as u64 + 1;
        bench.end(generation, Reason::Trap);
        assert_eq!(bench.phase(), Phase::Backoff);
        let (waited, actions) = bench.wake();
        assert_eq!(waited, S * pause);
        assert_eq!(actions, [Action::Prepare { generation: generation + 1, slot: Slot::A }]);
        bench.prepared(generation + 1);
        bench.passed(generation + 1);
    }
    assert_eq!((bench.status().crashes, bench.status().starts), (4, 5));
}

#[test]
fn a_trial_is_never_restarted_but_once_confirmed_it_is() {
    let mut bench = Bench::running(true);
    assert_eq!(
        bench.apply(Event::Confirm { slot: Slot::A, ticket: 2 }),
        [Action::Confirmed { ticket: 2, outcome: Ok(()) }]
    );
    bench.end(1, Reason::Trap);
    assert_eq!(bench.phase(), Phase::Backoff);
}

#[test]
fn only_the_running_slot_can_be_confirmed() {
    let mut bench = Bench::running(true);
    let is_refused = |actions: &[Action]| matches!(actions, [Action::Confirmed { outcome: Err(_), .. }]);
    assert!(is_refused(&bench.apply(Event::Confirm { slot: Slot::B, ticket: 2 })));
    bench.end(1, Reason::Trap);
    assert!(is_refused(&bench.apply(Event::Confirm { slot: Slot::A, ticket: 3 })));
}

#[test]
fn a_swap_prepares_the_new_one_before_it_stops_the_old() {
    let mut bench = Bench::running(false);
    assert_eq!(bench.start(Slot::B, true, 2), [Action::Prepare { generation: 2, slot: Slot::B }]);
    assert_eq!((bench.phase(), bench.status().slot), (Phase::Running, Slot::A));
    assert_eq!(bench.prepared(2), [Action::AskStop { generation: 1 }]);
    assert_eq!(bench.end(1, Reason::Exited), [Action::Begin { generation: 2 }]);
    assert_eq!((bench.phase(), bench.status().slot, bench.status().crashes), (Phase::SelfTest, Slot::B, 0));
}

#[test]
fn a_new_one_that_does_not_verify_leaves_the_old_one_running() {
    let mut bench = Bench::running(false);
    bench.start(Slot::B, true, 2);
    let actions = bench.end(2, Reason::NotVerified);
    assert_eq!(actions, [Action::Count { reason: Reason::NotVerified }, refused(2, Reason::NotVerified)]);
    assert_eq!((bench.phase(), bench.status().slot), (Phase::Running, Slot::A));
}

#[test]
fn a_trial_that_does_not_verify_leaves_a_pausing_payload_to_its_pause() {
    let mut bench = Bench::running(false);
    bench.end(1, Reason::Trap);
    bench.start(Slot::B, true, 2);
    bench.end(2, Reason::NotVerified);
    assert_eq!((bench.phase(), bench.status().slot), (Phase::Backoff, Slot::A));
    assert_eq!(bench.wake().1, [Action::Prepare { generation: 3, slot: Slot::A }]);
}

#[test]
fn what_does_not_verify_or_asks_for_too_much_at_boot_is_not_tried_again() {
    for hopeless in [Reason::NotVerified, Reason::BadPayload, Reason::CapabilityRefused] {
        let mut bench = Bench::new();
        bench.apply(Event::Start { slot: Slot::A, trial: false, ticket: None });
        bench.end(1, hopeless);
        assert_eq!((bench.phase(), bench.machine.wake()), (Phase::Failed, None), "{hopeless}");
        bench.apply(Event::Start { slot: Slot::A, trial: false, ticket: None });
        bench.end(2, Reason::StartFailed);
        assert_eq!(bench.phase(), Phase::Backoff);
    }
}

#[test]
fn a_stop_is_answered_when_everything_has_gone_and_kills_after_its_deadline() {
    let mut bench = Bench::running(false);
    assert_eq!(bench.apply(Event::Stop { ticket: 2 }), [Action::AskStop { generation: 1 }]);
    let (waited, actions) = bench.wake();
    assert_eq!((waited, actions), (TERMS.stop, vec![Action::Kill { generation: 1 }]));
    assert_eq!(bench.machine.wake(), None);
    assert_eq!(bench.end(1, Reason::Killed), [Action::Stopped { ticket: 2 }]);
    assert_eq!(
        (bench.phase(), bench.status().reason, bench.status().crashes),
        (Phase::Stopped, Some(Reason::Stopped), 0)
    );
    assert_eq!(bench.apply(Event::Stop { ticket: 3 }), [Action::Stopped { ticket: 3 }]);
}

#[test]
fn a_stop_during_preparation_waits_for_its_process_too() {
    let mut bench = Bench::new();
    bench.start(Slot::A, true, 1);
    let actions = bench.apply(Event::Stop { ticket: 2 });
    assert!(matches!(
        &actions[..],
        [
            Action::Kill { generation: 1 },
            Action::Started { ticket: 1, outcome: Err(End { reason: Reason::Stopped, .. }) }
        ]
    ));
    assert_eq!(bench.end(1, Reason::Stopped), [Action::Stopped { ticket: 2 }]);
    assert!(bench.machine.is_quiet());
}

#[test]
fn a_stop_ends_the_pauses_of_a_crashing_payload() {
    let mut bench = Bench::running(false);
    bench.end(1, Reason::Trap);
    assert_eq!(bench.apply(Event::Stop { ticket: 2 }), [Action::Stopped { ticket: 2 }]);
    assert_eq!((bench.phase(), bench.machine.wake()), (Phase::Stopped, None));
}

#[test]
fn an_order_to_stop_outweighs_a_failure_under_way() {
    let mut bench = Bench::running(false);
    assert_eq!(bench.report(1, Health::Failed), [Action::AskStop { generation: 1 }]);
    bench.apply(Event::Stop { ticket: 2 });
    assert_eq!(bench.end(1, Reason::Exited), [Action::Stopped { ticket: 2 }]);
    assert_eq!(bench.phase(), Phase::Stopped);
}

#[test]
fn a_payload_that_reports_its_failure_is_ended_for_it() {
    let mut bench = Bench::running(true);
    bench.report(1, Health::Failed);
    assert_eq!(bench.end(1, Reason::Exited), [Action::Count { reason: Reason::ReportedFailed }]);
    assert_eq!((bench.phase(), bench.status().message.as_str()), (Phase::Failed, "m"));
}

#[test]
fn a_hold_runs_out_by_the_clock_and_sets_no_deadline() {
    let mut bench = Bench::running(true);
    let wake = bench.machine.wake();
    assert_eq!(bench.hold(1, 20), 20);
    bench.now += Duration::from_millis(1);
    assert_eq!(bench.status().hold_s, 20, "rounded up");
    bench.now += Duration::from_millis(19_998);
    assert_eq!(bench.status().hold_s, 1);
    bench.now += Duration::from_millis(1);
    assert_eq!((bench.status().hold_s, bench.machine.wake()), (0, wake));
}

#[test]
fn another_hold_takes_the_place_of_the_first_and_none_releases() {
    let mut bench = Bench::running(false);
    assert_eq!([bench.hold(1, 60), bench.hold(1, 10), bench.hold(1, 3600)], [60, 10, 3600]);
    assert_eq!((bench.hold(1, 0), bench.machine.held_until()), (0, None));
}

#[test]
fn a_hold_ends_with_its_run_however_that_ends() {
    for reason in [Reason::Trap, Reason::Exited, Reason::Killed] {
        let mut bench = Bench::running(false);
        bench.hold(1, 60);
        bench.end(1, reason);
        assert_eq!((bench.status().hold_s, bench.machine.held_until()), (0, None), "{reason}");
        bench.wake();
        bench.prepared(2);
        bench.passed(2);
        assert_eq!(bench.status().hold_s, 0, "the next run has to ask itself");
    }
}

#[test]
fn what_is_being_stopped_still_holds_until_it_has_gone() {
    let mut bench = Bench::running(false);
    bench.hold(1, 60);
    bench.apply(Event::Stop { ticket: 2 });
    assert_eq!([bench.status().hold_s, bench.hold(1, 5)], [60, 5]);
    bench.end(1, Reason::Exited);
    assert_eq!(bench.status().hold_s, 0);
}

#[test]
fn over_quota_is_its_own_reason() {
    let mut bench = Bench::running(true);
    assert_eq!(
        bench.apply(Event::OverQuota { generation: 1, message: "full".into() }),
        [Action::AskStop { generation: 1 }]
    );
    assert_eq!(bench.end(1, Reason::Exited), [Action::Count { reason: Reason::StorageQuota }]);
}

#[test]
fn preparation_without_end_is_given_up() {
    let mut bench = Bench::new();
    bench.start(Slot::A, true, 1);
    let (waited, actions) = bench.wake();
    assert_eq!((waited, actions), (PREPARE_LIMIT, vec![Action::Kill { generation: 1 }]));
    assert_eq!(bench.prepared(1), [], "too late");
    let actions = bench.end(1, Reason::Killed);
    assert!(matches!(
        &actions[1],
        Action::Started { ticket: 1, outcome: Err(End { reason: Reason::StartFailed, .. }) }
    ));
}

#[test]
fn a_second_order_to_start_takes_the_place_of_the_first() {
    let mut bench = Bench::new();
    bench.start(Slot::A, true, 1);
    let actions = bench.start(Slot::B, true, 2);
    assert_eq!(actions.first(), Some(&Action::Kill { generation: 1 }));
    assert_eq!(actions.last(), Some(&Action::Prepare { generation: 2, slot: Slot::B }));
    assert_eq!(bench.end(1, Reason::Stopped), []);
    assert_eq!(bench.prepared(2), [Action::Begin { generation: 2 }]);
}

#[test]
fn news_of_an_earlier_run_change_nothing() {
    let mut bench = Bench::running(false);
    bench.end(1, Reason::Trap);
    bench.wake();
    bench.prepared(2);
    let before = bench.status();
    bench.passed(1);
    bench.report(1, Health::Failed);
    bench.hold(1, 60);
    bench.hold(3, 60);
    assert_eq!(bench.end(1, Reason::Trap), []);
    assert_eq!(bench.status(), before);
}

/// One step of a random life: an order, or something that a real edge could tell at this point.
#[derive(Debug, Clone)]
enum Step {
    Start { slot: bool, trial: bool },
    Stop,
    Confirm { slot: bool },
    Advance { pick: usize, outcome: u8 },
    Wait,
    Skip { seconds: u64 },
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (any::<bool>(), any::<bool>()).prop_map(|(slot, trial)| Step::Start { slot, trial }),
        1 => Just(Step::Stop),
        1 => any::<bool>().prop_map(|slot| Step::Confirm { slot }),
        6 => (any::<usize>(), any::<u8>()).prop_map(|(pick, outcome)| Step::Advance { pick, outcome }),
        2 => Just(Step::Wait),
        1 => (0..400u64).prop_map(|seconds| Step::Skip { seconds }),
    ]
}

/// The edge as its contract says: what exists, how far it is.
#[derive(Debug, Default)]
struct World {
    /// Generation → (begun, killed).
    runs: std::collections::BTreeMap<Generation, (bool, bool)>,
    open: std::collections::BTreeSet<Ticket>,
    trial_prepares: usize,
}

impl World {
    fn obey(&mut self, actions: &[Action]) -> Result<(), TestCaseError> {
        for action in actions {
            match action {
                Action::Prepare { generation, .. } => {
                    prop_assert!(self.runs.insert(*generation, (false, false)).is_none());
                    self.trial_prepares += 1;
                }
                Action::Begin { generation } => {
                    prop_assert!(self.runs.values().all(|(begun, _)| !begun), "two begun at once: {self:?}");
                    self.runs.get_mut(generation).expect("begun ones exist").0 = true;
                }
                Action::AskStop { generation } => prop_assert!(self.runs.contains_key(generation)),
                Action::Kill { generation } => self.runs.get_mut(generation).expect("killed ones exist").1 = true,
                Action::Started { ticket, .. } | Action::Stopped { ticket } | Action::Confirmed { ticket, .. } => {
                    prop_assert!(self.open.remove(ticket), "answered twice: {ticket}");
                }
                Action::Count { .. } => {}
            }
        }
        Ok(())
    }
}

proptest! {
    /// Whatever happens in whatever order: never two runs begun at once, every caller is answered exactly once, nobody
    /// but the run that is alive holds, and after an order to stop everything ends and nothing starts again.
    #[test]
    fn a_random_life_keeps_the_rules(steps in prop::collection::vec(any_step(), 1..80)) {
        let mut bench = Bench::new();
        let mut world = World::default();
        let mut ticket = 0;
        let mut hold = None;
        let slot = |b| if b { Slot::A } else { Slot::B };
        for step in steps {
            ticket += 1;
            let event = match step {
                Step::Start { slot: s, trial } => Event::Start { slot: slot(s), trial, ticket: Some(ticket) },
                Step::Stop => Event::Stop { ticket },
                Step::Confirm { slot: s } => Event::Confirm { slot: slot(s), ticket },
                Step::Wait => {
                    if let Some(at) = bench.machine.wake() {
                        bench.now = bench.now.max(at);
                    }
                    Event::Tick
                }
                Step::Skip { seconds } => {
                    bench.now += S * u32::try_from(seconds).unwrap();
                    Event::Tick
                }
                Step::Advance { pick, outcome } => {
                    let Some((&generation, &(begun, killed))) = world.runs.iter().nth(pick % world.runs.len().max(1))
                    else { continue };
                    let end = End::new(if outcome % 2 == 0 { Reason::Trap } else { Reason::NotVerified }, "x");
                    match (outcome % 6, begun, killed) {
                        (0, ..) | (_, _, true) => {
                            world.runs.remove(&generation);
                            Event::Ended { generation, end }
                        }
                        (_, false, _) => Event::Prepared { generation, terms: TERMS, identity: Identity::default() },
                        (1, true, _) => Event::SelfTestPassed { generation },
                        (2, true, _) => {
                            let report = Report { health: Health::Failed, message: String::new() };
                            Event::Reported { generation, report }
                        }
                        (3, true, _) => {
                            let time = S * u32::from(outcome / 6);
                            hold = Some((generation, bench.now + time)).filter(|_| !time.is_zero());
                            Event::Held { generation, time }
                        }
                        (_, true, _) => {
                            let report = Report { health: Health::Healthy, message: String::new() };
                            Event::Reported { generation, report }
                        }
                    }
                }
            };
            if matches!(event, Event::Start { .. } | Event::Stop { .. } | Event::Confirm { .. }) {
                world.open.insert(ticket);
            }
            let actions = bench.apply(event);
            world.obey(&actions)?;
            hold = hold.filter(|(generation, _)| bench.machine.alive() == Some(*generation));
            prop_assert_eq!(bench.machine.held_until(), hold.map(|(_, until)| until));
        }
        // However it stands: an order to stop, then every process goes when asked, and all is quiet for good.
        world.open.insert(ticket + 1);
        let actions = bench.apply(Event::Stop { ticket: ticket + 1 });
        world.obey(&actions)?;
        while let Some((&generation, _)) = world.runs.iter().next() {
            world.runs.remove(&generation);
            let actions = bench.end(generation, Reason::Killed);
            world.obey(&actions)?;
        }
        prop_assert!(bench.machine.is_quiet());
        prop_assert_eq!(bench.machine.wake(), None);
        prop_assert!(world.open.is_empty(), "not answered: {:?}", world.open);
    }
}
