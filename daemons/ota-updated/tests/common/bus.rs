//! A system bus of the test's own, with a RAUC that really reads bundles through the relay, and a systemd to look at.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use iotwasm_firmware::Slot;
use iotwasm_firmware::state::rauc_name;
use iotwasm_payload::Digest;
use serde_json::Value as Json;
use tokio::sync::oneshot;
use zbus::Connection;
use zbus::zvariant::{ObjectPath, OwnedObjectPath, OwnedValue, Value};

/// A dbus-daemon; dropping it ends it.
pub struct Bus {
    daemon: Child,
    pub address: String,
}

impl Bus {
    pub fn start(dir: &Path) -> Self {
        let socket = dir.join("bus.sock");
        let _ = std::fs::remove_file(&socket);
        let config = dir.join("bus.conf");
        let text = format!(
            "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
             \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n<busconfig><type>session</type>\
             <listen>unix:path={}</listen><auth>EXTERNAL</auth><policy context=\"default\">\
             <allow send_destination=\"*\" eavesdrop=\"true\"/><allow eavesdrop=\"true\"/><allow own=\"*\"/></policy></busconfig>",
            socket.display()
        );
        std::fs::write(&config, text).unwrap();
        let daemon = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", config.display()))
            .arg("--nofork")
            .stdout(Stdio::null())
            .spawn()
            .expect("dbus-daemon must be installed");
        // The socket is there a moment before anybody listens on it.
        super::until("the bus is there", || UnixStream::connect(&socket).is_ok());
        Self { daemon, address: format!("unix:path={}", socket.display()) }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// What RAUC does with an installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Script {
    #[default]
    Works,
    /// Ends in the middle of the installation.
    Dies,
    /// Says that it is busy with something else.
    Busy,
    /// Cannot write the boot order.
    CannotMark,
    /// Marks good, and says that it could not.
    MarksAndDenies,
    /// Says that the next boot is what it was told, and leaves it as it was.
    ForgetsActive,
    /// Takes the order and never says anything again.
    Hangs,
}

/// The bootloader and the slots, as they survive a restart; and what RAUC and systemd are to say.
#[derive(Clone)]
pub struct Stage {
    pub first: Slot,
    pub next: Option<Slot>,
    pub booted: Slot,
    /// Version in each slot; none while it is half written.
    pub slots: [Option<String>; 2],
    pub script: Script,
    pub calls: Vec<String>,
    /// Units that the health target requires: state, and which start of it.
    pub units: BTreeMap<String, (String, u64)>,
    /// Bytes that RAUC read.
    pub read: u64,
    /// Called at each call of RAUC.
    pub hook: Option<Hook>,
}

/// Something to be called with the stage as it is.
pub type Hook = Arc<dyn Fn(&Stage, &str) + Send + Sync>;

pub type Shared = Arc<Mutex<Stage>>;

impl Stage {
    /// What comes up after a reset.
    pub fn reset(&mut self) {
        self.booted = self.next.take().unwrap_or(self.first);
    }
}

/// RAUC and systemd on a bus; dropping it takes both away.
pub struct Services {
    quit: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Services {
    pub fn start(address: &str, stage: &Shared) -> Self {
        let (quit, quitting) = oneshot::channel::<()>();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (address, stage) = (address.to_owned(), Arc::clone(stage));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let connect = || zbus::connection::Builder::address(address.as_str()).unwrap();
                let rauc = connect()
                    .serve_at("/", Rauc { stage: Arc::clone(&stage), last_error: String::new() })
                    .unwrap()
                    .name("de.pengutronix.rauc")
                    .unwrap()
                    .build()
                    .await
                    .unwrap();
                let mut systemd =
                    connect().serve_at("/org/freedesktop/systemd1", Manager { stage: Arc::clone(&stage) }).unwrap();
                let target = Unit { stage: Arc::clone(&stage), name: "boot-complete.target".into() };
                systemd = systemd.serve_at(path_of(&target.name), target).unwrap();
                for name in super::firmware::UNITS {
                    let unit = Unit { stage: Arc::clone(&stage), name: name.into() };
                    systemd = systemd.serve_at(path_of(name), unit).unwrap();
                }
                let systemd = systemd.name("org.freedesktop.systemd1").unwrap().build().await.unwrap();
                ready.send(()).unwrap();
                let dead = async {
                    loop {
                        let calls = stage.lock().unwrap().calls.clone();
                        if calls.last().is_some_and(|call| call == "died") {
                            return;
                        }
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                };
                tokio::select! {
                    _ = quitting => {}
                    () = dead => {}
                }
                let _ = rauc.close().await;
                let _ = systemd.close().await;
            });
        });
        is_ready.recv().unwrap();
        Self { quit: Some(quit), thread: Some(thread) }
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        drop(self.quit.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.gtk.GDBus.UnmappedGError.Quark")]
enum Error {
    #[zbus(error)]
    ZBus(zbus::Error),
    Failed(String),
}

const INSTALLER: &str = "de.pengutronix.rauc.Installer";

struct Rauc {
    stage: Shared,
    last_error: String,
}

impl Rauc {
    fn called(&self, call: String) -> Result<(), Error> {
        let mut stage = self.stage.lock().unwrap();
        if let Some(hook) = stage.hook.clone() {
            hook(&stage, &call);
        }
        stage.calls.push(call);
        if stage.script == Script::Busy {
            return Err(Error::Failed("Already processing a different method".into()));
        }
        Ok(())
    }
}

#[zbus::interface(name = "de.pengutronix.rauc.Installer")]
impl Rauc {
    async fn inspect_bundle(
        &self,
        source: String,
        _args: HashMap<String, OwnedValue>,
    ) -> Result<HashMap<String, OwnedValue>, Error> {
        self.called("inspect".into())?;
        let manifest = tokio::task::spawn_blocking(move || Reader::open(&source).and_then(|mut r| r.manifest())).await;
        let manifest = manifest.unwrap().map_err(Error::Failed)?;
        let mut update: HashMap<&str, Value<'_>> = HashMap::new();
        let text = |key: &str| manifest[key].as_str().unwrap().to_owned();
        update.insert("compatible", text("compatible").into());
        update.insert("version", text("version").into());
        // Wrapped once more, as GLib does it.
        let update = Value::Value(Box::new(Value::from(update)));
        Ok(HashMap::from([("update".to_owned(), update.try_into().unwrap())]))
    }

    async fn install_bundle(
        &mut self,
        source: String,
        _args: HashMap<String, OwnedValue>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        self.called("install".into())?;
        let (stage, connection) = (Arc::clone(&self.stage), connection.clone());
        let script = stage.lock().unwrap().script;
        if script == Script::Hangs {
            return Ok(());
        }
        self.last_error = String::new();
        let booted = stage.lock().unwrap().booted;
        stage.lock().unwrap().slots[booted.other() as usize] = None;
        tokio::spawn(async move {
            progress(&connection, 20, "Checking bundle").await;
            let reading = Arc::clone(&stage);
            let read = tokio::task::spawn_blocking(move || {
                let mut reader = Reader::open(&source)?;
                let read = reader.install();
                reading.lock().unwrap().read += reader.read;
                read
            });
            if script == Script::Dies {
                stage.lock().unwrap().calls.push("died".into());
                return;
            }
            let result = match read.await.unwrap() {
                Ok(version) => {
                    let mut stage = stage.lock().unwrap();
                    let other = stage.booted.other();
                    stage.slots[other as usize] = Some(version);
                    stage.next = Some(other);
                    None
                }
                Err(why) => Some(why),
            };
            progress(&connection, 100, "Installing done.").await;
            if let Some(why) = &result {
                let rauc = connection.object_server().interface::<_, Rauc>("/").await.unwrap();
                rauc.get_mut().await.last_error = why.clone();
            }
            let code = i32::from(result.is_some());
            connection.emit_signal(None::<&str>, "/", INSTALLER, "Completed", &code).await.unwrap();
        });
        Ok(())
    }

    async fn mark(&self, state: String, slot: String) -> Result<(String, String), Error> {
        self.called(format!("mark {state} {slot}"))?;
        let mut stage = self.stage.lock().unwrap();
        if stage.script == Script::CannotMark {
            return Err(Error::Failed("efibootmgr failed".into()));
        }
        let marked = if slot == "booted" { stage.booted } else { stage.booted.other() };
        match state.as_str() {
            "good" => stage.first = marked,
            "active" if stage.script == Script::ForgetsActive => {}
            "active" => stage.next = Some(marked),
            _ => unreachable!(),
        }
        if (state.as_str(), stage.script) == ("good", Script::MarksAndDenies) {
            return Err(Error::Failed("efibootmgr was killed".into()));
        }
        Ok((rauc_name(marked).into(), String::new()))
    }

    async fn get_primary(&self) -> Result<String, Error> {
        self.called("primary".into())?;
        let stage = self.stage.lock().unwrap();
        Ok(rauc_name(stage.next.unwrap_or(stage.first)).into())
    }

    #[zbus(property)]
    async fn last_error(&self) -> String {
        self.last_error.clone()
    }
}

async fn progress(connection: &Connection, percent: i32, message: &str) {
    let changed: HashMap<&str, Value<'_>> = HashMap::from([("Progress", Value::from((percent, message, 1)))]);
    let body = (INSTALLER, changed, Vec::<String>::new());
    let properties = "org.freedesktop.DBus.Properties";
    connection.emit_signal(None::<&str>, "/", properties, "PropertiesChanged", &body).await.unwrap();
}

/// Reads a bundle over HTTP as RAUC does: four bytes, the end, then the rest in pieces.
struct Reader {
    stream: BufReader<TcpStream>,
    path: String,
    total: u64,
    read: u64,
}

impl Reader {
    fn open(url: &str) -> Result<Self, String> {
        let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let stream = TcpStream::connect(host).map_err(|err| err.to_string())?;
        let mut reader = Self { stream: BufReader::new(stream), path: format!("/{path}"), total: 0, read: 0 };
        reader.get(0, 3)?;
        Ok(reader)
    }

    fn get(&mut self, from: u64, to: u64) -> Result<Vec<u8>, String> {
        let request = format!("GET {} HTTP/1.1\r\nHost: x\r\nRange: bytes={from}-{to}\r\n\r\n", self.path);
        let io = |err: std::io::Error| format!("nbd: {err}");
        self.stream.get_mut().write_all(request.as_bytes()).map_err(io)?;
        let mut line = String::new();
        self.stream.read_line(&mut line).map_err(io)?;
        if !line.contains(" 206 ") {
            return Err(format!("nbd: unexpected HTTP response {:?}", line.trim()));
        }
        loop {
            line.clear();
            self.stream.read_line(&mut line).map_err(io)?;
            if line.trim().is_empty() {
                break;
            }
            if let Some(range) = line.strip_prefix("Content-Range: bytes ") {
                let (span, total) = range.trim().split_once('/').unwrap();
                assert_eq!(span, format!("{from}-{to}"));
                self.total = total.parse().unwrap();
            }
        }
        let mut bytes = vec![0; usize::try_from(to - from + 1).unwrap()];
        self.stream.read_exact(&mut bytes).map_err(io)?;
        self.read += bytes.len() as u64;
        Ok(bytes)
    }

    /// Verifies the signature at the end and gives what it signs.
    fn manifest(&mut self) -> Result<Json, String> {
        let total = self.total;
        let length = u64::from_be_bytes(self.get(total - 8, total - 1)?.try_into().unwrap());
        if length > total - 8 {
            return Err("Signature size exceeds bundle size".into());
        }
        let manifest: Json = serde_json::from_slice(&self.get(total - 8 - length, total - 9)?).unwrap();
        if manifest["signer"] != "us" {
            return Err("signature verification failed: unable to get local issuer certificate".into());
        }
        Ok(manifest)
    }

    /// Reads everything and checks it as dm-verity does.
    fn install(&mut self) -> Result<String, String> {
        let manifest = self.manifest()?;
        let (mut bytes, end) = (Vec::new(), manifest["length"].as_u64().unwrap());
        while (bytes.len() as u64) < end {
            let from = bytes.len() as u64;
            bytes.extend(self.get(from, (from + 128 * 1024).min(end) - 1)?);
        }
        if Digest::of(&bytes).to_string() != manifest["root"].as_str().unwrap() {
            return Err("Failed mounting bundle: Input/output error".into());
        }
        Ok(manifest["version"].as_str().unwrap().into())
    }
}

fn path_of(unit: &str) -> String {
    let escaped: String = unit
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_string() } else { format!("_{:02x}", c as u32) })
        .collect();
    format!("/org/freedesktop/systemd1/unit/{escaped}")
}

struct Manager {
    stage: Shared,
}

#[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
impl Manager {
    async fn load_unit(&self, name: String) -> OwnedObjectPath {
        drop(self.stage.lock().unwrap());
        ObjectPath::try_from(path_of(&name)).unwrap().into()
    }
}

struct Unit {
    stage: Shared,
    name: String,
}

#[zbus::interface(name = "org.freedesktop.systemd1.Unit")]
impl Unit {
    #[zbus(property)]
    async fn requires(&self) -> Vec<String> {
        self.stage.lock().unwrap().units.keys().cloned().collect()
    }

    #[zbus(property)]
    async fn active_state(&self) -> String {
        self.stage.lock().unwrap().units.get(&self.name).map_or_else(|| "inactive".into(), |(state, _)| state.clone())
    }

    #[zbus(property)]
    async fn active_enter_timestamp_monotonic(&self) -> u64 {
        self.stage.lock().unwrap().units.get(&self.name).map_or(0, |(_, start)| *start)
    }
}
