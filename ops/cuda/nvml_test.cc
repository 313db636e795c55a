// NVML's readings through a table of a test's: what is there comes out, what is missing is absent.

#include "ops/cuda/nvml.h"

#include <gtest/gtest.h>

namespace millrace {
namespace {

int started = 0, stopped = 0;
constexpr int kNotSupported = 3;

NvmlTable Fake() {
  NvmlTable table;
  table.init = [] { return ++started, 0; };
  table.shutdown = [] { return ++stopped, 0; };
  table.handle_by_index = [](unsigned int i, void** handle) {
    static int cards[2];
    if (i > 1) return 2;
    *handle = &cards[i];
    return 0;
  };
  table.utilization = [](void*, NvmlTable::Utilization* out) {
    *out = {97, 40};
    return 0;
  };
  table.temperature = [](void*, int, unsigned int* out) {
    *out = 61;
    return 0;
  };
  table.power_milliwatts = [](void*, unsigned int* out) {
    *out = 512345;
    return 0;
  };
  table.memory = [](void*, NvmlTable::Memory* out) {
    *out = {100, 58, 42};
    return 0;
  };
  return table;
}

TEST(NvmlTest, WhatTheDriverTellsComesOutAndItIsShutDownOnce) {
  started = stopped = 0;
  {
    const Nvml nvml(Fake());
    ASSERT_TRUE(nvml.present());
    const GpuReading r = nvml.Read(1);
    EXPECT_EQ(r.utilization_percent, 97);
    EXPECT_EQ(r.temperature_celsius, 61);
    EXPECT_DOUBLE_EQ(*r.power_watts, 512.345);
    EXPECT_EQ(r.memory_used_bytes, 42);
  }
  EXPECT_EQ(started, 1);
  EXPECT_EQ(stopped, 1);
}

TEST(NvmlTest, WhatACardDoesNotTellIsAbsentAndTheRestIsThere) {
  NvmlTable table = Fake();
  table.power_milliwatts = [](void*, unsigned int*) { return kNotSupported; };
  table.temperature = nullptr;  // an older library
  const GpuReading r = Nvml(table).Read(0);
  EXPECT_FALSE(r.power_watts.has_value());
  EXPECT_FALSE(r.temperature_celsius.has_value());
  EXPECT_EQ(r.utilization_percent, 97);
}

TEST(NvmlTest, ACardThatThereIsNotHasNoValues) {
  const Nvml nvml(Fake());
  for (const int device : {-1, 2}) {
    EXPECT_FALSE(nvml.Read(device).utilization_percent.has_value());
    EXPECT_FALSE(nvml.Read(device).memory_used_bytes.has_value());
  }
}

TEST(NvmlTest, WithoutTheLibraryOrWhenItDoesNotStartValuesAreAbsent) {
  const Nvml missing("libno-such-nvml.so.1");
  EXPECT_FALSE(missing.present());
  EXPECT_FALSE(missing.Read(0).utilization_percent.has_value());
  NvmlTable table = Fake();
  table.init = [] { return 9; };  // the driver is not loaded
  const Nvml stopped_nvml(table);
  EXPECT_FALSE(stopped_nvml.present());
  EXPECT_FALSE(stopped_nvml.Read(0).temperature_celsius.has_value());
}

}  // namespace
}  // namespace millrace
