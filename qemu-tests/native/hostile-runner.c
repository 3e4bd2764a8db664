// Stands in the place of iotwasm-runner: a native program, with everything that a runner holds and none of the confinement
// that a runner puts on itself. It attacks the peripherals and says of each attempt how it ended, one line of the journal
// each: `attack: outcome`. In the test image only.
#define _GNU_SOURCE
#include "hostile-words.h"

#include <fcntl.h>
#include <linux/gpio.h>
#include <linux/i2c-dev.h>
#include <linux/spi/spidev.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

// --- attacks ----------------------------------------------------------------------------------------------------------

// Every ioctl that might change something, on a descriptor that is for something else.
static void every_ioctl(const char *attack, int fd) {
  static const unsigned long CALLS[] = {
      GPIO_V2_LINE_SET_CONFIG_IOCTL, GPIO_V2_GET_LINE_IOCTL, GPIO_GET_CHIPINFO_IOCTL, GPIO_GET_LINEHANDLE_IOCTL,
      GPIO_V2_GET_LINEINFO_WATCH_IOCTL, I2C_SLAVE, I2C_SLAVE_FORCE, I2C_RDWR, I2C_SMBUS, I2C_TENBIT,
      SPI_IOC_WR_MODE32, SPI_IOC_WR_MAX_SPEED_HZ, SPI_IOC_MESSAGE(1)};
  static uint8_t argument[1024];
  for (size_t i = 0; i < sizeof CALLS / sizeof *CALLS; i++) {
    memset(argument, 0, sizeof argument);
    if (!ioctl(fd, CALLS[i], argument)) return report(attack, "%#lx did something", CALLS[i]);
    if (errno != EPERM) return report(attack, "%#lx reached the kernel: %s", CALLS[i], strerrorname_np(errno));
  }
  report(attack, "EPERM");
}

static void lines(void) {
  const char *outcome = ask_for(OPEN_LINE, 2, at.button, 0);
  int fd = keep(0);
  report("open the button", "%s", outcome);
  struct gpio_v2_line_config output = {.flags = GPIO_V2_LINE_FLAG_OUTPUT};
  report_errno("make the button an output", !ioctl(fd, GPIO_V2_LINE_SET_CONFIG_IOCTL, &output));
  struct gpio_v2_line_values high = {.bits = 1, .mask = 1};
  report_errno("set the button", !ioctl(fd, GPIO_V2_LINE_SET_VALUES_IOCTL, &high));
  every_ioctl("other ioctls on the button", fd);
  report("ask for the button as an output", "%s", ask_for(OPEN_LINE, 3, at.button, 1, 0));
  report("ask to turn the button round", "%s", ask_for(SET_DIRECTION, 3, at.button, 1, 0));
  report("ask for the led as an input", "%s", ask_for(OPEN_LINE, 2, at.led, 0));
  report("watch a line that is not leased", "%s", ask_for(WATCH, 3, at.spare0, 1, 1));
  // What was handed over stays in our hands after the lease: what is it worth then?
  report("open the led", "%s", ask_for(OPEN_LINE, 4, at.led, 1, 1, 0));
  int led = keep(0);
  every_ioctl("other ioctls on the led", led);
  report("give the led back", "%s", ask_for(CLOSE_LINE, 1, at.led));
  close(led);
  close(fd);
  ask_for(CLOSE_LINE, 1, at.button);
}

static void sensors(int activity) {
  report("turn the sensor on", "%s", ask_for(TURN_ON, 1, at.climate));
  int fd = keep(0);
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  report_errno("write to a reading", write(fd, "1", 1) > 0);
  report_errno("open a reading for writing", open(path, O_RDWR) >= 0);
  every_ioctl("other ioctls on a reading", fd);
  close(fd);
  report_errno("shrink the activity file", !ftruncate(activity, 0));
  report_errno("grow the activity file", !ftruncate(activity, 1 << 20));
  report_errno("seal the activity file", !fcntl(activity, F_ADD_SEALS, F_SEAL_WRITE));
  begin(CONFIG), number(at.climate), number(at.ratio), text("4");
  report("write an attribute that may be read", "%s", ask());
  ask_for(TURN_ON, 1, at.dummy);
  for (const char *const *value = (const char *[]){"101", "-101", "1e1", "0x10", "\n5", "", NULL}; *value; value++) {
    begin(CONFIG), number(at.dummy), number(at.bias), text(*value);
    const char *outcome = ask();
    if (strcmp(outcome, "BadValue")) report("write a value out of its range", "%s: %s", *value, outcome);
  }
  report("write a value out of its range", "BadValue");
  ask_for(TURN_OFF, 1, at.dummy);
}

