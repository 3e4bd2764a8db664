//! One virtual device: disk, firmware variables, TPM and network, over any number of boots. What survives a power cut on
//! a real device survives here: disk, variables, TPM state; nothing else does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::accel::Accel;
use crate::agent::{Agent, Output};
use crate::error::{Error, Result};
use crate::protocol::PORT;
use crate::qmp::Qmp;
use crate::uefi::{BLANK_VARIABLES, Uefi};
use crate::wait::{Look, until};

/// How long a boot may take: on a busy machine, translated, several minutes.
pub const BOOT_LIMIT: Duration = Duration::from_secs(600);

/// How long an ordinary command in the device may take.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// Tells boots apart.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Addresses in the device's network that lead to servers of the harness; the device reaches nothing else.
pub const SERVER_URL: &str = "http://10.0.2.100";
/// The second one: a mirror.
pub const MIRROR_URL: &str = "http://10.0.2.101";

/// Ports on this machine behind [`SERVER_URL`] and [`MIRROR_URL`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Network {
    /// Behind [`SERVER_URL`].
    pub server: Option<u16>,
    /// Behind [`MIRROR_URL`].
    pub mirror: Option<u16>,
}

/// How a boot differs from an ordinary one.
#[derive(Debug, Clone, Default)]
pub struct BootOptions {
    /// Words that the stub puts behind the command line, and measures into PCR 12. Our UKIs' end with `--`: these are for
    /// systemd, not for the kernel, and with Secure Boot on the initrd refuses them.
    pub kernel: Vec<String>,
    /// Other strings of the machine's maker, SMBIOS type 11.
    pub smbios: Vec<String>,
    /// What the machine's clock says at power-on (`2026-01-31T12:00:00`); this machine's time otherwise.
    pub clock: Option<String>,
}

/// The device.
#[derive(Debug)]
pub struct Vm {
    folder: PathBuf,
    image: PathBuf,
    accel: Accel,
    processors: usize,
    network: Network,
    uefi: Uefi,
    running: Option<Running>,
    boots: u32,
}

#[derive(Debug)]
struct Running {
    qemu: Child,
    tpm: Child,
    qmp: Qmp,
    agent: Agent,
}

