/* Stops systemd where it stands, as a tracer may: the system is up and nothing in it moves on. */
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
  if (ptrace(PTRACE_SEIZE, 1, 0, 0) != 0 || ptrace(PTRACE_INTERRUPT, 1, 0, 0) != 0) {
    perror("could not stop process 1");
    return 1;
  }
  waitpid(1, NULL, __WALL);
  puts("process 1 is stopped");
  fflush(stdout);
  for (;;) pause();
}
