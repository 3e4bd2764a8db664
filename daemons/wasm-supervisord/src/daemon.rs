//! The daemon's life: settings, edges, socket, boot, work, leave. The only place that knows every concrete type.

use std::{
    convert::Infallible,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use iotwasm_kit::{
    access, atomic, config as settings, device, lifecycle,
    metrics::Registry,
    paths,
    report::{self, Code, Failure},
    varlink,
};
use iotwasm_payload::{Wanted, store::Reader};
use iotwasm_verify::Verifier;

use crate::{
    capabilities::{self, Capd},
    cgroup::{self, Delegated},
    config::{Config, TooLittle},
    journal::Journal,
    meter::Rules,
    notices::Notices,
    run::Edges,
    sandbox,
    service::Service,
    supervisor::Supervisor,
};

/// Name of the daemon, its settings and its metrics.
const NAME: &str = "wasm-supervisord";
/// At most this often are the metrics written.
const METRICS_PAUSE: Duration = Duration::from_millis(250);
/// How often we ping where the unit has no watchdog: never.
const NO_WATCHDOG: Duration = Duration::from_secs(3600);

/// What ends the daemon.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line.
    #[error("{0}; see wasm-supervisord --help")]
    Usage(String),
    /// The settings.
    #[error(transparent)]
    Settings(#[from] settings::Error),
    /// A setting out of its range.
    #[error(transparent)]
    Range(#[from] TooLittle),
    /// The access list.
    #[error("could not resolve the access list")]
    Access(#[from] access::Error),
    /// The board file.
    #[error("could not learn which board this is")]
    Board(#[from] device::Error),
    /// What no runner may have.
    #[error("could not give up what no runner may use")]
    Confine(#[source] sandbox::Error),
    /// Control groups.
    #[error("could not prepare the cells that payloads run in")]
    Cells(#[from] cgroup::Error),
    /// systemd's part.
    #[error(transparent)]
    Lifecycle(#[from] lifecycle::Error),
    /// The event loop or the socket.
    #[error("could not serve")]
    Serve(#[source] io::Error),
}

impl Failure for Error {
    fn exit_code(&self) -> Code {
        match self {
            Self::Usage(_) => Code::Usage,
            Self::Settings(err) => err.exit_code(),
            Self::Range(_) | Self::Access(_) => Code::Config,
            Self::Board(err) => err.exit_code(),
            Self::Lifecycle(err) => err.exit_code(),
            Self::Confine(err) => err.exit_code(),
            Self::Cells(_) => Code::DeviceMissing,
            Self::Serve(_) => Code::Other,
        }
    }
}

const HELP: &str = "\
wasm-supervisord: runs each payload in a sandboxed process of its own and watches its health

Started by systemd through wasm-supervisord.socket. Settings: /etc/iotwasm/wasm-supervisord.toml.
Look at it with: varlinkctl call /run/iotwasm/supervisor.sock io.iotwasm.Supervisor.GetStatus '{}'

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
    // Runners have this process' user.
    sandbox::hide().and_then(|()| sandbox::ioctls::confine()).map_err(Error::Confine)?;
    if let Some(lacking) = sandbox::tracing::lacking() {
        iotwasm_kit::warn!("{lacking}");
    }
    let config = settings::load::<Config>(NAME)?.check()?;
    let folders = (Path::new(paths::VENDOR_CONFIG), Path::new(paths::LOCAL_CONFIG));
    let wanted = settings::load_each::<Wanted>(folders.0, folders.1, paths::PAYLOADS_D)?;
    let wanted: Vec<Wanted> = wanted.into_iter().map(|(_, wanted)| wanted).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Slots are verified on a thread beside the loop; it goes again soon, so that an idle daemon is small.
        .max_blocking_threads(2)
        .thread_keep_alive(Duration::from_secs(1))
        .build()
        .map_err(Error::Serve)?;
    tokio::task::LocalSet::new().block_on(&runtime, work(config, &wanted))
}

async fn work(config: Config, wanted: &[Wanted]) -> Result<(), Error> {
    let grants = Rc::new(config.access.resolve()?);
    let edges = Rc::new(edges(&config)?);
    let notices = Rc::new(Notices::new(device_id(), Registry::new(NAME)));
    let supervisor = Rc::new(Supervisor::new(edges, Rc::clone(&notices)));
    let listener = lifecycle::listener()?;
    let metrics = tokio::task::spawn_local(write_metrics(notices));
    supervisor.boot(wanted).await;

    let for_service = Rc::clone(&supervisor);
    let control = Rc::clone(&grants);
    let may_control = move |uid| control.may_control(uid);
    let service = move |peer| Service::new(Rc::clone(&for_service), Rc::clone(&grants), peer);
    let server = varlink::serve_with_control(listener, varlink::Limits::default(), may_control, service);
    let mut watchdog = tokio::time::interval(lifecycle::watchdog().unwrap_or(NO_WATCHDOG));
    let shutdown = lifecycle::shutdown();
    tokio::pin!(server, shutdown);
    lifecycle::ready("running payloads");
    let outcome = loop {
        tokio::select! {
            served = &mut server => break served.map_err(Error::Serve),
            asked = &mut shutdown => break asked.map_err(Error::from),
            // The same loop that carries every payload's events: when it hangs, so does this.
            _ = watchdog.tick() => lifecycle::ping(),
        }
    };
    lifecycle::stopping();
    supervisor.stop_all().await;
    metrics.abort();
    outcome
}

fn edges(config: &Config) -> Result<Edges, Error> {
    Ok(Edges {
        cells: Box::new(Delegated::open()?),
        runner: PathBuf::from(paths::RUNNER),
        verifier: Verifier {
            store: Reader::new(paths::PAYLOADS),
            pinned_root: PathBuf::from(paths::PINNED_ROOT),
            board: device::board()?.name,
        },
        capabilities: Box::new(Capd::at(Path::new(paths::CAPABILITIES_SOCKET), capabilities::LIMIT)),
        journal: Journal::open(),
        storage: Rules {
            root: PathBuf::from(paths::STORAGE),
            check: Duration::from_secs(config.storage.check_s.into()),
            reserve: u64::from(config.storage.reserve_kib) * 1024,
            ledger: Rc::default(),
        },
        settings: config.runner,
    })
}

/// For the metrics alone: a device without an identity still runs its payloads.
fn device_id() -> String {
    device::id().unwrap_or_else(|err| {
        iotwasm_kit::warn!("metrics carry no device id: {}", report::chain(&err));
        String::new()
    })
}

async fn write_metrics(notices: Rc<Notices>) -> Infallible {
    let mut failing = false;
    loop {
        let written: Result<(), atomic::Error> = notices.write_metrics().await;
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
        assert!(parsed(&["--version"]).unwrap().unwrap().starts_with("wasm-supervisord "));
        assert_eq!(parsed(&["--cgroups=off"]).unwrap_err().exit_code(), Code::Usage);
    }
}
