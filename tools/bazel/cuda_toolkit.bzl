"""@cuda - the CUDA toolkit for --config=cuda, and @cuda_nccl, NCCL's header.

From CUDA_HOME=<folder with bin/nvcc and include/cuda_runtime.h>, or from pinned wheels in the user's cache folder
(wheels.txt: 105 MB for the compiler, 196 MB for NCCL, once per machine). Nothing of it is fetched unless a target is
built that needs it, and without --config=cuda none does: cuda.bzl's macros name @cuda in a select only.

    @cuda//:cudart          cuda_runtime.h, and libcudart.so of @libtorch: one runtime in the process
    @cuda//:headers         the toolkit's headers alone (for host code: without CUB and Thrust)
    @cuda//:nvtx            nvtx3/nvToolsExt.h, a header library
    @cuda//:nccl_headers    nccl.h; the library is loaded at run time
    @cuda//:torch_cuda      c10/cuda/*.h, libc10_cuda.so and libtorch_cuda.so, for a shared library
    @cuda//:nvcc, :toolkit  the compiler and all it reads, for mr_cuda_library
"""

load("//tools/bazel:wheels.bzl", "WHEEL_ATTRS", "WHEEL_ENVIRON", "wheel_tree")

_BUILD = """
package(default_visibility = ["//visibility:public"])

filegroup(
    name = "nvcc",
    srcs = ["bin/nvcc"],
)

filegroup(
    name = "toolkit",
    srcs = glob(
        [
            "bin/**",
            "include/**",
            "nvvm/bin/**",
            "nvvm/libdevice/**",
        ],
        exclude = ["bin/nvcc"],
    ),
)

cc_library(
    name = "headers",
    hdrs = glob(
        [
            "include/**/*.h",
            "include/**/*.hpp",
            "include/nv/**",
        ],
        exclude = [
            "include/cccl/**",
            "include/nvtx3/**",
        ],
    ),
    includes = ["include"],
)

cc_library(
    name = "cudart",
    deps = [
        ":headers",
        "@libtorch//:cudart",
    ],
)

cc_library(
    name = "nvtx",
    hdrs = glob(["include/nvtx3/**/*.h"]),
    includes = ["include"],
    linkopts = ["-ldl"],
    deps = [":headers"],
)

cc_library(
    name = "nccl_headers",
    deps = [
        ":headers",
        "@cuda_nccl//:headers",
    ],
)

alias(
    name = "torch_cuda",
    actual = "@libtorch_cuda//:torch_cuda",
)
"""

_NCCL_BUILD = """
cc_library(
    name = "headers",
    hdrs = ["include/nccl.h"],
    includes = ["include"],
    visibility = ["//visibility:public"],
)
"""

def _cuda_impl(ctx):
    root = ctx.os.environ.get("CUDA_HOME")
    if not root:
        root = wheel_tree(
            ctx,
            "cuda",
            "CUDA's compiler: 105 MB to download on first use",
            "Set CUDA_HOME=<folder with bin/nvcc> to use a toolkit you have.",
        )
    for path in ["bin/nvcc", "include/cuda_runtime.h"]:
        if not ctx.path(root + "/" + path).exists:
            fail("CUDA_HOME=%s: no %s below it" % (root, path))
    for folder in ["bin", "include", "nvvm"]:
        ctx.symlink(root + "/" + folder, folder)
    ctx.file("BUILD", _BUILD)

cuda_repository = repository_rule(
    implementation = _cuda_impl,
    attrs = WHEEL_ATTRS,
    environ = WHEEL_ENVIRON + ["CUDA_HOME"],
)

def _nccl_impl(ctx):
    found = None
    for folder in [
        ctx.os.environ.get("CUDA_HOME", "") + "/include",
        ctx.os.environ.get("LIBTORCH", "") + "/../nvidia/nccl/include",
    ]:
        if not found and not folder.startswith("/include") and not folder.startswith("/../"):
            found = folder if ctx.path(folder + "/nccl.h").exists else None
    if not found:
        found = wheel_tree(
            ctx,
            "nccl",
            "NCCL's header: 196 MB to download on first use",
            "Put nccl.h into CUDA_HOME/include to use one you have.",
        ) + "/include"
    ctx.symlink(found + "/nccl.h", "include/nccl.h")
    ctx.file("BUILD", _NCCL_BUILD)

cuda_nccl_repository = repository_rule(
    implementation = _nccl_impl,
    attrs = WHEEL_ATTRS,
    environ = WHEEL_ENVIRON + ["CUDA_HOME", "LIBTORCH"],
)
