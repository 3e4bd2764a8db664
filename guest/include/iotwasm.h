/* iotwasm.h: what a payload in C is written with. The same ABI, version 1, as the Rust crate iotwasm-guest.
 *
 * A payload defines iotwasm_self_test() and iotwasm_run(). Compile it as a reactor and export the memory (which is what
 * the linker does by itself):
 *
 *   clang --target=wasm32-wasi -mexec-model=reactor -Os -Iguest/include payload.c -o payload.wasm \
 *         -Wl,--export=iotwasm_self_test -Wl,--export=iotwasm_run
 *
 * The --export options make a forgotten self-test an error of the linker.
 */
#ifndef IOTWASM_H
#define IOTWASM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define IOTWASM_IMPORT_FROM(module, name) __attribute__((import_module(module), import_name(name)))
#define IOTWASM_IMPORT(name) IOTWASM_IMPORT_FROM("iotwasm", #name)

/* How the payload feels: the status of iotwasm_health(). Every report is also the heartbeat. */
enum iotwasm_status {
    IOTWASM_HEALTHY = 0,          /* all is well */
    IOTWASM_DEGRADED = 1,         /* it works, but not as it should */
    IOTWASM_FAILED = 2,           /* it has failed; a trial is rolled back, a committed payload is started again */
    IOTWASM_SELF_TEST_PASSED = 3, /* only for the entry style "command", before its self-test limit ends */
    IOTWASM_SELF_TEST_FAILED = 4  /* the message says why */
};

/* The level of iotwasm_log(): syslog's. */
enum iotwasm_level {
    IOTWASM_ERROR = 3,
    IOTWASM_WARNING = 4,
    IOTWASM_INFO = 6,
    IOTWASM_DEBUG = 7
};

/* What the host functions return: 0 or one of these. docs/peripherals.md says more about each. */
enum iotwasm_result {
    IOTWASM_OK = 0,
    IOTWASM_BAD_POINTER = -1,       /* not within the memory */
    IOTWASM_BAD_ARGUMENT = -2,      /* no such status, level, flag or handle; a negative time; not UTF-8 */
    IOTWASM_TOO_LONG = -3,          /* a message, name or value over its limit, or more than the board allows at once */
    IOTWASM_STOPPING = -4,          /* a wait: leave the loop and return from iotwasm_run() now */
    IOTWASM_BUFFER_TOO_SMALL = -5,  /* the length out says how much is needed */
    IOTWASM_NOT_FOUND = -6,         /* the board has no such name */
    IOTWASM_NOT_ALLOWED = -7,       /* the manifest does not ask for it */
    IOTWASM_MODE_NOT_ALLOWED = -8,  /* the manifest asks for it, but not to be used like this */
    IOTWASM_ALREADY_IN_USE = -9,    /* another payload has it, or has set it otherwise */
    IOTWASM_BAD_VALUE = -10,        /* not a value of its kind, or none that may be written */
    IOTWASM_TOO_SOON = -11,         /* written, or asked, too often */
    IOTWASM_NOT_ON = -12,           /* turn the sensor on first */
    IOTWASM_GONE = -13,             /* the device is not there */
    IOTWASM_UNAVAILABLE = -14,      /* nothing was done; try again in a moment */
    IOTWASM_HARDWARE_FAULT = -15,   /* the device or its driver failed */
    IOTWASM_NOT_SUPPORTED = -16,    /* the device or its driver cannot do this */
    IOTWASM_TIMED_OUT = -17,        /* no edge in time */
    IOTWASM_BUS = -20,              /* I2C: bus error */
    IOTWASM_ARBITRATION_LOSS = -21, /* I2C: another master took the bus */
    IOTWASM_NO_ACKNOWLEDGE_ADDRESS = -22,
    IOTWASM_NO_ACKNOWLEDGE_DATA = -23,
    IOTWASM_NO_ACKNOWLEDGE = -24,   /* I2C: not known of what */
    IOTWASM_OVERRUN = -25,          /* I2C, SPI */
    IOTWASM_OTHER = -26,            /* I2C, SPI: another error of the bus */
    IOTWASM_MODE_FAULT = -30,       /* SPI */
    IOTWASM_FRAME_FORMAT = -31,     /* SPI */
    IOTWASM_CHIP_SELECT_FAULT = -32 /* SPI */
};