impl Vm {
    /// A new device from the image, in its own folder; what was there goes.
    pub fn create(folder: &Path, image: &Path, accel: Accel, network: Network, uefi: Uefi) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder).map_err(Error::file("remove", folder))?;
        }
        let tpm = folder.join("tpm");
        fs::create_dir_all(&tpm).map_err(Error::file("make", &tpm))?;
        let image = image.canonicalize().map_err(Error::file("find", image))?;
        let disk = folder.join("disk.qcow2");
        run(Command::new("qemu-img").args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]).arg(&image).arg(&disk))?;
        run(Command::new("swtpm_setup")
            .args(["--tpm2", "--create-ek-cert", "--create-platform-cert", "--lock-nvram", "--pcr-banks", "sha256"])
            .args(["--overwrite", "--tpmstate"])
            .arg(&tpm))?;
        let vm =
            Self { folder: folder.to_owned(), image, accel, processors: 2, network, uefi, running: None, boots: 0 };
        vm.lose_variables()?;
        Ok(vm)
    }

    /// The folder with the device's files and logs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The image that the device was made from.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// How the guest is run.
    pub fn accel(&self) -> Accel {
        self.accel
    }

    /// How many processors it has.
    pub fn processors(&self) -> usize {
        self.processors
    }

    /// Gives it so many, from its next power-on on.
    pub fn set_processors(&mut self, processors: usize) {
        self.processors = processors;
    }

    /// Whether the device has power.
    pub fn is_on(&self) -> bool {
        self.running.is_some()
    }

    /// The serial console's log of the newest power-on.
    pub fn serial_log(&self) -> PathBuf {
        self.folder.join(format!("serial-{}.log", self.boots))
    }

    /// Power on, and wait until the test agent answers. Units may still be starting: see [`Vm::settle`].
    pub fn boot(&mut self) -> Result<Duration> {
        self.boot_with(&BootOptions::default())
    }

    /// [`Vm::boot`] with options.
    pub fn boot_with(&mut self, options: &BootOptions) -> Result<Duration> {
        let started = Instant::now();
        self.power_on(options)?;
        self.wait_for_agent()?;
        Ok(started.elapsed())
    }

    /// Power on without waiting for anything.
    pub fn power_on(&mut self, options: &BootOptions) -> Result<()> {
        self.power_cut()?;
        self.boots += 1;
        let mut tpm = self.start_tpm()?;
        match self.start_qemu(options) {
            Ok((qemu, qmp, agent)) => {
                self.running = Some(Running { qemu, tpm, qmp, agent });
                Ok(())
            }
            Err(error) => {
                end(&mut tpm);
                Err(error)
            }
        }
    }

    /// Waits until the test agent of this power-on answers.
    pub fn wait_for_agent(&mut self) -> Result<()> {
        until("the test agent", BOOT_LIMIT, || {
            let running = self.running()?;
            if let Ok(Some(status)) = running.qemu.try_wait() {
                let output = fs::read_to_string(self.folder.join("qemu.log")).unwrap_or_default();
                return Ok(Look::Is(Err(Error::QemuEnded { status: status.to_string(), output })));
            }
            // A short limit: what was sent while the guest's driver started may be gone.
            running.agent.ping(Duration::from_secs(20))?;
            Ok(Look::Is(Ok(())))
        })?
    }

    /// Waits until systemd has nothing left to start.
    pub fn settle(&mut self) -> Result<String> {
        until("the boot to finish", BOOT_LIMIT, || {
            let state = self.exec(&["systemctl", "is-system-running"])?.stdout.trim().to_owned();
            Ok(if matches!(state.as_str(), "running" | "degraded") { Look::Is(state) } else { Look::NotYet(state) })
        })
    }

    /// Runs a program in the device, whatever its exit code.
    pub fn exec(&mut self, argv: &[&str]) -> Result<Output> {
        self.exec_for(argv, b"", COMMAND_LIMIT)
    }

    /// [`Vm::exec`] with input and a time limit.
    pub fn exec_for(&mut self, argv: &[&str], stdin: &[u8], limit: Duration) -> Result<Output> {
        self.running()?.agent.exec(argv, stdin, limit)
    }

    /// Runs a program that must succeed; gives its standard output.
    pub fn run(&mut self, argv: &[&str]) -> Result<String> {
        let output = self.exec(argv)?;
        if output.code == 0 {
            return Ok(output.stdout);
        }
        let said = if output.stderr.trim().is_empty() { output.stdout } else { output.stderr };
        Err(Error::Command { command: argv.join(" "), code: output.code, output: said.trim().to_owned() })
    }

    /// [`Vm::run`] for a line of shell.
    pub fn sh(&mut self, line: &str) -> Result<String> {
        self.run(&["sh", "-c", line])
    }

    /// Writes a file in the device.
    pub fn put(&mut self, path: &str, mode: u32, contents: &[u8]) -> Result<()> {
        self.running()?.agent.put(path, mode, contents)
    }

    /// Reads a file in the device.
    pub fn get(&mut self, path: &str) -> Result<Vec<u8>> {
        self.running()?.agent.get(path)
    }

    /// The power goes: QEMU and TPM die at once, without a word to the guest. What the guest had not flushed to its disk
    /// may be lost, as the disk's cache is in QEMU. Harmless where the power is off.
    pub fn power_cut(&mut self) -> Result<()> {
        if let Some(mut running) = self.running.take() {
            end(&mut running.qemu);
            end(&mut running.tpm);
        }
        Ok(())
    }

    /// The EFI variables are gone, as in a new machine. For a device whose power is off.
    pub fn lose_variables(&self) -> Result<()> {
        let vars = self.folder.join("vars.fd");
        fs::copy(BLANK_VARIABLES, &vars).map_err(Error::file("write", &vars)).map(drop)
    }

    /// The reset button: the machine starts over with its power on. Waits for the agent of the new boot.
    pub fn reset(&mut self) -> Result<()> {
        self.running()?.qmp.command("system_reset", json!({}))?;
        self.reconnect()?;
        self.wait_for_agent()
    }

    /// An orderly restart by systemd. Waits for the agent of the new boot.
    pub fn reboot(&mut self) -> Result<()> {
        let before = self.boot_id()?;
        self.running()?.agent.tell(&["systemctl", "reboot", "--no-block"])?;
        self.wait_for_reboot(&before)
    }

    /// Waits for the agent of another boot than `before`.
    fn wait_for_reboot(&mut self, before: &str) -> Result<()> {
        until("another boot", BOOT_LIMIT, || {
            let now = self.look(BOOT_ID)?;
            Ok(if now == before { Look::NotYet("the old boot".into()) } else { Look::Is(()) })
        })
    }

    /// Output of a program that takes a moment and must succeed, in a device that may restart at any time.
    pub fn glance(&mut self, argv: &[&str]) -> Result<String> {
        let limit = Duration::from_secs(15);
        self.reconnect()?;
        let agent = &mut self.running()?.agent;
        agent.ping(Duration::from_secs(5))?;
        let output = agent.exec_within(argv, b"", limit, limit)?;
        if output.code == 0 {
            return Ok(output.stdout);
        }
        Err(Error::Command { command: argv.join(" "), code: output.code, output: output.stderr.trim().to_owned() })
    }

    /// A short file of a device that may restart at any moment, by a connection of its own.
    fn look(&mut self, path: &str) -> Result<String> {
        let limit = Duration::from_secs(10);
        self.reconnect()?;
        let agent = &mut self.running()?.agent;
        agent.ping(limit)?;
        Ok(String::from_utf8_lossy(&agent.get_within(path, limit)?).trim().to_owned())
    }

    /// An orderly power-off by systemd.
    pub fn shutdown(&mut self) -> Result<()> {
        self.running()?.agent.tell(&["systemctl", "poweroff", "--no-block"])?;
        until("power-off", BOOT_LIMIT, || {
            let status = self.running()?.qemu.try_wait().map_err(Error::file("wait for", "QEMU"))?;
            Ok(status.map_or_else(|| Look::NotYet("running".into()), |_| Look::Is(())))
        })?;
        self.power_cut()
    }

    /// Tells boots apart.
    pub fn boot_id(&mut self) -> Result<String> {
        let id = self.get(BOOT_ID)?;
        Ok(String::from_utf8_lossy(&id).trim().to_owned())
    }

    /// A monitor command, for scenarios about the machine itself.
    pub fn monitor(&mut self, command: &str, arguments: serde_json::Value) -> Result<serde_json::Value> {
        self.running()?.qmp.command(command, arguments)
    }

    /// Offline access to a partition of the disk: whether `bytes` is in it, flipped to `other` of the same length. For
    /// attacks on a device whose power is off.
    pub fn disk(&self) -> PathBuf {
        self.folder.join("disk.qcow2")
    }

    fn running(&mut self) -> Result<&mut Running> {
        self.running.as_mut().ok_or(Error::Off)
    }

    /// A connection of its own for each boot: half a reply of the last one must not be in the way.
    fn reconnect(&mut self) -> Result<()> {
        let agent = Agent::connect(&self.folder.join("agent.sock"))?;
        self.running()?.agent = agent;
        Ok(())
    }

    fn start_tpm(&self) -> Result<Child> {
        let socket = self.folder.join("tpm.sock");
        let _ = fs::remove_file(&socket);
        let child = own("swtpm")
            .args(["socket", "--tpm2", "--tpmstate"])
            .arg(format!("dir={}", self.folder.join("tpm").display()))
            .arg("--ctrl")
            .arg(format!("type=unixio,path={}", socket.display()))
            .stdin(Stdio::null())
            .stdout(self.log("tpm.log")?)
            .stderr(self.log("tpm.log")?)
            .spawn()
            .map_err(|source| Error::Start { program: "swtpm".into(), source })?;
        wait_for_file(&socket)?;
        Ok(child)
    }

    fn start_qemu(&self, options: &BootOptions) -> Result<(Child, Qmp, Agent)> {
        let (qmp, agent) = (self.folder.join("qmp.sock"), self.folder.join("agent.sock"));
        for socket in [&qmp, &agent] {
            let _ = fs::remove_file(socket);
        }
        let mut child = own("qemu-system-x86_64")
            .args(self.arguments(options))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(self.log("qemu.log")?)
            .spawn()
            .map_err(|source| Error::Start { program: "qemu-system-x86_64".into(), source })?;
        let connected = wait_for_file(&qmp)
            .and_then(|()| until("QEMU's monitor", Duration::from_secs(60), || Ok(Look::Is(Qmp::connect(&qmp)?))))
            .and_then(|qmp| Ok((qmp, Agent::connect(&agent)?)));
        match connected {
            Ok((qmp, agent)) => Ok((child, qmp, agent)),
            Err(error) => {
                end(&mut child);
                let output = fs::read_to_string(self.folder.join("qemu.log")).unwrap_or_default();
                if output.trim().is_empty() {
                    Err(error)
                } else {
                    Err(Error::QemuEnded { status: "an error".into(), output: output.trim().to_owned() })
                }
            }
        }
    }

    fn arguments(&self, options: &BootOptions) -> Vec<String> {
        let path = |name: &str| self.folder.join(name).display().to_string();
        let mut all = Vec::new();
        let mut add = |words: &[&str]| all.extend(words.iter().map(|&w| w.to_owned()));
        // Translated, a fifth level of page tables costs a sixth of each boot.
        let cpu = if self.accel == Accel::Kvm { "host" } else { "max,la57=off" };
        add(self.uefi.machine());
        add(&["-accel", self.accel.argument(), "-cpu", cpu, "-smp", &self.processors.to_string(), "-m", "1024"]);
        add(&["-nodefaults", "-display", "none", "-action", "watchdog=reset"]);
        add(&["-drive", &format!("if=pflash,unit=0,format=raw,readonly=on,file={}", self.uefi.code())]);
        add(&["-drive", &format!("if=pflash,unit=1,format=raw,file={}", path("vars.fd"))]);
        add(&["-chardev", &format!("socket,id=tpm,path={}", path("tpm.sock"))]);
        add(&["-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0"]);
        // writeback: a flush of the guest reaches the file, what it did not flush may go with QEMU.
        add(&["-drive", &format!("if=none,id=d0,format=qcow2,cache=writeback,file={}", path("disk.qcow2"))]);
        add(&["-device", "virtio-blk-pci,drive=d0", "-device", "virtio-rng-pci", "-device", "i6300esb"]);
        add(&["-device", "virtio-serial-pci"]);
        add(&["-chardev", &format!("socket,id=agent,path={},server=on,wait=off", path("agent.sock"))]);
        add(&["-device", &format!("virtserialport,chardev=agent,name={PORT}")]);
        add(&["-qmp", &format!("unix:{},server=on,wait=off", path("qmp.sock"))]);
        add(&["-serial", &format!("file:{}", self.serial_log().display())]);
        let mut network = "user,id=n0,restrict=on,ipv6=off".to_owned();
        for (address, port) in [("10.0.2.100", self.network.server), ("10.0.2.101", self.network.mirror)] {
            if let Some(port) = port {
                network.push_str(&format!(",guestfwd=tcp:{address}:80-cmd:socat - TCP:127.0.0.1:{port}"));
            }
        }
        add(&["-netdev", &network, "-device", "virtio-net-pci,netdev=n0"]);
        if let Some(clock) = &options.clock {
            add(&["-rtc", &format!("base={clock},clock=vm")]);
        }
        if !options.kernel.is_empty() {
            let words = options.kernel.join(" ");
            add(&["-smbios", &format!("type=11,value=io.systemd.stub.kernel-cmdline-extra={words}")]);
        }
        for text in &options.smbios {
            add(&["-smbios", &format!("type=11,value={text}")]);
        }
        all
    }

    fn log(&self, name: &str) -> Result<fs::File> {
        let path = self.folder.join(name);
        fs::OpenOptions::new().create(true).append(true).open(&path).map_err(Error::file("open", path))
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        let _ = self.power_cut();
    }
}

/// A child that does not outlive the harness, however that ends.
pub fn own(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]);
    command
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn wait_for_file(path: &Path) -> Result<()> {
    until(&format!("{}", path.display()), Duration::from_secs(60), || {
        Ok(if path.exists() { Look::Is(()) } else { Look::NotYet("missing".into()) })
    })
}

/// Runs a program of this machine that must succeed; gives its standard output.
pub fn run(command: &mut Command) -> Result<String> {
    let name = format!("{command:?}");
    let output =
        command.stdin(Stdio::null()).output().map_err(|source| Error::Start { program: name.clone(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.trim().is_empty() {
        said = String::from_utf8_lossy(&output.stdout).into_owned();
    }
    Err(Error::Program { program: name, status: output.status.to_string(), output: said.trim().to_owned() })
}
