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

#define IOTWASM_IMPORT(name) __attribute__((import_module("iotwasm"), import_name(#name)))

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

/* What the host functions return. */
enum iotwasm_result {
    IOTWASM_OK = 0,
    IOTWASM_BAD_POINTER = -1,      /* the message is not within the memory */
    IOTWASM_BAD_ARGUMENT = -2,     /* no such status or level, or a negative time */
    IOTWASM_MESSAGE_TOO_LONG = -3, /* more than IOTWASM_MAX_MESSAGE bytes */
    IOTWASM_STOPPING = -4          /* iotwasm_wait(): leave the loop and return from iotwasm_run() now */
};

/* Longest message, in bytes. */
#define IOTWASM_MAX_MESSAGE 4096

/* Reports a status with a message in UTF-8 of this many bytes; it needs no terminating zero. */
IOTWASM_IMPORT(iotwasm_health) int32_t iotwasm_health(int32_t status, const char *message, size_t length);

/* Writes a line to the device's journal. */
IOTWASM_IMPORT(iotwasm_log) int32_t iotwasm_log(int32_t level, const char *message, size_t length);

/* Sleeps for this many milliseconds. When it returns, the fuel of the next wake-up is full. */
IOTWASM_IMPORT(iotwasm_wait) int32_t iotwasm_wait(int64_t milliseconds);

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

#ifdef __cplusplus
}
#endif

#endif
