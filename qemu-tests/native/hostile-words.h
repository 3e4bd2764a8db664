// What hostile-runner says to the supervisor and to capd, and how it hears what they answer: by hand, so that it can say
// what is not allowed. The words are those of daemons/wasm-supervisord/src/protocol.rs and crates/session/src/words.rs.
#pragma once
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONTROL = 0, MOST_FDS = 253, MAX_PACKET = 160 * 1024, PATIENCE_MS = 30000 };

// --- the supervisor ---------------------------------------------------------------------------------------------------

// FromRunner's kinds.
enum { LOADED = 1, SELF_TEST_PASSED = 2, HEALTH = 3, LOG = 4, ENDED = 6, SESSION_LOST = 7 };
enum { INFO = 6, STOPPED = 7 };

static void tell(const void *packet, size_t length) {
  if (send(CONTROL, packet, length, MSG_NOSIGNAL) < 0) exit(0); // the supervisor is gone, and with it the audience
}

// That it is well, now and then: attacks may take longer than a heartbeat.
static void live(void) {
  static time_t told;
  if (time(NULL) - told < 2) return;
  tell((uint8_t[]){HEALTH, 0}, 2);
  told = time(NULL);
}

static void report(const char *attack, const char *outcome, ...) {
  char line[512] = {LOG, INFO};
  int length = 2 + snprintf(line + 2, sizeof line - 2, "%s: ", attack);
  va_list arguments;
  va_start(arguments, outcome);
  length += vsnprintf(line + length, sizeof line - length, outcome, arguments);
  va_end(arguments);
  tell(line, length < (int)sizeof line ? length : (int)sizeof line - 1);
  live();
}

static void report_errno(const char *attack, bool done) { report(attack, "%s", done ? "done" : strerrorname_np(errno)); }

struct packet {
  ssize_t length; // negative: none came
  uint8_t bytes[MAX_PACKET];
  int fds[MOST_FDS];
  size_t count;
};
static struct packet answer;

static void drop_fds(void) {
  while (answer.count) close(answer.fds[--answer.count]);
}

// The next packet, in `answer`; the descriptors of the one before are closed.
static bool receive(int socket, int milliseconds) {
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof answer.fds)];
  } beside;
  struct iovec bytes = {answer.bytes, sizeof answer.bytes - 1};
  struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &beside, .msg_controllen = sizeof beside};
  drop_fds();
  answer.length = -1;
  if (poll(&(struct pollfd){socket, POLLIN, 0}, 1, milliseconds) != 1) return false;
  answer.length = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (answer.length < 0) return false;
  for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    answer.count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(answer.fds, CMSG_DATA(c), answer.count * sizeof(int));
  }
  answer.bytes[answer.length] = 0;
  return true;
}

// What the supervisor says begins with {"do":"…"; keeps its descriptors in `answer`.
static bool is(const char *what) { return strstr((char *)answer.bytes, what) != NULL; }

static void leave(void) {
  tell((uint8_t[]){ENDED, STOPPED}, 2);
  exit(0);
}

// --- the session with capd --------------------------------------------------------------------------------------------

enum { CLAIM, DENIED, TURN_ON, TURN_OFF, STATE, CONFIG, OPEN_LINE, SET_DIRECTION, WATCH, CLOSE_LINE, I2C, SPI, ACTUATE };
enum { READ, WRITE, TRANSFER, DELAY };
static const char *const ERRORS[] = {
    "NotFound", "NotAllowed", "ModeNotAllowed", "AlreadyInUse", "BadValue", "TooSoon", "NotOn",
    "Gone", "NotSupported", "TooLong", "BadRequest", "HardwareFault", "Bus", "ArbitrationLoss",
    "NoAcknowledgeAddress", "NoAcknowledgeData", "NoAcknowledge", "Overrun", "Other"};

static int session = -1;

// A request in the making. Postcard: numbers as varints, booleans and bytes as they are, lengths before what they count.
static uint8_t request[2 * MAX_PACKET];
static size_t length;

static void number(uint64_t value) {
  for (; value >= 0x80; value >>= 7) request[length++] = value | 0x80;
  request[length++] = value;
}
static void text(const char *value) {
  number(strlen(value));
  length += sprintf((char *)request + length, "%s", value);
}
static void zeros(size_t count) {
  number(count);
  memset(request + length, 0, count);
  length += count;
}
static void begin(unsigned kind) {
  length = 0;
  number(kind);
}

