"""@libtorch//:torch - LibTorch for the CPU: headers, libtorch_cpu, libc10 and their OpenMP.

The files come from the user's cache folder, where wheels.py puts them on first use (545 MB, once per
machine), or from LIBTORCH=<folder with include/ and lib/>, for example an installed torch package's folder.

@libtorch_cuda//:torch_cuda - its CUDA libraries, for --config=cuda only. Use it as @cuda//:torch_cuda.
"""

load("//tools/bazel:wheels.bzl", "WHEEL_ATTRS", "WHEEL_ENVIRON", "wheel_tree")

_BUILD = """
package(default_visibility = ["//visibility:public"])

# Headers are declared (a compile action may read nothing else), but for the 1900 that call one back end past
# the dispatcher: each declared header is one more link to make in the sandbox of every action.
cc_library(
    name = "headers",
    hdrs = glob(
        [
            "include/**/*.h",
            "include/**/*.hpp",
            "include/**/*.inl",
            "include/**/*.cuh",
        ],
        exclude = [
            "include/google/**",
            "include/pybind11/**",
            "include/ATen/ops/*_cuda_dispatch.h",
            "include/ATen/ops/*_composite*_dispatch.h",
        ],
    ),
    includes = [
        "include",
        "include/torch/csrc/api/include",
    ],
)

# The CUDA runtime that libtorch_cpu.so needs to load. Code for --config=cuda links this very file: a process
# must have one runtime.
cc_library(
    name = "cudart",
    srcs = glob(["lib/libcudart*.so*"]),
)

cc_library(
    name = "torch",
    srcs = glob(
        ["lib/*.so*"],
        exclude = ["lib/libcudart*.so*"],
    ),
    linkopts = ["-lpthread", "-ldl"],
    deps = [
        ":cudart",
        ":headers",
    ],
)
"""

# The libraries they need in turn (cuBLAS, cuDNN, NCCL: 3 GB) are not there when linking; they are where it runs.
# as-needed would drop a library of which only start-up code is wanted.
_CUDA_BUILD = """
package(default_visibility = ["//visibility:public"])

cc_library(
    name = "torch_cuda",
    srcs = glob(["lib/*.so*"]),
    linkopts = ["-Wl,--no-as-needed", "-Wl,--allow-shlib-undefined"],
    deps = [
        "@cuda//:cudart",
        "@libtorch//:torch",
    ],
)
"""

_INSTEAD = "Set LIBTORCH=<folder with include/ and lib/> to use a copy you have."

def _link_libraries(ctx, folder, names):
    for entry in ctx.path(folder).readdir():
        for name in names:
            if entry.basename.startswith(name + ".") or entry.basename.startswith(name + "-"):
                ctx.symlink(entry, "lib/" + entry.basename)

def _libtorch_impl(ctx):
    root = ctx.os.environ.get("LIBTORCH")
    if not root:
        root = wheel_tree(ctx, "libtorch", "LibTorch: 545 MB to download on first use", _INSTEAD)
    if not ctx.path(root + "/include/ATen/ATen.h").exists:
        fail("LIBTORCH=%s: no include/ATen/ATen.h below it" % root)

    # Links, not copies. All libraries stand in one folder, so that each finds the others by $ORIGIN.
    ctx.symlink(root + "/include", "include")
    names = ["libtorch_cpu", "libc10", "libgomp", "libcudart", "libcupti"]
    _link_libraries(ctx, root + "/lib", names)
    beside = ctx.path(root).dirname.get_child("nvidia")
    for package in ["cu13/lib", "cuda_runtime/lib", "cuda_cupti/lib"]:
        if ctx.path(str(beside) + "/" + package).exists:
            _link_libraries(ctx, str(beside) + "/" + package, names)
    ctx.file("BUILD", _BUILD)

libtorch_repository = repository_rule(
    implementation = _libtorch_impl,
    attrs = WHEEL_ATTRS,
    environ = WHEEL_ENVIRON + ["LIBTORCH"],
)

def _libtorch_cuda_impl(ctx):
    root = ctx.os.environ.get("LIBTORCH")
    if not root:
        root = wheel_tree(ctx, "libtorch_cuda", "LibTorch's CUDA libraries: unpacking 0.5 GB", _INSTEAD)
    if not ctx.path(root + "/lib/libtorch_cuda.so").exists:
        fail("LIBTORCH=%s: no lib/libtorch_cuda.so below it; --config=cuda needs a LibTorch with CUDA" % root)
    _link_libraries(ctx, root + "/lib", ["libtorch_cuda", "libc10_cuda"])
    ctx.file("BUILD", _CUDA_BUILD)

libtorch_cuda_repository = repository_rule(
    implementation = _libtorch_cuda_impl,
    attrs = WHEEL_ATTRS,
    environ = WHEEL_ENVIRON + ["LIBTORCH"],
)
