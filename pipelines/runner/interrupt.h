// Ctrl-C and SIGTERM: the first asks the run to finish its step, save and leave (exit 130); the second ends the
// process at once.
#ifndef MILLRACE_PIPELINES_RUNNER_INTERRUPT_H_
#define MILLRACE_PIPELINES_RUNNER_INTERRUPT_H_

namespace millrace {

// Installs the handlers and clears the request. Idempotent.
void CatchInterrupts();
bool InterruptRequested();

}  // namespace millrace

#endif  // MILLRACE_PIPELINES_RUNNER_INTERRUPT_H_