static void buses(void) {
  report("a register that is readable", "%s", ask_i2c(at.eeprom, "\x10", 1, 1));
  report("the register of an actuator, read", "%s", ask_i2c(at.eeprom, "\xf0", 1, 1));
  report("the register of an actuator, written", "%s", ask_i2c(at.eeprom, "\xf0\x01", 2, 0));
  report("a register that is only readable, written", "%s", ask_i2c(at.eeprom, "\x80\x01", 2, 0));
  report("run into a register, reading", "%s", ask_i2c(at.eeprom, "\xec", 1, 8));
  report("run into a register, writing", "%s", ask_i2c(at.eeprom, "\x7f\x01\x02", 3, 0));
  report("a read without a register", "%s", ask_bus(I2C, at.eeprom, READ, 1));
  report("more than the board allows", "%s", ask_i2c(at.eeprom, "\x00", 1, 0xffffffff));
  begin(I2C), number(at.eeprom), number(0);
  report("a transaction of nothing", "%s", ask());
  report("a kind of SPI transfer that was not granted", "%s", ask_bus(SPI, at.loop, WRITE, 4));
  report("an SPI transfer that was granted", "%s", ask_bus(SPI, at.loop, TRANSFER, 4));
  report("an SPI transfer that is too long", "%s", ask_bus(SPI, at.loop, TRANSFER, 65537));
  begin(SPI), number(at.loop), number(2), number(TRANSFER), zeros(4), number(DELAY), number(0xffffffff);
  report("an SPI transaction of four seconds", "%s", ask());
}

static void indices(void) {
  static const unsigned KINDS[] = {TURN_ON, TURN_OFF, STATE, OPEN_LINE, SET_DIRECTION, WATCH, CLOSE_LINE};
  for (unsigned index = 64; index <= 0xffff; index += 0xffff - 64) {
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++) {
      bool line = KINDS[i] == OPEN_LINE || KINDS[i] == SET_DIRECTION;
      const char *outcome = ask_for(KINDS[i], KINDS[i] == WATCH ? 3 : line ? 2 : 1, index, 0, 0);
      if (!strcmp(outcome, "done")) return report("indices beyond the table", "kind %u took %u", KINDS[i], index);
    }
    begin(CONFIG), number(at.dummy), number(index), text("1");
    if (!strcmp(ask(), "done") || !strcmp(ask_with(ACTUATE, index, "1"), "done") ||
        !strcmp(ask_bus(I2C, index, WRITE, 1), "done") || !strcmp(ask_bus(SPI, index, TRANSFER, 1), "done"))
      return report("indices beyond the table", "taken");
  }
  report("indices beyond the table", "refused");
}

static void actuators(void) {
  report("a value that the actuator has not", "%s", ask_with(ACTUATE, at.pump, "2"));
  unsigned passed = 0;
  const char *outcome = "";
  for (unsigned i = 0; i < 100; i++) passed += !strcmp(outcome = ask_with(ACTUATE, at.pump, i % 2 ? "0" : "1"), "done");
  report("a hundred writes", "%s, %s", passed <= 3 ? "few passed" : "many passed", outcome);
  begin(DENIED), number(1);
  zeros(100 * 1024);
  number(0);
  report("a denial with a name of 100 KB", "%s", ask());
}

// A file of the sensor in sysfs, where every IIO device of the machine is looked at.
static void open_attribute(const char *attack, const char *name, int flags) {
  char path[128];
  errno = ENOENT;
  for (unsigned i = 0; i < 8; i++) {
    snprintf(path, sizeof path, "/sys/bus/iio/devices/iio:device%u/%s", i, name);
    if (open(path, flags) >= 0) return report(attack, "done");
    if (errno != ENOENT) break;
  }
  report_errno(attack, false);
}