// Sends the request; the name of what came back.
static const char *ask(void) {
  live();
  if (send(session, request, length, MSG_NOSIGNAL) < 0) return errno == EPIPE ? "closed" : strerrorname_np(errno);
  if (!receive(session, PATIENCE_MS)) return answer.length < 0 && errno == ECONNRESET ? "closed" : "silent";
  if (answer.length == 0) return "closed";
  if (answer.bytes[0] == 0) return "done";
  return answer.length > 1 && answer.bytes[1] < sizeof ERRORS / sizeof *ERRORS ? ERRORS[answer.bytes[1]] : "unknown";
}

// A request that is numbers and no more.
static const char *ask_for(unsigned kind, size_t count, ...) {
  va_list numbers;
  begin(kind);
  va_start(numbers, count);
  while (count--) number(va_arg(numbers, unsigned));
  va_end(numbers);
  return ask();
}
static const char *ask_with(unsigned kind, unsigned index, const char *value) {
  begin(kind);
  number(index);
  text(value);
  return ask();
}
// One operation of a bus, on zeros.
static const char *ask_bus(unsigned kind, unsigned device, unsigned operation, size_t count) {
  begin(kind);
  number(device);
  number(1);
  number(operation);
  if (operation == READ || operation == DELAY) number(count);
  else zeros(count);
  return ask();
}
// Writes these bytes to the I2C device, and reads so many in the same transaction.
static const char *ask_i2c(unsigned device, const char *out, size_t bytes, unsigned in) {
  begin(I2C);
  number(device);
  number(in ? 2 : 1);
  number(WRITE);
  number(bytes);
  memcpy(request + length, out, bytes);
  length += bytes;
  if (in) number(READ), number(in);
  return ask();
}

// The table, as far as it is needed: places of names. What was not granted is at NOWHERE.
enum { NOWHERE = 9999 };
static struct { unsigned climate, dummy, bias, ratio, button, led, spare0, eeprom, loop, pump; } at;
static const uint8_t *cursor;

static uint64_t get(void) {
  uint64_t value = 0;
  for (unsigned shift = 0;; shift += 7) {
    value |= (uint64_t)(*cursor & 0x7f) << shift;
    if (!(*cursor++ & 0x80)) return value;
  }
}
static void find(const char *name, unsigned here, unsigned *place) {
  if (strlen(name) == cursor[0] && !memcmp(cursor + 1, name, cursor[0])) *place = here;
}
static void skip_text(void) {
  size_t bytes = get();
  cursor += bytes;
}
static void read_table(void) {
  cursor = answer.bytes + 2; // Ok, Claimed
  for (unsigned *place = (unsigned *)&at; place < (unsigned *)(&at + 1); place++) *place = NOWHERE;
  for (unsigned i = 0, count = get(); i < count; i++) {
    find("climate", i, &at.climate), find("dummy", i, &at.dummy);
    skip_text();
    for (unsigned c = 0, channels = get(); c < channels; c++) {
      find("acceleration_bias", c, &at.bias), find("temperature_oversampling", c, &at.ratio);
      skip_text();
      cursor += 3;
      get();
      skip_text();
    }
  }
  for (unsigned i = 0, count = get(); i < count; i++, cursor += 2) {
    find("button", i, &at.button), find("led", i, &at.led), find("spare0", i, &at.spare0);
    skip_text();
  }
  for (unsigned *place = &at.eeprom; place <= &at.loop; place++)
    for (unsigned i = 0, count = get(); i < count; i++) {
      find("eeprom", i, &at.eeprom), find("loop", i, &at.loop);
      skip_text();
      get(), cursor++, get();
    }
  for (unsigned i = 0, count = get(); i < count; i++) {
    find("pump", i, &at.pump);
    skip_text();
  }
}

// The descriptor that came with the last answer, now ours.
static int keep(size_t which) {
  if (which >= answer.count) return -1;
  int fd = answer.fds[which];
  answer.fds[which] = answer.fds[--answer.count];
  return fd;
}

// Another session after one that capd has ended, from the supervisor.
static bool another(int patience_ms) {
  for (int waited = 0; waited < patience_ms; waited += 1000) {
    live();
    if (!receive(CONTROL, 1000)) continue;
    if (answer.length == 0 || is("\"stop\"")) leave();
    if (is("\"session\"") && (session = keep(0)) >= 0) return true;
  }
  return false;
}

static bool renew(void) {
  close(session);
  tell((uint8_t[]){SESSION_LOST}, 1);
  if (!another(PATIENCE_MS)) return false;
  begin(CLAIM);
  return !strcmp(ask(), "done");
}
