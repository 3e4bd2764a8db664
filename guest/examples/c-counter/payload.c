/* The counter, in C: it keeps its count in a directory that survives restarts and updates. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "iotwasm.h"

#define COUNT "/state/count"
#define COUNT_NEW "/state/count.new"

static unsigned long count;

static int save(void) {
    FILE *file = fopen(COUNT_NEW, "w");
    if (file == NULL) return -1;
    int written = fprintf(file, "%lu\n", count);
    /* fclose writes what is still buffered: only then is it known whether it went through. */
    if (fclose(file) != 0 || written < 0) return -1;
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