// Ways round capd.
static void round_capd(void) {
  report_errno("open a chip", open("/dev/gpiochip0", O_RDWR) >= 0);
  report_errno("open a bus", open("/dev/i2c-1", O_RDWR) >= 0);
  report_errno("open an SPI device", open("/dev/spidev0.0", O_RDWR) >= 0);
  report_errno("make a device node", !mknod("/tmp/chip", S_IFCHR | 0600, makedev(254, 0)));
  open_attribute("open an attribute for writing", "in_temp_oversampling_ratio", O_WRONLY);
  open_attribute("read a sensor past capd", "in_humidityrelative_input", O_RDONLY);
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/mem", getppid());
  report_errno("open the supervisor's memory", open(path, O_RDWR) >= 0);
  snprintf(path, sizeof path, "/proc/%d/fd", getppid());
  report_errno("look at the supervisor's descriptors", open(path, O_RDONLY | O_DIRECTORY) >= 0);
  report_errno("trace the supervisor", !ptrace(PTRACE_SEIZE, getppid(), 0, 0));
  int process = syscall(SYS_pidfd_open, getppid(), 0);
  report_errno("take a descriptor of the supervisor", syscall(SYS_pidfd_getfd, process, 0, 0) >= 0);
  report_errno("look closed and keep what was leased", !shutdown(session, SHUT_RDWR));
  int other = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_un capd = {AF_UNIX, "/run/iotwasm/capabilities.sock"};
  if (other < 0 || connect(other, (struct sockaddr *)&capd, sizeof capd)) return report_errno("call capd", false);
  static const char CALL[] = "{\"method\":\"io.iotwasm.Capabilities.OpenSession\",\"parameters\":{\"payload\":\"climate\","
                             "\"slot\":\"a\",\"sha256\":\"0000000000000000000000000000000000000000000000000000000000000000\"}}";
  send(other, CALL, sizeof CALL, MSG_NOSIGNAL);
  receive(other, PATIENCE_MS);
  report("call capd", "it answered %s", answer.bytes);
}

// Other processes and services: everybody of this user, which is the supervisor and all runners.
static void neighbours(void) {
  int process = syscall(SYS_pidfd_open, getppid(), 0), pair[2];
  report_errno("signal the supervisor", !kill(getppid(), 0));
  report_errno("signal the supervisor's thread", !syscall(SYS_tgkill, getppid(), getppid(), 0));
  report_errno("signal the supervisor by its descriptor", !syscall(SYS_pidfd_send_signal, process, 0, NULL, 0));
  report_errno("let a descriptor signal the supervisor", !fcntl(session, F_SETOWN, getppid()));
  report_errno("limit the supervisor", !prlimit(getppid(), RLIMIT_CORE, &(struct rlimit){0, 0}, NULL));
  unsigned opened = 0, signalled = 0;
  for (pid_t other = 1; other <= 0xffff; other++) {
    if (other == getpid()) continue;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", other);
    int memory = open(path, O_RDONLY);
    opened += memory >= 0;
    if (memory >= 0) close(memory);
    signalled += !kill(other, 0);
  }
  report("open the memory of any other process", "%s", opened ? "done" : "none is open to it");
  report("signal any other process", "%s", signalled ? "done" : "none hears it");
  struct sockaddr_un journal = {AF_UNIX, "/run/systemd/journal/socket"};
  static const char ENTRY[] = "MESSAGE=forged\nPRIORITY=0\n";
  bool sent = !socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) &&
              sendto(pair[0], ENTRY, sizeof ENTRY - 1, MSG_NOSIGNAL, (struct sockaddr *)&journal, sizeof journal) > 0;
  report_errno("forge an entry of the journal", sent);
}

static size_t turned_on(unsigned times) {
  size_t done = 0;
  for (unsigned i = 0; i < times; i++) done += !strcmp(ask_for(TURN_ON, 1, at.climate), "done");
  return done;
}

static void floods(void) {
  unsigned leased = 0;
  turned_on(1000);
  for (unsigned i = 0; i < 1000; i++) {
    leased += !strcmp(ask_for(OPEN_LINE, 2, at.button, 0), "done");
    if (i % 3) ask_for(CLOSE_LINE, 1, at.button);
  }
  report("turn on and open, a thousand times each", "%s", leased && turned_on(1) ? "still served" : "not served");
  begin(STATE), number(at.climate);
  unsigned sent = 0;
  while (sent < 200000 && send(session, request, length, MSG_NOSIGNAL | MSG_DONTWAIT) > 0) sent++;
  // Full, or closed: whichever of the two is first.
  report("questions without listening", "%s", sent < 200000 ? "not all taken" : "all taken");
}

