#include "pipelines/runner/interrupt.h"

#include <signal.h>
#include <unistd.h>

#include <cstring>

namespace millrace {
namespace {

volatile sig_atomic_t requested = 0;

void Handle(int) {
  if (requested != 0) _exit(130);
  requested = 1;
  const char text[] = "\ninterrupted: finishing the step and saving; once more to stop at once\n";
  const ssize_t ignored = write(STDERR_FILENO, text, sizeof(text) - 1);
  (void)ignored;
}

}  // namespace

void CatchInterrupts() {
  requested = 0;
  struct sigaction action;
  std::memset(&action, 0, sizeof(action));
  action.sa_handler = Handle;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool InterruptRequested() { return requested != 0; }

}  // namespace millrace
