//! The simulated peripherals of the test image, seen from the kernel's side: what other scenarios stand on.

use std::time::Duration;

use super::Scenario;
use super::hardware::{STUB, folder, level, line, replug, sh, unplug};
use crate::error::Result;
use crate::steps::Steps;
use crate::vm::Vm;
use crate::wait::{Look, until};
use crate::world::World;

/// They are there, and behave like hardware.
pub(super) const PERIPHERALS: Scenario = Scenario {
    name: "peripherals",
    about: "simulated lines, sensors and buses answer the kernel's interfaces",
    run: peripherals,
};

/// The sensor's readings, in milli-degrees and milli-percent: the BMP280 data sheet's example, and a humidity.
const READINGS: &str = "25080 100.653 46096";

/// How long a program in the device may take to do one thing to a device.
const LIMIT: Duration = Duration::from_secs(60);

fn peripherals(world: &mut World, steps: &mut Steps) -> Result<()> {
    world.ensure_booted()?;
    let vm = &mut world.vm;
    steps.step("the journal says that everything is there", "gpio i2c bme280 dummy spi", || {
        sh(vm, "journalctl -u qemu-peripherals -o cat _COMM=qemu-peripheral | sed -n '/: failed/!s/:.*//p' | xargs")
    })?;
    lines(vm, steps)?;
    sensors(vm, steps)?;
    buses(vm, steps)
}

fn lines(vm: &mut Vm, steps: &mut Steps) -> Result<()> {
    steps.step("the chip has its label and size", "[iotwasm-sim] (8 lines)", || {
        sh(vm, "gpiodetect | grep -F iotwasm-sim | cut -d' ' -f2-")
    })?;
    steps.step("its lines have their names", "led button valve pump door spare0 spare1 spare2", || {
        sh(vm, "gpioinfo --chip $(gpiodetect | sed -n '/iotwasm-sim/s/ .*//p') | sed -n 's/^[^\"]*\"\\([^\"]*\\)\".*/\\1/p' | xargs")
    })?;
    steps.step("a line that is set shows outside", "1", || {
        vm.run(&["systemd-run", "--quiet", "--collect", "--unit=qemu-line", "gpioset", "led=1"])?;
        until("the line's value", LIMIT, || {
            let value = level(vm, "led")?;
            Ok(if value == "1" { Look::Is(value) } else { Look::NotYet(value) })
        })
    })?;
    steps.must("and is free again when its owner ends", || {
        vm.sh("systemctl stop qemu-line.service; gpioget led").map(drop)
    })?;
    steps.step("an input follows its pull", "\"door\"=active \"door\"=inactive", || {
        let door = line("door");
        sh(vm, &format!("for p in up down; do echo pull-$p >{door}/pull; gpioget door; done | xargs -d '\\n'"))
    })?;
    steps.step("an edge is an event", "rising", || {
        let script = "set -e
            gpiomon --num-events=1 --format=%E door >/run/qemu-edge & monitor=$!
            until gpioinfo door | grep -q gpiomon; do kill -0 $monitor; done
            echo pull-up >DOOR/pull; wait $monitor; echo pull-down >DOOR/pull; cat /run/qemu-edge";
        sh(vm, &script.replace("DOOR", &line("door")))
    })
}

fn sensors(vm: &mut Vm, steps: &mut Steps) -> Result<()> {
    steps.step("the kernel's driver reads the example from the BME280", READINGS, || readings(vm))?;
    steps.step("a sensor that is unplugged is gone", "gone", || {
        unplug(vm)?;
        Ok(if readings(vm).is_err() { "gone".into() } else { "there".into() })
    })?;
    steps.step("and comes back", READINGS, || {
        replug(vm)?;
        readings(vm)
    })?;
    steps.step("the IIO dummy keeps what is written to its output", "73 1234", || {
        let dummy = folder("iotwasm-dummy");
        sh(vm, &format!("{dummy}; echo 1234 >out_voltage0_raw; cat in_voltage0_raw out_voltage0_raw | xargs"))
    })
}

fn buses(vm: &mut Vm, steps: &mut Steps) -> Result<()> {
    steps.step("the second chip of the I2C bus keeps registers", "0xa5", || {
        sh(vm, &format!("n={STUB}; n=${{n##*-}}; i2cset -y $n 0x50 0x10 0xa5 && i2cget -y $n 0x50 0x10"))
    })?;
    steps.step("a second BME280 is there, without a driver", "0x60 none", || {
        let driver = "[ -e $b/${b##*-}-0077/driver ] && echo driver || echo none";
        sh(vm, &format!("b={STUB}; echo $(i2cget -y ${{b##*-}} 0x77 0xd0) $({driver})"))
    })?;
    steps.step("what is written to the SPI device goes over its bus", "5", || {
        sh(vm, "s=/sys/bus/spi/devices/spi0.0/statistics/bytes_tx; b=$(cat $s); printf hello >/dev/spidev0.0; echo $(($(cat $s) - b))")
    })?;
    steps.step("the kernel's own loopback tests pass on it", "0", || {
        let script = "set -e
            modprobe spi-loopback-test loopback=1 delay_ms=0 run_only_iter_len=256
            echo spi-loopback-test >/sys/bus/spi/devices/spi0.1/driver_override
            echo spi0.1 >/sys/bus/spi/drivers/spi-loopback-test/bind
            modprobe -r spi-loopback-test
            dmesg | sed -n 's/.*spi0.1: Finished spi-loopback-tests with return: //p' | tail -n1";
        sh(vm, script)
    })
}

fn readings(vm: &mut Vm) -> Result<String> {
    // The pressure is in kilopascals: to its pascals, as the others to their thousandths.
    let files = "cut -d. -f1 in_temp_input; cut -c1-7 in_pressure_input; cut -d. -f1 in_humidityrelative_input";
    sh(vm, &format!("{}; echo $({files})", folder("bme280")))
}
