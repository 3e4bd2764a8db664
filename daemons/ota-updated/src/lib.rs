//! ota-updated: fetches, verifies, tries, commits and rolls back payloads and firmware. The only writer of payload slots, the
//! only one who drives RAUC, and the only daemon with a route to the network.
//!
//! Pure core: [`trial`] (one payload's trial), [`schedule`], [`journal`], and the choice of a release and the slot states,
//! which are `iotwasm-payload`'s. Edges around it: [`repository`] (metadata and files), [`slots`] (the disk), [`supervisor`]
//! (what runs), [`firmware`] (the other level, with edges of its own), `service` (who asks). [`worker`] is the thread that puts them together, [`shared`] what it shows.
//!
//! Everything that must survive a stop is on the disk before it is acted upon; at start the daemon derives from the slot
//! states alone what goes on.

pub mod args;
pub mod config;
pub mod disk;
pub mod firmware;
pub mod install;
pub mod journal;
pub mod pulse;
pub mod repository;
pub mod schedule;
mod service;
pub mod shared;
pub mod slots;
pub mod supervisor;
mod transport;
pub mod trial;
mod trier;
pub mod worker;

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use iotwasm_kit::access::Grants;
use iotwasm_kit::metrics::Registry;
use iotwasm_kit::report::{Code, Failure};
use iotwasm_kit::{device, error, info, lifecycle, paths, report, varlink, warn};
use jiff::Timestamp;

use crate::args::Args;
use crate::config::Config;
use crate::firmware::machine;
use crate::pulse::Pulse;
use crate::shared::Shared;
use crate::worker::{Order, Worker};
use iotwasm_payload::Wanted;

/// How long the worker may take to leave. Nothing is lost after that either: only time.
const FAREWELL: Duration = Duration::from_secs(10);
/// How often a worker that has no watchdog to feed is looked at.
const GLANCE: Duration = Duration::from_secs(30);

/// Where the daemon's files are. The device's own, except in tests.
#[derive(Debug, Clone)]
pub struct Places {
    /// The root that the image pins.
    pub pinned_root: PathBuf,
    /// The TUF client's store.
    pub metadata: PathBuf,
    /// Downloads under way.
    pub downloads: PathBuf,
    /// The history.
    pub history: PathBuf,
    /// The payload slots.
    pub payloads: PathBuf,
    /// wasm-supervisord's socket.
    pub supervisor: PathBuf,
    /// What is under way with the firmware.
    pub firmware_state: PathBuf,
    /// Which slot was booted.
    pub booted_slot: PathBuf,
    /// Is there if that is not the first of the boot order.
    pub trial_boot: PathBuf,
    /// Is there if there was no boot order that names a slot.
    pub unordered_boot: PathBuf,
    /// The image's version.
    pub os_release: PathBuf,
    /// RAUC's settings.
    pub rauc_config: PathBuf,
    /// To be made for a restart.
    pub reboot: PathBuf,
    /// To be made when this boot is no trial any more.
    pub kept: PathBuf,
    /// Since when a restart has been due.
    pub restart_due: PathBuf,
    /// The system bus.
    pub bus: String,
    /// The kernel's block devices.
    pub block_devices: PathBuf,
    /// The kernel's power supplies.
    pub power_supplies: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            pinned_root: paths::PINNED_ROOT.into(),
            metadata: paths::TUF_STORE.into(),
            downloads: paths::DOWNLOADS.into(),
            history: paths::HISTORY.into(),
            payloads: paths::PAYLOADS.into(),
            supervisor: paths::SUPERVISOR_SOCKET.into(),
            firmware_state: paths::FIRMWARE_STATE.into(),
            booted_slot: paths::BOOTED_SLOT.into(),
            trial_boot: paths::TRIAL_BOOT.into(),
            os_release: paths::OS_RELEASE.into(),
            rauc_config: paths::RAUC_CONFIG.into(),
            reboot: paths::REBOOT.into(),
            unordered_boot: paths::UNORDERED_BOOT.into(),
            kept: paths::KEPT.into(),
            restart_due: paths::RESTART_DUE.into(),
            bus: std::env::var("DBUS_SYSTEM_BUS_ADDRESS").unwrap_or_else(|_| paths::SYSTEM_BUS.to_owned()),
            block_devices: paths::BLOCK_DEVICES.into(),
            power_supplies: paths::POWER_SUPPLIES.into(),
        }
    }
}

