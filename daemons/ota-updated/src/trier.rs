//! Carries one payload through its trial, or sees to it that the right slot runs: does what [`crate::trial`] says,
//! against the disk and the supervisor. Runs on a thread of its own for as long as that takes, so that the trial of one
//! payload holds up no check and no trial of another; while it runs it alone writes that payload's slots.

use std::sync::Arc;
use std::time::{Duration, Instant};

use iotwasm_api::Reason;
use iotwasm_api::ota::{Attempt, Outcome};
use iotwasm_api::supervisor::{PayloadStatus, SupervisorError};
use iotwasm_kit::{info, report, warn};
use iotwasm_payload::Slot;
use iotwasm_payload::slot::{self, Release};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::journal;
use crate::shared::{Shared, now_text};
use crate::slots::{self, Slots};
use crate::supervisor::{self, News, Supervisor};
use crate::trial::{Action, Event, Rules, Trial};

/// Pause between two attempts to reach a supervisor that is not there.
const PAUSE: Duration = Duration::from_millis(500);

/// What the worker may tell a trial under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// The signed metadata withdraws the release.
    Withdrawn(String),
    /// The daemon stops: leave everything as it is.
    Quit,
}

/// Why a trial could not go on. What is on the disk is whole; the next check takes it up again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The slot state could not be written.
    #[error("could not go on with the trial")]
    Slots(#[from] slots::Error),
    /// The thread could not wait for anything.
    #[error("could not set up the trial's event loop")]
    Runtime(#[source] std::io::Error),
}

/// One payload to look after.
#[derive(Debug)]
pub(crate) struct Job {
    /// Its slots.
    pub(crate) slots: Slots,
    /// How its trial is judged.
    pub(crate) rules: Rules,
    /// How long its self-test may take.
    pub(crate) self_test: Duration,
    /// Who runs it.
    pub(crate) supervisor: Supervisor,
    /// Where the story is told.
    pub(crate) shared: Arc<Shared>,
    /// What the worker has to say.
    pub(crate) commands: UnboundedReceiver<Command>,
    /// News that came while the reply to a start was awaited.
    pub(crate) early: Option<PayloadStatus>,
}

/// How one wait ended.
enum Heard {
    Event(Event),
    Quit,
}

impl Job {
    /// Carries the trial to its end, if there is one, and then makes the supervisor run what is committed.
    pub(crate) fn run(mut self) -> Result<(), Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
        tokio::task::LocalSet::new().block_on(&runtime, async move {
            match self.slots.state().trial().map(|(slot, release, boots)| (slot, release.clone(), boots)) {
                Some((slot, release, boots)) => self.carry(slot, &release, boots).await,
                None => {
                    self.settle().await;
                    Ok(())
                }
            }
        })
    }

    async fn carry(&mut self, slot: Slot, release: &Release, boots: u8) -> Result<(), Error> {
        let attempt = self.attempt(slot, release, boots);
        let origin = Instant::now();
        let (mut trial, mut action) = Trial::resume(self.rules, slots::to_api(slot), boots, Duration::ZERO);
        let mut news = None;
        loop {
            let heard = match action {
                Action::Connect { until } => {
                    news = None;
                    match self.supervisor.news().await {
                        Ok(connected) => {
                            news = Some(connected);
                            Heard::Event(Event::Connected)
                        }
                        Err(err) => {
                            warn!("{}", report::chain(&err));
                            let until = until.min(origin.elapsed() + PAUSE);
                            self.wait(&mut None, Some(origin + until)).await
                        }
                    }
                }
                Action::SpendBoot => {
                    self.slots.apply(&slot::Event::TrialStarted { slot })?;
                    self.show();
                    let boots_left = self.slots.state().trial().map_or(0, |(_, _, left)| left);
                    Heard::Event(Event::BootSpent { boots_left })
                }
                Action::Start => self.start(slot, &mut news).await,
                Action::Wait { until } => self.wait(&mut news, until.map(|until| origin + until)).await,
                Action::Commit => return self.commit(slot, attempt).await,
                Action::RollBack { reason, message, remember } => {
                    return self.roll_back(slot, attempt, reason, message, remember).await;
                }
            };
            let Heard::Event(event) = heard else { return Ok(()) };
            action = trial.step(origin.elapsed(), event);
        }
    }

    /// The attempt in the history that this trial belongs to; a new one if the history was lost.
    fn attempt(&self, slot: Slot, release: &Release, boots: u8) -> i64 {
        let sha256 = release.sha256.to_string();
        let slot = slots::to_api(slot);
        let number = match self.shared.open_attempt(self.slots.id()) {
            Some(open) if open.sha256 == sha256 => open.number,
            _ => {
                let attempt = journal::blank(self.slots.id(), Outcome::Trial, String::new(), &now_text());
                let version = release.version().to_string();
                self.shared.note(Attempt { version, sha256, slot: Some(slot), ..attempt })
            }
        };
        self.shared.update(number, |attempt| {
            attempt.outcome = Outcome::Trial;
            attempt.slot = Some(slot);
            attempt.message = format!(
                "in trial: healthy for {} s commits it; {boots} starts left",
                self.rules.confirmation.as_secs_f64()
            );
        });
        number
    }

    /// Orders the start and waits for its answer.
    async fn start(&mut self, slot: Slot, news: &mut Option<News>) -> Heard {
        let id = self.slots.id().to_owned();
        let supervisor = self.supervisor.clone();
        let start = supervisor.start(&id, slots::to_api(slot), true, self.self_test);
        tokio::pin!(start);
        loop {
            tokio::select! {
                reply = &mut start => return Heard::Event(started(reply)),
                command = self.commands.recv() => match command {
                    Some(Command::Withdrawn(message)) => return Heard::Event(Event::Withdrawn { message }),
                    Some(Command::Quit) | None => return Heard::Quit,
                },
                seen = next_of(news, &id) => match seen {
                    // The end of a trial may be told before the reply to its start is read. The last news are enough:
                    // a trial that ended is not started again.
                    Some(status) => self.early = Some(status),
                    None => return Heard::Event(Event::Lost),
                },
            }
        }
    }

    /// Waits for news, a command, or a time.
    async fn wait(&mut self, news: &mut Option<News>, until: Option<Instant>) -> Heard {
        if let Some(status) = self.early.take() {
            return Heard::Event(Event::Seen(status));
        }
        let id = self.slots.id();
        let time = async {
            match until {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = time => Heard::Event(Event::Tick),
            command = self.commands.recv() => match command {
                Some(Command::Withdrawn(message)) => Heard::Event(Event::Withdrawn { message }),
                Some(Command::Quit) | None => Heard::Quit,
            },
            seen = next_of(news, id), if news.is_some() => match seen {
                Some(status) => Heard::Event(Event::Seen(status)),
                None => Heard::Event(Event::Lost),
            },
        }
    }

    async fn commit(&mut self, slot: Slot, attempt: i64) -> Result<(), Error> {
        self.slots.apply(&slot::Event::Confirmed { slot })?;
        self.show();
        self.shared.update(attempt, |a| {
            (a.outcome, a.ended) = (Outcome::Committed, now_text());
            a.message = format!("healthy for {} s", self.rules.confirmation.as_secs_f64());
        });
        self.settle().await;
        Ok(())
    }

    async fn roll_back(
        &mut self,
        slot: Slot,
        attempt: i64,
        reason: Reason,
        message: String,
        remember: bool,
    ) -> Result<(), Error> {
        // Before the slots change hands: nothing may run from one that can be written. A supervisor that is gone runs
        // nothing, and when it comes back it reads what is on the disk by then.
        if let Err(err) = self.supervisor.stop(self.slots.id()).await {
            warn!("{}: {}", self.slots.id(), report::chain(&err));
        }
        let undone = self.slots.apply(&if remember {
            slot::Event::TrialFailed { slot, reason: reason.as_str().to_owned() }
        } else {
            slot::Event::TrialAbandoned { slot }
        });
        if let Err(err) = undone {
            // A disk that takes no more: the trial is still written down and goes on from there, and the machine works
            // meanwhile.
            self.settle().await;
            return Err(err.into());
        }
        self.show();
        self.shared.update(attempt, |a| {
            (a.outcome, a.reason, a.message, a.ended) = (Outcome::RolledBack, Some(reason), message, now_text());
        });
        self.settle().await;
        Ok(())
    }

    /// Makes the supervisor run what is committed. Only a courtesy where it fails: whenever the supervisor starts, it
    /// reads what is committed by itself. A refusal for the moment (what is to be confirmed has just ended) is looked at
    /// again: what ended as a trial must start as what it is now.
    async fn settle(&mut self) {
        let committed = self.slots.state().committed().map(|(slot, _)| slots::to_api(slot));
        let deadline = Instant::now() + self.rules.patience;
        loop {
            let err = tokio::select! {
                settled = self.supervisor.settle(self.slots.id(), committed, self.self_test) => match settled {
                    Ok(()) => return,
                    Err(err) => err,
                },
                // No trial, so no withdrawal: the daemon stops.
                _ = self.commands.recv() => return,
            };
            let passing = matches!(
                err,
                supervisor::Error::Connect { .. }
                    | supervisor::Error::Broken { .. }
                    | supervisor::Error::Refused { err: SupervisorError::WrongState { .. }, .. }
            );
            warn!("{}: {}", self.slots.id(), report::chain(&err));
            let pause = Some(Instant::now() + PAUSE);
            if !passing || Instant::now() >= deadline || matches!(self.wait(&mut None, pause).await, Heard::Quit) {
                return;
            }
        }
    }

    fn show(&self) {
        self.shared.set_payload(self.slots.info());
        info!("{}: {}", self.slots.id(), self.slots.state());
    }
}

/// The next news of this payload; none when the supervisor is gone.
async fn next_of(news: &mut Option<News>, id: &str) -> Option<PayloadStatus> {
    let news = news.as_mut()?;
    loop {
        let status = news.next().await?;
        if status.payload == id {
            return Some(status);
        }
    }
}

fn started(reply: Result<iotwasm_api::supervisor::Started, supervisor::Error>) -> Event {
    match reply {
        Ok(started) => Event::Started(started.status),
        Err(supervisor::Error::Refused { err: SupervisorError::StartFailed { reason, message }, .. }) => {
            Event::StartFailed { reason, message }
        }
        Err(err @ supervisor::Error::Refused { .. }) => {
            Event::StartFailed { reason: Reason::StartFailed, message: report::chain(&err) }
        }
        Err(err) => {
            warn!("{}", report::chain(&err));
            Event::Lost
        }
    }
}
