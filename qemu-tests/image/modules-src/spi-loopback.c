// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * An SPI controller whose MOSI is wired to its MISO: what a transfer sends, it receives. For the tests' image only; the
 * kernel has drivers for hardware alone, and a virtual machine of this kind has no SPI hardware.
 *
 * It has two chip selects and a device on each. No driver takes them by itself: write a driver's name to driver_override
 * of spi0.0 or spi0.1, then the device's name to the driver's bind. A transfer takes the time that its bits take at its
 * speed; modes and word sizes are accepted and, on a wire that leads back, make no difference.
 */
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/math64.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/spi/spi.h>
#include <linux/string.h>

#define CHIP_SELECTS 2
#define MAX_SPEED_HZ 10000000

static struct platform_device *parent;
static struct spi_controller *controller;

static void take_bus_time(const struct spi_transfer *transfer)
{
	u64 bits = (u64)transfer->len * BITS_PER_BYTE;
	unsigned long us = div_u64(bits * USEC_PER_SEC + transfer->speed_hz - 1, transfer->speed_hz);

	if (us <= 10)
		udelay(us);
	else
		usleep_range(us, us);
}

static int transfer_one(struct spi_controller *ctlr, struct spi_device *spi, struct spi_transfer *transfer)
{
	take_bus_time(transfer);
	if (!transfer->rx_buf)
		return 0;
	if (transfer->tx_buf)
		memcpy(transfer->rx_buf, transfer->tx_buf, transfer->len);
	else /* nothing to send: MOSI stays low */
		memset(transfer->rx_buf, 0, transfer->len);
	return 0;
}

static int add_devices(void)
{
	struct spi_board_info info = { .modalias = "spi-loopback-device", .max_speed_hz = MAX_SPEED_HZ };

	for (; info.chip_select < CHIP_SELECTS; info.chip_select++)
		if (!spi_new_device(controller, &info))
			return -ENODEV;
	return 0;
}

static int __init spi_loopback_init(void)
{
	int ret;

	parent = platform_device_register_simple("spi-loopback", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(parent))
		return PTR_ERR(parent);
	controller = spi_alloc_host(&parent->dev, 0);
	if (!controller) {
		ret = -ENOMEM;
		goto no_controller;
	}
	controller->bus_num = -1; /* the next one that is free */
	controller->num_chipselect = CHIP_SELECTS;
	controller->mode_bits = SPI_MODE_X_MASK | SPI_CS_HIGH | SPI_LSB_FIRST | SPI_LOOP;
	controller->max_speed_hz = MAX_SPEED_HZ; /* so that no transfer is without a speed */
	controller->transfer_one = transfer_one;
	ret = spi_register_controller(controller);
	if (ret) {
		spi_controller_put(controller);
		goto no_controller;
	}
	ret = add_devices();
	if (!ret)
		return 0;
	spi_unregister_controller(controller);
no_controller:
	platform_device_unregister(parent);
	return ret;
}
module_init(spi_loopback_init);

static void __exit spi_loopback_exit(void)
{
	spi_unregister_controller(controller); /* and its devices */
	platform_device_unregister(parent);
}
module_exit(spi_loopback_exit);

MODULE_DESCRIPTION("SPI controller with MOSI wired to MISO");
MODULE_LICENSE("Dual MIT/GPL");
