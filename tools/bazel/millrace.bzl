"""The macros every BUILD file uses. Compiler options of our own code are decided here and nowhere else.

  load("//tools/bazel:millrace.bzl", "mr_library", "mr_test", "mr_benchmark")

  mr_library(name = "lanes", hdrs = ["lanes.h"], srcs = ["lanes.cc"], deps = ["@system//:absl"])
  mr_test(name = "lanes_test", deps = [":lanes"])            # lanes_test.cc, GoogleTest with its main
  mr_benchmark(name = "lanes_benchmark", deps = [":lanes"])  # lanes_benchmark.cc, Google Benchmark
"""

# What every target gets beside .bazelrc's options. Warnings are for our code only: generated code is compiled
# without them.
MR_COPTS = [
    "-Wall",
    "-Wextra",
    "-Wno-unused-parameter",  # interfaces name what they do not use
    "-Wno-missing-field-initializers",  # {.name = ...} leaves the rest at its default
    "-Werror=return-type",
]

def mr_library(name, srcs = [], hdrs = [], deps = [], copts = [], **kwargs):
    """cc_library. For a class that is reached by its registered name only: alwayslink = True."""
    native.cc_library(
        name = name,
        srcs = srcs,
        hdrs = hdrs,
        copts = MR_COPTS + copts,
        deps = deps,
        **kwargs
    )

def mr_binary(name, srcs = None, deps = [], copts = [], **kwargs):
    """cc_binary of NAME.cc."""
    native.cc_binary(
        name = name,
        srcs = srcs if srcs != None else [name + ".cc"],
        copts = MR_COPTS + copts,
        deps = deps,
        **kwargs
    )

def mr_test(name, srcs = None, deps = [], size = "small", copts = [], **kwargs):
    """cc_test of NAME.cc with GoogleTest and GoogleMock; its main is linked in."""
    native.cc_test(
        name = name,
        size = size,
        srcs = srcs if srcs != None else [name + ".cc"],
        copts = MR_COPTS + copts,
        deps = deps + ["@system//:gmock", "@system//:gtest_main"],
        **kwargs
    )

def mr_benchmark(name, srcs = None, deps = [], copts = [], tags = [], **kwargs):
    """A stopwatch: cc_binary of NAME.cc with Google Benchmark's main. `test //...` builds, never runs it."""
    native.cc_binary(
        name = name,
        testonly = True,
        srcs = srcs if srcs != None else [name + ".cc"],
        copts = MR_COPTS + copts,
        tags = tags + ["benchmark"],
        deps = deps + ["@system//:benchmark_main"],
        **kwargs
    )
