/* The counter, in C: it keeps its count in a directory that survives restarts and updates. */
#define _POSIX_C_SOURCE 200809L /* fileno, fsync */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "iotwasm.h"

#define COUNT "/state/count"
#define COUNT_NEW "/state/count.new"

static unsigned long count;

static int save(void) {
    FILE *file = fopen(COUNT_NEW, "w");
    if (file == NULL) return -1;
    int written = fprintf(file, "%lu\n", count);
    /* On the disk before it has its name: else a power cut may leave the name with nothing behind it. */
    int kept = written < 0 || fflush(file) != 0 || fsync(fileno(file)) != 0 ? -1 : 0;
    if (fclose(file) != 0 || kept != 0) return -1;
    return rename(COUNT_NEW, COUNT);
}

int32_t iotwasm_self_test(void) {
    char text[128];
    FILE *file = fopen(COUNT, "r");
    if (file != NULL) {
        int read = fscanf(file, "%lu", &count);
        fclose(file);
        if (read != 1) {
            iotwasm_report(IOTWASM_SELF_TEST_FAILED, COUNT " holds no count");
            return 1;
        }
    }
    if (save() != 0) {
        snprintf(text, sizeof text, "could not save %s: %s", COUNT, strerror(errno));
        iotwasm_report(IOTWASM_SELF_TEST_FAILED, text);
        return 1;
    }
    return 0;
}

void iotwasm_run(void) {
    char text[64];
    iotwasm_write(IOTWASM_INFO, "counter in C begins");
    while (iotwasm_wait(1000) != IOTWASM_STOPPING) {
        count++;
        snprintf(text, sizeof text, "at %lu", count);
        iotwasm_report(save() == 0 ? IOTWASM_HEALTHY : IOTWASM_DEGRADED, text);
    }
    iotwasm_write(IOTWASM_INFO, "counter in C ends");
}
