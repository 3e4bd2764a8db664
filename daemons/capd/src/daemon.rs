//! The daemon's life: settings, edges, safe values, socket, work, leave. The only place that knows every concrete type.

use std::{
    convert::Infallible,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use iotwasm_grant::{Board, load};
use iotwasm_kit::{
    access, config as settings, device, lifecycle,
    metrics::Registry as Metrics,
    paths,
    report::{self, Code, Failure},
    varlink,
};
use iotwasm_payload::store::Reader;
use iotwasm_verify::Verifier;
use tokio::sync::Semaphore;

use crate::{
    actuators::Actuators,
    authorize::Authority,
    board::{self, Inventory},
    clock,
    config::Config,
    devices::{Buses, Kernel, iio::Iio},
    notices::Notices,
    registry::Registry,
    sensors::Sensors,
    service::{Desk, Service},
    session::World,
};

/// Name of the daemon, its settings and its metrics.
const NAME: &str = "capd";
/// At most this often are the metrics written.
const METRICS_PAUSE: Duration = Duration::from_millis(250);
/// How often safe values that are owed are tried again.
const SETTLE: Duration = Duration::from_secs(1);
/// How often we ping where the unit has no watchdog: never.
const NO_WATCHDOG: Duration = Duration::from_secs(3600);
/// How long sessions may take to end when the daemon stops: a transfer under way, and safe values.
const LEAVING: Duration = Duration::from_secs(5);

/// What ends the daemon.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line.
    #[error("{0}; see capd --help")]
    Usage(String),
    /// The settings.
    #[error(transparent)]
    Settings(#[from] settings::Error),
    /// The access list.
    #[error("could not resolve the access list")]
    Access(#[from] access::Error),
    /// The board file.
    #[error("could not learn what this board has")]
    Board(#[from] load::LoadError),
    /// systemd's part.
    #[error(transparent)]
    Lifecycle(#[from] lifecycle::Error),
    /// The marker.
    #[error("could not write {}; it is made by RuntimeDirectory= of the unit", path.display())]
    Marker {
        /// Which.
        path: PathBuf,
        /// The cause.
        #[source]
        err: io::Error,
    },
    /// The event loop or the socket.
    #[error("could not serve")]
    Serve(#[source] io::Error),
}

impl Failure for Error {
    fn exit_code(&self) -> Code {
        match self {
            Self::Usage(_) => Code::Usage,
            Self::Settings(err) => err.exit_code(),
            Self::Access(_) | Self::Board(_) => Code::Config,
            Self::Lifecycle(err) => err.exit_code(),
            Self::Marker { .. } | Self::Serve(_) => Code::Other,
        }
    }
}

const HELP: &str = "\
capd: holds the device's pins, buses and sensors, and lets each payload reach what its signer may grant

Started by systemd through capd.socket. Settings: /etc/iotwasm/capd.toml.
Look at it with: varlinkctl call /run/iotwasm/capabilities.sock io.iotwasm.Capabilities.GetBoard '{}'

  -h, --help      this text
  -V, --version   the version
";

/// Run with these arguments, until a signal or an error ends it.
///
/// # Errors
/// See [`Error`].
pub fn main(args: impl IntoIterator<Item = OsString>) -> Result<(), Error> {
    match parse(args)? {
        Some(text) => {
            // Who closed our output does not want the text.
            let _ = io::Write::write_all(&mut io::stdout(), text.as_bytes());
            Ok(())
        }
        None => serve(),
    }
}

fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Option<String>, Error> {
    use lexopt::prelude::*;
    let mut parser = lexopt::Parser::from_iter(args);
    match parser.next().map_err(|err| Error::Usage(err.to_string()))? {
        Some(Short('h') | Long("help")) => Ok(Some(HELP.to_owned())),
        Some(Short('V') | Long("version")) => Ok(Some(format!("{NAME} {}\n", env!("CARGO_PKG_VERSION")))),
        Some(other) => Err(Error::Usage(other.unexpected().to_string())),
        None => Ok(None),
    }
}

fn serve() -> Result<(), Error> {
    lifecycle::refuse_root()?;
    let config = settings::load::<Config>(NAME)?;
    let board = load::board(Path::new(paths::BOARD))?;
    let restarted = restarted(Path::new(paths::CAPD_RUNTIME))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Slots are verified on threads beside the loop; they go again soon. Of what may wait for a device at most two are
        // there at a time: the inventory, and safe values.
        .max_blocking_threads(8)
        .thread_keep_alive(Duration::from_secs(1))
        .build()
        .map_err(Error::Serve)?;
    let outcome = tokio::task::LocalSet::new().block_on(&runtime, work(config, board, restarted));
    // Sessions have ended by now; what still waits for a device that hangs is not waited for.
    runtime.shutdown_background();
    outcome
}

/// Whether a daemon before this one ran since the boot, and from now on yes.
fn restarted(folder: &Path) -> Result<bool, Error> {
    let path = folder.join("started");
    let was = path.exists();
    std::fs::write(&path, "").map_err(|err| Error::Marker { path, err })?;
    Ok(was)
}

async fn work(config: Config, board: Board, restarted: bool) -> Result<(), Error> {
    let grants = config.access.resolve()?;
    let world = Arc::new(world(board, restarted));
    // Before anyone can ask for anything: what a daemon before this one left, and what the firmware did, is not trusted.
    settle(&world).await;
    let inventory = Arc::new(Inventory {
        board: Arc::clone(&world.board),
        buses: Arc::clone(&world.buses),
        sensors: Arc::clone(&world.sensors),
        actuators: Arc::clone(&world.actuators),
        registry: Arc::clone(&world.registry),
    });
    let authority = Authority {
        verifier: Verifier {
            store: Reader::new(paths::PAYLOADS),
            pinned_root: PathBuf::from(paths::PINNED_ROOT),
            board: world.board.name.clone(),
        },
        board: Arc::clone(&world.board),
        tiers: PathBuf::from(paths::TIERS_D),
    };
    let looking = Arc::new(Semaphore::new(1));
    let desk = Rc::new(Desk { authority, world: Arc::clone(&world), inventory, looking, grants });
    let listener = lifecycle::listener()?;
    let metrics = tokio::task::spawn_local(write_metrics(Arc::clone(&world.notices)));

    let (control, served) = (Rc::clone(&desk), desk);
    let may_control = move |uid| control.grants.may_control(uid);
    let service = move |peer| Service::new(Rc::clone(&served), peer);
    let server = varlink::serve_with_control(listener, varlink::Limits::default(), may_control, service);
    let mut watchdog = tokio::time::interval(lifecycle::watchdog().unwrap_or(NO_WATCHDOG));
    let mut owed = tokio::time::interval(SETTLE);
    owed.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut settling = tokio::task::spawn_local(std::future::ready(()));
    let shutdown = lifecycle::shutdown();
    tokio::pin!(server, shutdown);
    lifecycle::ready("serving payloads");
    let outcome = loop {
        tokio::select! {
            served = &mut server => break served.map_err(Error::Serve),
            asked = &mut shutdown => break asked.map_err(Error::from),
            // A device that hangs holds up who uses it, not this loop.
            _ = owed.tick() => if settling.is_finished() {
                let world = Arc::clone(&world);
                settling = tokio::task::spawn_local(async move { settle(&world).await });
            },
            _ = watchdog.tick() => lifecycle::ping(),
        }
    };
    lifecycle::stopping();
    metrics.abort();
    let registry = Arc::clone(&world.registry);
    let ended = tokio::task::spawn_blocking(move || registry.shut_down(LEAVING)).await;
    if !matches!(ended, Ok(true)) {
        iotwasm_kit::error!("sessions did not end in time; their safe values are written at the next start");
    }
    outcome
}

fn world(board: Board, restarted: bool) -> World {
    let notices = Arc::new(Notices::new(device_id(), Metrics::new(NAME)));
    for (kind, name) in board::names(&board) {
        notices.introduce(kind, &name);
    }
    let (board, now) = (Arc::new(board), clock::now());
    let buses: Arc<dyn Buses> = Arc::new(Kernel::new());
    let iio = Iio::new("/sys");
    let since = restarted.then_some(now);
    let actuators = Actuators::new(&board, Arc::clone(&buses), iio.clone(), Arc::clone(&notices), since, now);
    World {
        sensors: Arc::new(Sensors::new(&board, iio)),
        actuators: Arc::new(actuators),
        registry: Arc::new(Registry::default()),
        board,
        buses,
        notices,
    }
}

/// Writes the safe values that are owed, and closes what was opened for them.
async fn settle(world: &Arc<World>) {
    let world = Arc::clone(world);
    let settled = tokio::task::spawn_blocking(move || {
        let settled = world.actuators.settle();
        world.close_unused();
        settled
    });
    match settled.await {
        Ok(true) => {}
        Ok(false) => iotwasm_kit::error!("a device does not answer: its safe value is not written yet"),
        Err(_) => iotwasm_kit::error!("safe values were not written: the work was given up"),
    }
}

/// For the metrics alone: a device without an identity still serves its payloads.
fn device_id() -> String {
    device::id().unwrap_or_else(|err| {
        iotwasm_kit::warn!("metrics carry no device id: {}", report::chain(&err));
        String::new()
    })
}

async fn write_metrics(notices: Arc<Notices>) -> Infallible {
    let mut failing = false;
    loop {
        notices.changed().await;
        let written = notices.write_metrics();
        if let (Err(err), false) = (&written, failing) {
            iotwasm_kit::warn!("metrics are not written: {}", report::chain(err));
        }
        failing = written.is_err();
        tokio::time::sleep(METRICS_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Option<String>, Error> {
        parse(std::iter::once(NAME).chain(args.iter().copied()).map(OsString::from))
    }

    #[test]
    fn no_argument_serves_and_an_unknown_one_is_a_usage_error() {
        assert!(parsed(&[]).unwrap().is_none());
        assert!(parsed(&["--version"]).unwrap().unwrap().starts_with("capd "));
        assert_eq!(parsed(&["--board=x"]).unwrap_err().exit_code(), Code::Usage);
    }

    #[test]
    fn the_first_start_since_the_boot_is_told_from_later_ones() {
        let run = tempfile::tempdir().unwrap();
        assert!(!restarted(run.path()).unwrap());
        assert!(restarted(run.path()).unwrap());
        assert!(restarted(&run.path().join("missing")).is_err());
    }
}
