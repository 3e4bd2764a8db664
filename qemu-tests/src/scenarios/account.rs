//! What the `iotwasm` command tells on the device itself.

use super::Scenario;
use crate::error::Result;
use crate::steps::Steps;
use crate::world::{COUNTER, World};

/// The field engineer's command.
pub(crate) const ACCOUNT: Scenario = Scenario {
    name: "device-commands",
    about: "status, history and logs on the device, for people and as JSON",
    run: account,
};

/// Shows what the command says, and that it says what is so.
pub(crate) fn account(world: &mut World, steps: &mut Steps) -> Result<()> {
    let committed = world.stand(5)?;
    let vm = &mut world.vm;
    for (words, what) in [
        (vec!["iotwasm", "device", "status"], "status names the committed version"),
        (vec!["iotwasm", "device", "history"], "history names it"),
    ] {
        let text = vm.run(&words)?;
        println!("\n  $ {}", words.join(" "));
        for line in text.lines().take(24) {
            println!("    {line}");
        }
        steps
            .step(what, &committed, || Ok(if text.contains(&committed) { committed.clone() } else { text.clone() }))?;
    }
    steps.step("logs have the payload's words", "yes", || {
        let text = vm.run(&["iotwasm", "device", "logs", COUNTER])?;
        // Not its name, which every line has.
        Ok(if text.contains(" begins at ") { "yes".into() } else { format!("{text:?}") })
    })?;
    steps.step("status as JSON has it, too", &committed, || {
        let text = vm.run(&["iotwasm", "--json", "device", "status"])?;
        let parsed: Option<serde_json::Value> = serde_json::from_str(&text).ok();
        let said = parsed.as_ref().and_then(|v| find(v, "committed")).unwrap_or_default();
        Ok(if said == committed { said } else { text })
    })?;
    steps.step("a payload that was never tried has no history", "nothing was tried yet", || {
        Ok(vm.run(&["iotwasm", "device", "history", "--payload", "nobody"])?.trim().to_owned())
    })?;
    steps.step("a daemon that does not answer is an error that names it", "69", || {
        let output = vm.exec(&["env", "IOTWASM_OTA_SOCKET=/run/iotwasm/none.sock", "iotwasm", "device", "history"])?;
        Ok(if output.stderr.contains("none.sock") { output.code.to_string() } else { format!("{output:?}") })
    })
}

/// The first string under that key, however deep.
fn find(value: &serde_json::Value, key: &str) -> Option<String> {
    match value {
        serde_json::Value::Object(map) => {
            map.get(key).and_then(|v| v.as_str().map(str::to_owned)).or_else(|| map.values().find_map(|v| find(v, key)))
        }
        serde_json::Value::Array(list) => list.iter().find_map(|v| find(v, key)),
        _ => None,
    }
}
