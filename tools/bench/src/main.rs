//! Measures what needs no device and writes the rows as JSON: `iotwasm-bench OUT PYTHON SCRIPT FILE...`, where the files
//! are binaries whose size is of interest, each with its limit in megabytes as `PATH=LIMIT`.

mod engine;
mod tuf;

use std::{env, error::Error, fs, path::Path, process::ExitCode};

use qemu_tests::row::Row;

const ROUNDS: usize = 25;

fn main() -> ExitCode {
    match run(&env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("{err}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<(), Box<dyn Error>> {
    let [out, python, script, files @ ..] = args else {
        return Err("usage: iotwasm-bench OUT PYTHON SCRIPT [PATH[=MEGABYTES]...]".into());
    };
    let mut rows = tuf::run(ROUNDS, Path::new(python), Path::new(script))?;
    rows.extend(engine::run(ROUNDS)?);
    for file in files {
        let (path, limit) = file.split_once('=').map_or((file.as_str(), None), |(path, limit)| (path, Some(limit)));
        let name = Path::new(path).file_name().ok_or("a file has a name")?.to_string_lossy();
        let megabytes = fs::metadata(path)?.len() as f64 / 1e6;
        let row = Row::plain(&format!("size of {name}"), megabytes, "MB");
        rows.push(match limit {
            Some(limit) => row.at_most(limit.parse()?),
            None => row,
        });
    }
    fs::write(out, serde_json::to_vec_pretty(&rows)?)?;
    Ok(())
}
