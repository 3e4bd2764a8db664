//! The command line: which scenarios to run, and what is printed of them.

use std::path::PathBuf;
use std::process::{Child, ExitCode, Stdio};
use std::time::Instant;

use clap::{Parser, Subcommand};

use crate::accel::Accel;
use crate::error::chain;
use crate::repo::Built;
use crate::scenarios::{LANES, LONG, Scenario};
use crate::steps::{Steps, table};
use crate::vm::own;
use crate::world::World;
use crate::{bench, demo};

/// Boots the reference image and runs scenarios on it. To be run inside the build root.
#[derive(Debug, Parser)]
#[command(name = "qemu-tests")]
pub struct Args {
    /// The checkout.
    #[arg(long, value_name = "DIR", default_value = ".", global = true)]
    top: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the scenarios.
    Run {
        /// Only those whose names contain one of these (comma-separated).
        #[arg(long, value_name = "NAMES", value_delimiter = ',')]
        filter: Vec<String>,
        /// List them instead.
        #[arg(long)]
        list: bool,
        /// End at the first that fails.
        #[arg(long)]
        fail_fast: bool,
        /// Only those of this lane. Without it each lane has a device and a process of its own, side by side: devices
        /// mostly wait.
        #[arg(long, value_name = "LANE")]
        lane: Option<String>,
        /// Processors of each device. Without it, as many as this machine has for each lane, and at most two: devices that share
        /// a processor wait for each other's, and need longer than with one.
        #[arg(long, value_name = "COUNT")]
        processors: Option<usize>,
    },
    /// Show a device's main job as a story, with a table at the end.
    Demo,
    /// Measure on a booted device; writes rows as JSON.
    Bench {
        /// Where to.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Only the parts whose names contain one of these (comma-separated): payloads, peripherals, firmware.
        #[arg(long, value_name = "NAMES", value_delimiter = ',')]
        filter: Vec<String>,
    },
}

/// Does what the command line says.
pub fn run(args: &Args) -> ExitCode {
    end_with_signals();
    let built = Built::in_checkout(&args.top);
    match &args.command {
        Command::Demo => demo::run(&built),
        Command::Bench { out, filter } => bench::run(&built, out, |part| wanted(part, filter)),
        Command::Run { filter, list, fail_fast, lane, processors } => {
            let lanes: Vec<(&str, Vec<Scenario>)> = LANES
                .iter()
                .filter(|(name, _)| match lane {
                    Some(lane) => lane == name,
                    None => *name != LONG || !filter.is_empty() || *list,
                })
                .map(|(name, all)| (*name, all.iter().copied().filter(|s| wanted(s.name, filter)).collect()))
                .filter(|(_, chosen): &(_, Vec<Scenario>)| !chosen.is_empty())
                .collect();
            if *list {
                for s in lanes.iter().flat_map(|(_, chosen)| chosen) {
                    println!("{:<24} {}", s.name, s.about);
                }
                return ExitCode::SUCCESS;
            }
            let Some(((name, chosen), others)) = lanes.split_first() else {
                eprintln!("qemu-tests: no scenario is named like {filter:?}; see `qemu-tests run --list`");
                return ExitCode::from(64);
            };
            let here = std::thread::available_parallelism().map_or(1, usize::from);
            let processors = processors.unwrap_or((here / lanes.len()).clamp(1, 2));
            let others =
                others.iter().map(|(lane, _)| Beside::start(&built, lane, args, processors)).collect::<Vec<_>>();
            let first = scenarios(&built, name, chosen, *fail_fast, processors);
            // Every lane is waited for, whatever the others came to.
            let failed = others.into_iter().map(Beside::passed).filter(|passed| !passed).count();
            if failed == 0 { first } else { ExitCode::FAILURE }
        }
    }
}

/// A lane in a process of its own. What it prints is shown when it has ended.
struct Beside {
    name: String,
    log: PathBuf,
    child: std::io::Result<Child>,
}

impl Beside {
    fn start(built: &Built, name: &str, args: &Args, processors: usize) -> Self {
        let log = built.folder.join("vm").join(format!("{name}.log"));
        let start = || {
            std::fs::create_dir_all(built.folder.join("vm"))?;
            let out = std::fs::File::create(&log)?;
            let program = std::env::current_exe()?;
            let mut command = own(&program.to_string_lossy());
            command.arg("--top").arg(&args.top).args(["run", "--lane", name, "--processors", &processors.to_string()]);
            if let Command::Run { filter, fail_fast, .. } = &args.command {
                if !filter.is_empty() {
                    command.args(["--filter", &filter.join(",")]);
                }
                if *fail_fast {
                    command.arg("--fail-fast");
                }
            }
            command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).spawn()
        };
        let child = start();
        println!("qemu-tests: the lane {name} runs beside this one; it is told in {}", log.display());
        Self { name: name.to_owned(), log, child }
    }

    fn passed(self) -> bool {
        let ended = self.child.and_then(|mut child| child.wait());
        println!("\n=== lane {}", self.name);
        print!("{}", std::fs::read_to_string(&self.log).unwrap_or_default());
        match ended {
            Ok(status) => status.success(),
            Err(error) => {
                println!("the lane {} could not be run: {error}", self.name);
                false
            }
        }
    }
}

fn wanted(name: &str, filter: &[String]) -> bool {
    filter.is_empty() || filter.iter().any(|f| name.contains(f.as_str()))
}

fn scenarios(built: &Built, lane: &str, chosen: &[Scenario], fail_fast: bool, processors: usize) -> ExitCode {
    let accel = Accel::detect();
    println!("qemu-tests: {} scenarios of lane {lane}, {}", chosen.len(), accel.name());
    let (mut passed, mut failed) = (0, Vec::new());
    let mut world = None;
    for scenario in chosen {
        println!("\n{}: {}", scenario.name, scenario.about);
        let started = Instant::now();
        let mut steps = Steps::new();
        let outcome = match world.take().map_or_else(|| World::create(built, lane, accel), Ok) {
            Ok(mut shared) => {
                shared.vm.set_processors(processors);
                let outcome = (scenario.run)(&mut shared, &mut steps);
                match &outcome {
                    Ok(()) => world = Some(shared),
                    // A device that failed is not trusted with the next scenario.
                    Err(_) => println!("{}", shared.evidence()),
                }
                outcome
            }
            Err(error) => Err(error),
        };
        println!("{}", table(steps.rows()));
        let took = started.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => {
                println!("{}: passed in {took:.0} s", scenario.name);
                passed += 1;
            }
            Err(error) => {
                println!("{}: FAILED after {took:.0} s: {}", scenario.name, chain(&error));
                failed.push(scenario.name);
                if fail_fast {
                    break;
                }
            }
        }
    }
    if !failed.is_empty() {
        println!("\nfailed: {}", failed.join(", "));
    }
    println!("\n{passed} passed, {} failed", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Ends at once on a signal, as the first process of a build root would not of itself; QEMU and swtpm go with us
/// (`setpriv --pdeathsig`).
fn end_with_signals() {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    match signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM]) {
        Ok(mut signals) => {
            std::thread::spawn(move || {
                if let Some(signal) = signals.forever().next() {
                    eprintln!("qemu-tests: ended by signal {signal}");
                    std::process::exit(128 + signal);
                }
            });
        }
        Err(error) => eprintln!("qemu-tests: could not watch for signals: {error}"),
    }
}