/* Longest message, in bytes. */
#define IOTWASM_MAX_MESSAGE 4096

/* Reports a status with a message in UTF-8 of this many bytes; it needs no terminating zero. */
IOTWASM_IMPORT(iotwasm_health) int32_t iotwasm_health(int32_t status, const char *message, size_t length);

/* Writes a line to the device's journal. */
IOTWASM_IMPORT(iotwasm_log) int32_t iotwasm_log(int32_t level, const char *message, size_t length);

/* Sleeps for this many milliseconds. When it returns, the fuel of the next wake-up is full. */
IOTWASM_IMPORT(iotwasm_wait) int32_t iotwasm_wait(int64_t milliseconds);

/* Longest time for which iotwasm_hold_restart() can ask at once, in seconds. */
#define IOTWASM_MAX_HOLD_S 3600

/* Asks that the device not be restarted for this many seconds from now, in place of what was asked before; 0 releases. An
 * update of the firmware waits for it, but no longer than the device's settings allow. It ends with the payload.
 * IOTWASM_BAD_ARGUMENT for more than IOTWASM_MAX_HOLD_S; IOTWASM_TOO_SOON when the payload says too much, in holds, reports
 * and log lines together. Either way what was asked before still counts. A release is always taken. */
IOTWASM_IMPORT(iotwasm_hold_restart) int32_t iotwasm_hold_restart(int32_t seconds);

/* ---- Peripherals: each module needs something of it in [capabilities] of the manifest ------------------------------------
 *
 * Names are the board file's, given with their length. A list of names has a newline between two. None of these functions
 * waits, but for iotwasm_gpio_next_event(). */

/* Longest value, in bytes. */
#define IOTWASM_MAX_VALUE 64
/* Longest name, in bytes. */
#define IOTWASM_MAX_NAME 129

/* Sensors. Values are text as the kernel's driver has it, in the board file's unit, without a newline and without a zero.
 * "capabilities", "attributes" (a line for each: name, access, unit) and "state" (Stopped, Alive, Working, Sleeping) can be
 * read of every sensor, on or off. */
#define IOTWASM_SENSORS(name) IOTWASM_IMPORT_FROM("iotwasm_sensors", name)

IOTWASM_SENSORS("get_sensors") int32_t iotwasm_sensors_list(char *buffer, size_t size, size_t *length_out);
IOTWASM_SENSORS("turn_on") int32_t iotwasm_sensor_turn_on(const char *sensor, size_t length);
IOTWASM_SENSORS("turn_off") int32_t iotwasm_sensor_turn_off(const char *sensor, size_t length);
IOTWASM_SENSORS("config") int32_t iotwasm_sensor_config(
    const char *sensor, size_t sensor_length, const char *attribute, size_t attribute_length, const char *value,
    size_t value_length);
IOTWASM_SENSORS("read") int32_t iotwasm_sensor_read(
    const char *sensor, size_t sensor_length, const char *what, size_t what_length, char *buffer, size_t size,
    size_t *length_out);

/* Lines. A pin is leased from get to drop. */
#define IOTWASM_GPIO(name) IOTWASM_IMPORT_FROM("iotwasm_gpio", name)

/* Flags of iotwasm_gpio_get(): one of the first two (neither will do for a line that was granted one way), and for an
 * output perhaps one of the others, else it stays as it stands. */
enum iotwasm_gpio_flag {
    IOTWASM_GPIO_INPUT = 1,
    IOTWASM_GPIO_OUTPUT = 2,
    IOTWASM_GPIO_ACTIVE = 4,
    IOTWASM_GPIO_INACTIVE = 8
};

/* Bits of iotwasm_gpio_watch(), and what an event has. */
enum iotwasm_gpio_edge {
    IOTWASM_GPIO_RISING = 1,
    IOTWASM_GPIO_FALLING = 2
};

