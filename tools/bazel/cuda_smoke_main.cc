// Says whether code of --config=cuda runs here:
//
//   ./bazelw run --config=cuda //tools/bazel:cuda_smoke
//
// Exit code 0: a kernel ran on the device and its result is right, 2: no device, 3: it failed.

#include <cstdio>
#include <string>

#include "tools/bazel/cuda_smoke.h"

int main() {
  std::string why;
  const int devices = millrace::smoke::DeviceCount(&why);
  if (devices == 0) {
    std::fprintf(stderr, "no CUDA device is present: %s\n", why.c_str());
    return 2;
  }
  const std::string wrong = millrace::smoke::DoubleOnDevice(100'000);
  if (!wrong.empty()) {
    std::fprintf(stderr, "device 0 of %d failed: %s\n", devices, wrong.c_str());
    return 3;
  }
  std::printf("a kernel ran on device 0 of %d\n", devices);
  return 0;
}
