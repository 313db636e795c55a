// The smallest thing that needs nvcc, the CUDA runtime and a device: an array is doubled in place.
// It stands here so that a broken toolchain is told from a broken kernel.
//
//   std::string wrong = DoubleOnDevice(1000);   // "" when every element came out right
#pragma once

#include <string>

namespace millrace::smoke {

// How many devices there are; without any, `why` is the runtime's own reason.
int DeviceCount(std::string* why);

// Runs a kernel over this many elements on device 0 and checks each: what is wrong, or "".
std::string DoubleOnDevice(int count);

}  // namespace millrace::smoke