/* An edge. */
struct iotwasm_gpio_event {
    uint64_t timestamp_ns; /* when the kernel saw it, in nanoseconds since the boot (CLOCK_MONOTONIC) */
    uint32_t edge;         /* enum iotwasm_gpio_edge */
    uint32_t sequence;     /* counts up; a gap means that edges were lost */
    uint64_t reserved;     /* 0 */
};

IOTWASM_GPIO("get") int32_t iotwasm_gpio_get(const char *label, size_t length, uint32_t flags, uint32_t *pin_out);
/* 1 is active, 0 inactive, here and in set_state. */
IOTWASM_GPIO("read") int32_t iotwasm_gpio_read(uint32_t pin, uint32_t *state_out);
IOTWASM_GPIO("set_state") int32_t iotwasm_gpio_set(uint32_t pin, uint32_t state);
/* IOTWASM_GPIO_INPUT or IOTWASM_GPIO_OUTPUT, for a line that was granted both ways. */
IOTWASM_GPIO("set_pin_mode") int32_t iotwasm_gpio_set_mode(uint32_t pin, uint32_t mode);
/* Has these edges of an input queued; 0 stops it. */
IOTWASM_GPIO("watch") int32_t iotwasm_gpio_watch(uint32_t pin, uint32_t edges);
/* Waits for an edge as iotwasm_wait() does; 0 milliseconds take what is queued. IOTWASM_TIMED_OUT or IOTWASM_STOPPING if
 * none came; IOTWASM_UNAVAILABLE also when some may have been missed. */
IOTWASM_GPIO("next_event") int32_t iotwasm_gpio_next_event(
    uint32_t pin, int64_t milliseconds, struct iotwasm_gpio_event *event_out);
IOTWASM_GPIO("drop") int32_t iotwasm_gpio_drop(uint32_t pin);

/* I2C devices. Address and registers are the board file's. */
#define IOTWASM_I2C(name) IOTWASM_IMPORT_FROM("iotwasm_i2c", name)

/* What an operation of a transaction does; the last two are SPI's. */
enum iotwasm_operation_kind {
    IOTWASM_READ = 0,
    IOTWASM_WRITE = 1,
    IOTWASM_TRANSFER = 2, /* sends the buffer and fills it with what comes */
    IOTWASM_DELAY_NS = 3  /* length is nanoseconds, data is NULL */
};

/* One operation of a transaction. SPI takes at most 64 of them, pauses included; I2C at most 128, of which those of one kind
 * that follow each other are joined to one message, and at most 42 messages may be left. */
struct iotwasm_operation {
    uint32_t kind; /* enum iotwasm_operation_kind */
    void *data;
    size_t length; /* in bytes */
};

IOTWASM_I2C("open") int32_t iotwasm_i2c_open(const char *name, size_t length, uint32_t *device_out);
IOTWASM_I2C("read") int32_t iotwasm_i2c_read(uint32_t device, void *buffer, size_t length);
IOTWASM_I2C("write") int32_t iotwasm_i2c_write(uint32_t device, const void *data, size_t length);
/* Usually a register's address out, then its content in, with a repeated start between. */
IOTWASM_I2C("write_read") int32_t iotwasm_i2c_write_read(
    uint32_t device, const void *data, size_t data_length, void *buffer, size_t buffer_length);
IOTWASM_I2C("transaction") int32_t iotwasm_i2c_transaction(
    uint32_t device, const struct iotwasm_operation *operations, size_t count);

/* SPI devices. Mode, clock and word are the board file's. */
#define IOTWASM_SPI(name) IOTWASM_IMPORT_FROM("iotwasm_spi", name)

IOTWASM_SPI("get_device_names") int32_t iotwasm_spi_list(char *buffer, size_t size, size_t *length_out);
IOTWASM_SPI("open_device") int32_t iotwasm_spi_open(const char *name, size_t length, uint32_t *device_out);
/* Changes nothing: 0 if the board has it so, else IOTWASM_MODE_NOT_ALLOWED. The frequency is in hertz, the mode 0 to 3. */
IOTWASM_SPI("configure") int32_t iotwasm_spi_configure(
    uint32_t device, uint32_t frequency_hz, uint32_t mode, uint32_t lsb_first);
