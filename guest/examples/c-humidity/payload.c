/* The humidity of the board's climate sensor (a BME280 on the reference board), in C. */
#include "iotwasm.h"

#define SENSOR "climate"

int32_t iotwasm_self_test(void) {
    /* Turns the sensor on. In thousandths of a percent, without the ends of the scale. */
    return iotwasm_test_sensor(SENSOR, "humidity", 1000, 99000);
}

void iotwasm_run(void) {
    while (iotwasm_wait(2000) != IOTWASM_STOPPING) {
        char humidity[IOTWASM_MAX_VALUE + 1];
        switch (iotwasm_read(SENSOR, "humidity", humidity, sizeof humidity)) {
        case IOTWASM_OK:
            iotwasm_report(IOTWASM_HEALTHY, humidity);
            iotwasm_write(IOTWASM_INFO, humidity);
            break;
        case IOTWASM_UNAVAILABLE:
            iotwasm_report(IOTWASM_DEGRADED, "peripherals are away for a moment");
            break;
        default:
            iotwasm_report(IOTWASM_DEGRADED, "the sensor cannot be read");
        }
    }
    (void)iotwasm_turn_off(SENSOR);
}
