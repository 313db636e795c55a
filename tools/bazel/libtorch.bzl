"""@libtorch//:torch - LibTorch for the CPU: headers, libtorch_cpu, libc10 and their OpenMP.

The files come from the user's cache folder, where libtorch.py puts them on first use (545 MB, once per
machine), or from LIBTORCH=<folder with include/ and lib/>, for example an installed torch package's folder.
"""

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

cc_library(
    name = "torch",
    srcs = glob(["lib/*.so*"]),
    linkopts = ["-lpthread", "-ldl"],
    deps = [":headers"],
)
"""

def _cache(ctx):
    env = ctx.os.environ
    if env.get("MILLRACE_CACHE"):
        return env["MILLRACE_CACHE"]
    if env.get("XDG_CACHE_HOME"):
        return env["XDG_CACHE_HOME"] + "/millrace"
    if env.get("HOME"):
        return env["HOME"] + "/.cache/millrace"
    fail("neither MILLRACE_CACHE, XDG_CACHE_HOME nor HOME is set; start Bazel by ./bazelw")

def _python(ctx):
    # The distribution's own Python first: bazelw installed pip for it.
    for python in ["/usr/bin/python3", ctx.which("python3")]:
        if python and ctx.execute([python, "-m", "pip", "--version"]).return_code == 0:
            return python
    fail("no python3 with pip; start Bazel by ./bazelw, which installs it, or set LIBTORCH=<folder>")

def _link_libraries(ctx, folder, names):
    for entry in ctx.path(folder).readdir():
        for name in names:
            if entry.basename.startswith(name + ".") or entry.basename.startswith(name + "-"):
                ctx.symlink(entry, "lib/" + entry.basename)

def _libtorch_impl(ctx):
    script = ctx.path(ctx.attr._script)
    requirements = ctx.path(ctx.attr._requirements)
    root = ctx.os.environ.get("LIBTORCH")
    if not root:
        ctx.report_progress("LibTorch: 545 MB to download on first use")
        result = ctx.execute(
            [_python(ctx), script, requirements, _cache(ctx)],
            timeout = 3600,
        )
        if result.return_code:
            fail("LibTorch: " + result.stderr)
        root = result.stdout.strip()
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
    attrs = {
        "_requirements": attr.label(default = "//tools/bazel:libtorch_requirements.txt"),
        "_script": attr.label(default = "//tools/bazel:libtorch.py"),
    },
    environ = ["LIBTORCH", "MILLRACE_CACHE", "XDG_CACHE_HOME", "HOME"],
)