IOTWASM_SPI("read") int32_t iotwasm_spi_read(uint32_t device, void *buffer, size_t length);
IOTWASM_SPI("write") int32_t iotwasm_spi_write(uint32_t device, const void *data, size_t length);
IOTWASM_SPI("transfer") int32_t iotwasm_spi_transfer(uint32_t device, const void *data, void *buffer, size_t length);
IOTWASM_SPI("transaction") int32_t iotwasm_spi_transaction(
    uint32_t device, const struct iotwasm_operation *operations, size_t count);

/* Actuators. The value is text. retry_ms_out may be NULL; with IOTWASM_TOO_SOON it gets the milliseconds until the next
 * write may pass. */
IOTWASM_IMPORT_FROM("iotwasm_actuators", "write") int32_t iotwasm_actuator_write(
    const char *actuator, size_t length, const char *value, size_t value_length, uint32_t *retry_ms_out);

/* ---- The payload --------------------------------------------------------------------------------------------------------- */

/* To be defined by the payload. Returns 0 when it can do its work on this device; it must end within limits.self_test_ms. */
int32_t iotwasm_self_test(void);

/* To be defined by the payload. Works until iotwasm_wait() returns IOTWASM_STOPPING; returning earlier counts as a crash. */
void iotwasm_run(void);

/* The same with strings that end in a zero. */
static inline size_t iotwasm_length_(const char *text) {
    size_t length = 0;
    while (text[length] != '\0' && length < IOTWASM_MAX_MESSAGE) length++;
    return length;
}

static inline void iotwasm_report(enum iotwasm_status status, const char *message) {
    (void)iotwasm_health((int32_t)status, message, iotwasm_length_(message));
}

static inline void iotwasm_write(enum iotwasm_level level, const char *message) {
    (void)iotwasm_log((int32_t)level, message, iotwasm_length_(message));
}

/* The peripherals with strings that end in a zero. */

static inline int32_t iotwasm_turn_on(const char *sensor) {
    return iotwasm_sensor_turn_on(sensor, iotwasm_length_(sensor));
}

static inline int32_t iotwasm_turn_off(const char *sensor) {
    return iotwasm_sensor_turn_off(sensor, iotwasm_length_(sensor));
}

static inline int32_t iotwasm_config(const char *sensor, const char *attribute, const char *value) {
    return iotwasm_sensor_config(
        sensor, iotwasm_length_(sensor), attribute, iotwasm_length_(attribute), value, iotwasm_length_(value));
}

/* The text in the buffer ends in a zero, and so has to be shorter than it. How much longer a buffer has to be does not come
 * back with IOTWASM_BUFFER_TOO_SMALL: iotwasm_sensor_read() says that. */
static inline int32_t iotwasm_read(const char *sensor, const char *what, char *buffer, size_t size) {
    size_t length = 0;
    if (size == 0) return IOTWASM_BUFFER_TOO_SMALL;
    int32_t result = iotwasm_sensor_read(
        sensor, iotwasm_length_(sensor), what, iotwasm_length_(what), buffer, size - 1, &length);
    buffer[result == IOTWASM_OK ? length : 0] = '\0';
    return result;
}

/* A value as a number; IOTWASM_BAD_VALUE if it is none. Digits and a point, as the kernel writes them. */
static inline int32_t iotwasm_read_number(const char *sensor, const char *what, double *value_out) {
    char text[IOTWASM_MAX_VALUE + 1];
    int32_t result = iotwasm_read(sensor, what, text, sizeof text);
    if (result != IOTWASM_OK) return result;
    const char *at = text;
    double value = 0, unit = 1, sign = 1;
    if (*at == '-') sign = -1, at++;
    if (*at == '\0') return IOTWASM_BAD_VALUE;
    for (; *at >= '0' && *at <= '9'; at++) value = value * 10 + (*at - '0');
    if (*at == '.')
        for (at++; *at >= '0' && *at <= '9'; at++) value += (*at - '0') * (unit /= 10);
    if (*at != '\0') return IOTWASM_BAD_VALUE;
    *value_out = sign * value;
    return IOTWASM_OK;
}

