// What a payload does through the sandbox, done natively: the measure of what the sandbox costs. In the test image only.
//
//   native-io COUNT ROUNDS ATTRIBUTE CHIP LINE BUS ADDRESS REGISTER
//
// ATTRIBUTE is a file of sysfs, read by pread(); CHIP and LINE are names, and the line is toggled; BUS is a device file,
// ADDRESS and REGISTER are numbers, and eight bytes are read from there. What a broker between the two cannot be faster
// than is measured, too: a packet to another process and one back. Each round does COUNT operations of each kind; printed
// is the median of the rounds, in nanoseconds for each operation, and the process' memory in KiB.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/gpio.h>
#include <linux/i2c-dev.h>
#include <linux/i2c.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST_ROUNDS = 1000, LENGTH = 8 };

static void die(const char *what) {
  fprintf(stderr, "native-io: %s: %s\n", what, strerror(errno));
  exit(1);
}

static int must(int value, const char *what) {
  if (value < 0) die(what);
  return value;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}

// --- the three operations ---------------------------------------------------------------------------------------------

static int attribute;

static void read_attribute(unsigned turn) {
  (void)turn;
  char value[64];
  if (pread(attribute, value, sizeof value, 0) <= 0) die("read the attribute");
}

static int line;

static void open_line(const char *label, const char *name) {
  glob_t chips;
  if (glob("/dev/gpiochip*", 0, NULL, &chips)) die("find a chip");
  for (size_t i = 0; i < chips.gl_pathc; i++) {
    int chip = open(chips.gl_pathv[i], O_RDONLY | O_CLOEXEC);
    struct gpiochip_info info;
    if (chip < 0 || ioctl(chip, GPIO_GET_CHIPINFO_IOCTL, &info) || strcmp(info.label, label)) {
      if (chip >= 0) close(chip);
      continue;
    }
    for (unsigned offset = 0; offset < info.lines; offset++) {
      struct gpio_v2_line_info about = {.offset = offset};
      must(ioctl(chip, GPIO_V2_GET_LINEINFO_IOCTL, &about), "look at a line");
      if (strcmp(about.name, name)) continue;
      struct gpio_v2_line_request request = {.offsets = {offset}, .num_lines = 1, .consumer = "native-io"};
      request.config.flags = GPIO_V2_LINE_FLAG_OUTPUT;
      must(ioctl(chip, GPIO_V2_GET_LINE_IOCTL, &request), "request the line");
      line = request.fd;
      close(chip);
      globfree(&chips);
      return;
    }
  }
  errno = ENODEV;
  die("find the line");
}

static void toggle_line(unsigned turn) {
  struct gpio_v2_line_values values = {.mask = 1, .bits = turn & 1};
  must(ioctl(line, GPIO_V2_LINE_SET_VALUES_IOCTL, &values), "set the line");
}

static int bus;
static unsigned long has;
static uint16_t address;
static uint8_t first;

static void open_bus(const char *path) {
  bus = must(open(path, O_RDWR | O_CLOEXEC), "open the bus");
  must(ioctl(bus, I2C_FUNCS, &has), "ask what the bus can do");
  if (!(has & I2C_FUNC_I2C)) must(ioctl(bus, I2C_SLAVE, (unsigned long)address), "choose the address");
}

static void write_read(unsigned turn) {
  (void)turn;
  if (has & I2C_FUNC_I2C) {
    uint8_t value[LENGTH];
    struct i2c_msg messages[] = {{address, 0, 1, &first}, {address, I2C_M_RD, LENGTH, value}};
    struct i2c_rdwr_ioctl_data both = {messages, 2};
    must(ioctl(bus, I2C_RDWR, &both), "write and read");
  } else {
    union i2c_smbus_data data = {.block = {LENGTH}};
    struct i2c_smbus_ioctl_data block = {I2C_SMBUS_READ, first, I2C_SMBUS_I2C_BLOCK_DATA, &data};
    must(ioctl(bus, I2C_SMBUS, &block), "read a block");
  }
}

static int echo;

// A process that answers every packet with one as long, until the other end is closed.
static pid_t open_echo(void) {
  int ends[2];
  must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), "make a pair of sockets");
  pid_t child = must(fork(), "fork");
  if (!child) {
    uint8_t packet[LENGTH];
    close(ends[0]);
    while (read(ends[1], packet, sizeof packet) > 0)
      if (write(ends[1], packet, sizeof packet) < 0) break;
    _exit(0);
  }
  close(ends[1]);
  echo = ends[0];
  return child;
}

static void round_trip(unsigned turn) {
  (void)turn;
  uint8_t packet[LENGTH] = {0};
  if (write(echo, packet, sizeof packet) < 0 || read(echo, packet, sizeof packet) <= 0) die("ask the other process");
}

// --- measuring --------------------------------------------------------------------------------------------------------

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void measure(const char *name, void (*operation)(unsigned), unsigned count, unsigned rounds) {
  double took[MOST_ROUNDS];
  for (unsigned turn = 0; turn < count; turn++) operation(turn); // warm
  for (unsigned round = 0; round < rounds; round++) {
    double began = now();
    for (unsigned turn = 0; turn < count; turn++) operation(turn);
    took[round] = (now() - began) / count;
  }
  qsort(took, rounds, sizeof *took, by_size);
  printf("%s_ns %.0f\n", name, took[rounds / 2]);
}

static void memory(const char *file, const char *key, const char *name) {
  FILE *text = fopen(file, "r");
  char row[256];
  unsigned long kib;
  if (!text) die(file);
  while (fgets(row, sizeof row, text))
    if (!strncmp(row, key, strlen(key)) && sscanf(row + strlen(key), "%lu", &kib) == 1) printf("%s_kib %lu\n", name, kib);
  fclose(text);
}

int main(int argc, char **argv) {
  if (argc != 9) {
    fprintf(stderr, "usage: native-io COUNT ROUNDS ATTRIBUTE CHIP LINE BUS ADDRESS REGISTER\n");
    return 64;
  }
  unsigned count = strtoul(argv[1], NULL, 0), rounds = strtoul(argv[2], NULL, 0);
  if (!count || !rounds || rounds > MOST_ROUNDS) {
    fprintf(stderr, "native-io: COUNT must be at least 1, ROUNDS 1 to %d\n", MOST_ROUNDS);
    return 64;
  }
  attribute = must(open(argv[3], O_RDONLY | O_CLOEXEC), "open the attribute");
  open_line(argv[4], argv[5]);
  address = strtoul(argv[7], NULL, 0);
  first = strtoul(argv[8], NULL, 0);
  open_bus(argv[6]);

  measure("read", read_attribute, count, rounds);
  measure("toggle", toggle_line, count, rounds);
  measure("write_read", write_read, count, rounds);
  pid_t child = open_echo();
  measure("round_trip", round_trip, count, rounds);
  close(echo);
  waitpid(child, NULL, 0);
  memory("/proc/self/smaps_rollup", "Pss:", "pss");
  memory("/proc/self/smaps_rollup", "Private_Dirty:", "private");
  memory("/proc/self/status", "VmHWM:", "peak");
  return 0;
}