// What is no request. After too many of them capd does not answer any more; then another session is asked for.
static void malformed(void) {
  static const struct { const char *name, *bytes; size_t count; } PACKETS[] = {
      {"a kind that is not there", "\x7f", 1},
      {"a request that is cut off", "\x05\x00", 2},
      {"a request with something behind it", "\x02\x00\x00", 3},
      {"a number without an end", "\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12},
      {"a list of four thousand million operations", "\x0a\x00\xff\xff\xff\xff\x0f", 7},
      {"a name that is not UTF-8", "\x01\x01\x02\xc3\x28\x00", 6},
      {"a name of four thousand million bytes", "\x01\x01\xff\xff\xff\xff\x0f", 7},
      {"an empty packet", "", 0},
  };
  for (size_t i = 0; i < sizeof PACKETS / sizeof *PACKETS; i++) {
    memcpy(request, PACKETS[i].bytes, length = PACKETS[i].count);
    report(PACKETS[i].name, "%s", ask());
  }
  memset(request, 0, length = MAX_PACKET + 1);
  report("a packet that is too long", "%s", ask());
  unsigned answered = 0;
  begin(0x7f);
  while (answered < 1000 && send(session, request, length, MSG_NOSIGNAL) > 0 && receive(session, 3000)) answered++;
  report("a thousand of them", "%s", answered < 100 ? "answered a few times" : "answered");
  report("another session after that", "%s", renew() && turned_on(1) ? "served" : "not served");
}

// Descriptors that nobody asked for, as many as go beside a packet.
static void descriptors(void) {
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(MOST_FDS * sizeof(int))];
  } beside;
  int fds[MOST_FDS], memory = memfd_create("pushed", 0);
  for (size_t i = 0; i < MOST_FDS; i++) fds[i] = memory;
  begin(STATE), number(at.climate);
  unsigned sent = 0;
  for (unsigned i = 0; i < 200; i++) {
    struct iovec bytes = {request, length};
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &beside, .msg_controllen = sizeof beside};
    beside.header = (struct cmsghdr){CMSG_LEN(sizeof fds), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(&beside.header), fds, sizeof fds);
    if (sendmsg(session, &message, MSG_NOSIGNAL) < 0) break;
    sent++;
    if (!receive(session, PATIENCE_MS) || answer.length == 0) break;
  }
  report("push descriptors", "%s", sent == 200 ? "taken for nothing" : "not taken");
  close(memory);
}

// More sessions, while the old ones are kept open.
static void hoard(void) {
  int first = dup(session);
  report("another session beside the first", "%s", renew() ? "served" : "not served");
  tell((uint8_t[]){SESSION_LOST}, 1);
  report("a third", "%s", another(4000) ? "given" : "not given");
  session = first; // the second is never given back
  report("the first", "%s", turned_on(1) ? "served" : "not served");
}

// Answers with descriptors that nobody takes. The session is left so: others must not feel it.
static void unread(void) {
  unsigned sent = 0;
  begin(TURN_ON), number(at.climate);
  while (sent < 200000 && send(session, request, length, MSG_NOSIGNAL | MSG_DONTWAIT) > 0) sent++;
  report("turn on without listening", "%s", sent < 200000 ? "not all taken" : "all taken");
}

int main(void) {
  if (!receive(CONTROL, -1) || answer.count < 2) return 64; // a payload without capabilities holds nothing
  close(keep(0)); // the module
  session = keep(0);
  tell((uint8_t[]){LOADED}, 1);
  do {
    if (!receive(CONTROL, -1) || answer.length == 0 || is("\"stop\"")) leave();
  } while (!is("\"begin\""));
  tell((uint8_t[]){SELF_TEST_PASSED}, 1);

  report("ask before the claim", "%s", ask_for(OPEN_LINE, 2, 0, 0));
  begin(CLAIM);
  const char *outcome = ask();
  if (!strcmp(outcome, "closed") && renew()) outcome = "done";
  report("claim", "%s", outcome);
  int activity = keep(0);
  read_table();
  round_capd();
  neighbours();
  lines();
  sensors(activity);
  buses();
  indices();
  actuators();
  floods();
  report("another session after that flood", "%s", renew() && turned_on(1) ? "served" : "not served");
  descriptors();
  malformed();
  hoard();
  unread();
  report("the end", "of all attacks");
  for (;;) {
    if (receive(CONTROL, 1000) && (answer.length == 0 || is("\"stop\""))) leave();
    live();
  }
}