static inline int32_t iotwasm_get_pin(const char *label, uint32_t flags, uint32_t *pin_out) {
    return iotwasm_gpio_get(label, iotwasm_length_(label), flags, pin_out);
}

static inline int32_t iotwasm_actuate(const char *actuator, const char *value, uint32_t *retry_ms_out) {
    return iotwasm_actuator_write(
        actuator, iotwasm_length_(actuator), value, iotwasm_length_(value), retry_ms_out);
}

/* Questions for a self-test. On a failure they report what was found with IOTWASM_SELF_TEST_FAILED and return 1, which the
 * self-test then returns:
 *
 *   int32_t iotwasm_self_test(void) { return iotwasm_test_sensor("climate", "humidity", 1000, 99000); }
 */

/* Texts and whole numbers, for a message of a self-test. */
struct iotwasm_words_ {
    char text[160];
    size_t length;
};

static inline void iotwasm_say_(struct iotwasm_words_ *words, const char *text) {
    while (*text != '\0' && words->length + 1 < sizeof words->text) words->text[words->length++] = *text++;
    words->text[words->length] = '\0';
}

static inline void iotwasm_say_number_(struct iotwasm_words_ *words, double number) {
    char digits[24], *at = digits + sizeof digits - 1;
    int64_t whole = number > 9e17 ? (int64_t)9e17 : number < -9e17 ? (int64_t)-9e17 : (int64_t)number;
    uint64_t rest = whole < 0 ? (uint64_t)-whole : (uint64_t)whole;
    *at = '\0';
    do *--at = (char)('0' + rest % 10);
    while ((rest /= 10) != 0);
    if (number < 0) *--at = '-';
    iotwasm_say_(words, at);
}

static inline int32_t iotwasm_test_failed_(struct iotwasm_words_ *words) {
    (void)iotwasm_health(IOTWASM_SELF_TEST_FAILED, words->text, words->length);
    return 1;
}

/* The sensor answers, and what it says is within these bounds. It is left on. Leave the ends of its scale out of them: they
 * are what a broken sensor often says. */
static inline int32_t iotwasm_test_sensor(const char *sensor, const char *capability, double least, double most) {
    struct iotwasm_words_ words = {{0}, 0};
    double value = 0;
    int32_t result = iotwasm_turn_on(sensor);
    if (result == IOTWASM_OK) result = iotwasm_read_number(sensor, capability, &value);
    if (result == IOTWASM_OK && value >= least && value <= most) return 0;
    iotwasm_say_(&words, sensor);
    iotwasm_say_(&words, ": ");
    iotwasm_say_(&words, capability);
    if (result != IOTWASM_OK) {
        iotwasm_say_(&words, ": error ");
        iotwasm_say_number_(&words, result);
    } else {
        iotwasm_say_(&words, " is ");
        iotwasm_say_number_(&words, value);
        iotwasm_say_(&words, ", not within ");
        iotwasm_say_number_(&words, least);
        iotwasm_say_(&words, " and ");
        iotwasm_say_number_(&words, most);
    }
    return iotwasm_test_failed_(&words);
}

/* The line can be leased as an input and read. It is not held afterwards. */
static inline int32_t iotwasm_test_gpio_read(const char *label) {
    struct iotwasm_words_ words = {{0}, 0};
    uint32_t pin, state;
    int32_t result = iotwasm_get_pin(label, IOTWASM_GPIO_INPUT, &pin);
    if (result == IOTWASM_OK) {
        result = iotwasm_gpio_read(pin, &state);
        (void)iotwasm_gpio_drop(pin);
    }
    if (result == IOTWASM_OK) return 0;
    iotwasm_say_(&words, "line ");
    iotwasm_say_(&words, label);
    iotwasm_say_(&words, ": error ");
    iotwasm_say_number_(&words, result);
    return iotwasm_test_failed_(&words);
}

#ifdef __cplusplus
}
#endif

#endif