/// Everything that is settled before the daemon starts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The settings.
    pub config: Config,
    /// The payloads that the device is to run.
    pub wanted: Vec<Wanted>,
    /// Where things are.
    pub places: Places,
    /// When the image was built: no time before that is believed.
    pub build_time: Timestamp,
    /// How long the device has been running.
    pub uptime: fn() -> Duration,
}

/// What ends the daemon.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line is wrong.
    #[error("{0}; see ota-updated --help")]
    Usage(lexopt::Error),
    /// The settings are wrong.
    #[error("the configuration is wrong")]
    Config(#[from] config::Error),
    /// The device is not what it should be.
    #[error("this device is not set up")]
    Device(#[from] device::Error),
    /// systemd did not provide what it should.
    #[error("could not start")]
    Lifecycle(#[from] lifecycle::Error),
    /// The repository client could not be set up.
    #[error("could not set up the repository client")]
    Repository(#[from] repository::Error),
    /// A folder on the data partition could not be made.
    #[error("could not make the folder {}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// The cause.
        #[source]
        err: std::io::Error,
    },
    /// The event loop or the worker's thread could not be set up, or the socket broke.
    #[error("could not {what}")]
    Run {
        /// What.
        what: &'static str,
        /// The cause.
        #[source]
        err: std::io::Error,
    },
    /// The worker's thread ended without being told to.
    #[error("the worker ended by itself")]
    WorkerEnded,
}

impl Failure for Error {
    fn exit_code(&self) -> Code {
        match self {
            Self::Usage(_) => Code::Usage,
            Self::Config(err) => err.exit_code(),
            Self::Device(err) => err.exit_code(),
            Self::Lifecycle(err) => err.exit_code(),
            Self::Repository(_) => Code::Config,
            Self::Folder { .. } | Self::Run { .. } | Self::WorkerEnded => Code::Other,
        }
    }
}

/// Does what the command line asks for.
///
/// # Errors
///
/// Whatever ended the daemon, except SIGTERM.
pub fn run(args: Result<Args, lexopt::Error>) -> Result<(), Error> {
    let folders = match args.map_err(Error::Usage)? {
        Args::Run(folders) => folders,
        Args::CheckConfig(folders) => {
            let (config, wanted) = config::load(&folders)?;
            config.access.resolve().map_err(config::Error::Access)?;
            println!("good: {} repositories, {} payloads", config.repositories.len(), wanted.len());
            return Ok(());
        }
        Args::Print(text) => {
            print!("{text}");
            return Ok(());
        }
    };
    lifecycle::refuse_root()?;
    let (config, wanted) = config::load(&folders)?;
    let grants = config.access.resolve().map_err(config::Error::Access)?;
    let settings = Settings {
        config,
        wanted,
        places: Places::default(),
        build_time: device::build_time()?,
        uptime: machine::uptime,
    };
    let metrics = Registry::new(config::DAEMON);
    let history = settings.places.history.clone();
    let device = device::id().unwrap_or_else(|err| {
        warn!("metrics carry no device id: {}", report::chain(&err));
        String::new()
    });
    let shared = Shared::new(device, device::board()?.name, history, metrics);
    let listener = lifecycle::listener()?;
    let daemon = Daemon::start(settings, shared)?;
    daemon.serve(listener, grants, lifecycle::shutdown())
}

/// The daemon at work: the worker's thread, and what is needed to serve its callers.
#[derive(Debug)]
pub struct Daemon {
    shared: Arc<Shared>,
    pulse: Arc<Pulse>,
    quit: Arc<AtomicBool>,
    orders: Sender<Order>,
    worker: std::thread::JoinHandle<()>,
}

impl Daemon {
    /// Sets the worker to work.
    ///
    /// # Errors
    ///
    /// If something that it needs is not there or no good.
    pub fn start(settings: Settings, shared: Shared) -> Result<Self, Error> {
        for path in [&settings.places.metadata, &settings.places.downloads, &settings.places.payloads] {
            std::fs::create_dir_all(path).map_err(|err| Error::Folder { path: path.clone(), err })?;
        }
        let (orders, received) = channel();
        let (shared, quit) = (Arc::new(shared), Arc::new(AtomicBool::new(false)));
        let pulse = Arc::new(Pulse::new(Duration::ZERO));
        if settings.wanted.is_empty() {
            info!("no payload is configured: put one file for each into {}", paths::PAYLOADS_D);
        }
        if settings.config.repositories.is_empty() {
            info!("no repository is configured: nothing is fetched");
            shared.set_error("no repository is configured; set `repositories` in ota-updated.toml".to_owned());
        }
        let worker = Worker::new(
            Arc::new(settings),
            Arc::clone(&shared),
            Arc::clone(&pulse),
            Arc::clone(&quit),
            (orders.clone(), received),
        )?;
        let worker = std::thread::Builder::new()
            .name("worker".to_owned())
            .spawn(move || worker.run())
            .map_err(|err| Error::Run { what: "start the worker", err })?;
        Ok(Self { shared, pulse, quit, orders, worker })
    }

    /// What the daemon shows.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Looks for updates now.
    pub fn check_now(&self) {
        // A worker that has ended is found out by `serve`.
        let _ = self.orders.send(Order::CheckNow);
    }

    /// Serves callers until `shutdown` is ready, then stops the worker.
    ///
    /// # Errors
    ///
    /// If the socket or the worker fails.
    pub fn serve(
        self,
        listener: UnixListener,
        grants: Grants,
        shutdown: impl Future<Output = Result<(), lifecycle::Error>>,
    ) -> Result<(), Error> {
        let run = |what| move |err| Error::Run { what, err };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(run("set up the event loop"))?;
        let grants = Arc::new(grants);
        let for_control = Arc::clone(&grants);
        let service = {
            let (shared, orders) = (Arc::clone(&self.shared), self.orders.clone());
            move |peer| service::OtaService {
                peer,
                grants: Arc::clone(&grants),
                shared: Arc::clone(&shared),
                orders: orders.clone(),
            }
        };
        let served = tokio::task::LocalSet::new().block_on(&runtime, async {
            let may_control = |uid| for_control.may_control(uid);
            let served = varlink::serve_with_control(listener, varlink::Limits::default(), may_control, service);
            tokio::select! {
                served = served => served.map_err(run("serve the socket")),
                done = shutdown => done.map_err(Error::from),
                () = self.watch() => Err(Error::WorkerEnded),
            }
        });
        lifecycle::stopping();
        self.stop();
        served
    }

    /// Feeds the watchdog while the worker lives.
    async fn watch(&self) {
        lifecycle::ready("watching over the payloads");
        let pause = lifecycle::watchdog().unwrap_or(GLANCE);
        while !self.worker.is_finished() {
            if self.pulse.is_alive() {
                lifecycle::ping();
            } else {
                error!("the worker hangs; the watchdog is no longer fed");
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Stops the worker, at the next safe point.
    pub fn stop(self) {
        self.quit.store(true, Ordering::Relaxed);
        let _ = self.orders.send(Order::Quit);
        let (done, waiting) = channel();
        // Joined in a thread of its own, because a join has no limit.
        std::thread::spawn(move || {
            let _ = done.send(self.worker.join().is_ok());
        });
        if waiting.recv_timeout(FAREWELL).is_err() {
            info!("the worker is still busy; leaving all the same, what is on the disk is whole");
        }
    }
}
