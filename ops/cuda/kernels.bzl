"""Kernels for both builds: on devices by nvcc, and as C++ for tests on machines without one.

  load("//ops/cuda:kernels.bzl", "mr_kernels")

  mr_kernels(name = "norm", deps = [...], test_deps = [...])

makes of norm.cu, norm.h, norm_test.cc (and the .cc of host_srcs)
  :norm               for --config=cuda
  :norm_emulated      the same sources on the CPU (ops/cuda/emulation/cuda_on_cpu.h), in every build
  :norm_test          the test, emulated
  :norm_device_test   the same test on a device, under --config=cuda; skipped where there is none
"""

load("//tools/bazel:cuda.bzl", "CUDA_ONLY", "if_cuda", "mr_cuda_library")
load("//tools/bazel:millrace.bzl", "mr_library", "mr_test")

_EMULATION = "//ops/cuda/emulation:"

def mr_kernels(name, host_srcs = [], deps = [], test_deps = [], copts = []):
    """See above.

    Args:
      name: of the .cu file.
      host_srcs: .cc files of the library.
      deps: of the library, for both builds.
      test_deps: of the test, beside the library.
      copts: of the emulated library.
    """
    mr_cuda_library(
        name = name,
        srcs = [name + ".cu"] + host_srcs,
        hdrs = [name + ".h"],
        deps = deps + ["//ops/cuda:elements", _EMULATION + "cuda_words"],
    )
    mr_library(
        name = name + "_emulated",
        srcs = [name + ".cu"] + host_srcs,
        hdrs = [name + ".h"],
        copts = [
            "-xc++",
            "-Wno-unknown-pragmas",  # unroll
        ] + copts,
        deps = deps + ["//ops/cuda:elements", _EMULATION + "cuda_on_cpu"],
    )
    mr_test(
        name = name + "_test",
        deps = test_deps + [":" + name + "_emulated", _EMULATION + "device_test"],
    )
    mr_test(
        name = name + "_device_test",
        srcs = [name + "_test.cc"],
        copts = ["-DMILLRACE_CUDA_DEVICE"],
        target_compatible_with = CUDA_ONLY,
        deps = test_deps + [":" + name, _EMULATION + "device_test"] + if_cuda(["@cuda//:cudart"]),
    )
