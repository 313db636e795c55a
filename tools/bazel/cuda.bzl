"""Code that needs CUDA: built under --config=cuda, skipped by `//...` without it.

  load("//tools/bazel:cuda.bzl", "CUDA_ONLY", "if_cuda", "mr_cuda_library", "mr_cuda_shared_library")

  mr_cuda_library(
      name = "norm",
      srcs = ["norm.cu", "norm_host.cc"],   # .cu by nvcc, .cc by the ordinary compiler
      hdrs = ["norm.h"],
      deps = ["//graph/base:status"],
  )

Anything that depends on such a library is skipped with it. A target for both builds takes it in a select:

  deps = [...] + if_cuda(["//ops/cuda"])

What names @cuda itself outside these macros must do so in if_cuda([...]) and be CUDA_ONLY: Bazel looks at the
dependencies of a target before it decides to skip it, and would fetch the toolkit for it.
"""

load("@bazel_tools//tools/cpp:toolchain_utils.bzl", "find_cpp_toolchain")
load("//tools/bazel:millrace.bzl", "MR_COPTS")

def if_cuda(values):
    """values under --config=cuda, else nothing."""
    return select({"//tools/bazel:cuda": values, "//conditions:default": []})

# target_compatible_with of what exists under --config=cuda only.
CUDA_ONLY = select({"//tools/bazel:cuda": [], "//conditions:default": ["//tools/bazel:without_cuda"]})

# Real code for A100 and H100/H200; newer devices compile the PTX when it is loaded.
_ARCHITECTURES = [
    "-gencode=arch=compute_80,code=sm_80",
    "-gencode=arch=compute_90,code=sm_90",
    "-gencode=arch=compute_90,code=compute_90",
]

_MODES = {
    "dbg": ["-O0", "-g"],
    "fastbuild": ["-O1"],
    "opt": ["-O3", "-DNDEBUG"],
}

def _host_options(options):
    # A comma separates options of -Xcompiler, and -std is nvcc's own.
    return ["-Xcompiler=" + option.replace(",", "\\,") for option in options if not option.startswith("-std=")]

def _cuda_objects_impl(ctx):
    context = cc_common.merge_cc_infos(cc_infos = [dep[CcInfo] for dep in ctx.attr.deps]).compilation_context
    toolchain = find_cpp_toolchain(ctx)
    cpp = ctx.fragments.cpp

    options = ctx.actions.args()
    options.add_all(_ARCHITECTURES)
    options.add_all(_MODES[ctx.var["COMPILATION_MODE"]])
    options.add_all([
        "-std=c++17",
        "--expt-relaxed-constexpr",  # std::min and its like in kernels
        "--expt-extended-lambda",
        # As .bazelrc has it for the CPU: a*b+c is fused where std::fma says so, and nowhere else. An update gives the
        # same bits on the device as on the host.
        "-fmad=false",
        "-Werror=cross-execution-space-call",
        "-Werror=reorder",
        "-ccbin=" + toolchain.compiler_executable,
        # Temporary files beside the object: in /tmp their names hold the process id, and the object keeps them.
        "--objdir-as-tempdir",
    ])
    options.add_all(_host_options(["-fPIC"] + cpp.copts + cpp.cxxopts + ctx.attr.copts))
    options.add_all(ctx.attr.nvcc_copts)
    options.add_all(context.defines, format_each = "-D%s")
    options.add_all(
        depset([".", ctx.bin_dir.path], transitive = [context.quote_includes]),
        format_each = "-Xcompiler=-iquote,%s",
    )
    # nvcc knows its own include folder by the layout of its toolkit, of which there are two.
    include = ctx.file.nvcc.dirname[:-len("bin")] + "include"
    options.add_all([include, include + "/cccl"], format_each = "-isystem=%s")
    options.add_all(context.includes, format_each = "-I%s")
    options.add_all(context.system_includes, format_each = "-isystem=%s")

    objects = []
    for src in ctx.files.srcs:
        # .pic.o is how Bazel knows that a shared library may hold it, too.
        out = ctx.actions.declare_file("_objs/%s/%s.pic.o" % (ctx.label.name, src.basename[:-len(".cu")]))
        ctx.actions.run(
            executable = ctx.file.nvcc,
            arguments = [options, "-c", src.path, "-o", out.path],
            inputs = depset(
                [src] + ctx.files.hdrs + ctx.files.toolkit,
                transitive = [context.headers, toolchain.all_files],
            ),
            outputs = [out],
            mnemonic = "CudaCompile",
            progress_message = "Compiling %s by nvcc" % src.short_path,
            use_default_shell_env = True,
        )
        objects.append(out)
    return [DefaultInfo(files = depset(objects))]

_cuda_objects = rule(
    implementation = _cuda_objects_impl,
    attrs = {
        "copts": attr.string_list(doc = "options of the host compiler"),
        "deps": attr.label_list(providers = [CcInfo]),
        "hdrs": attr.label_list(allow_files = True),
        "nvcc": attr.label(allow_single_file = True),
        "nvcc_copts": attr.string_list(doc = "options of nvcc itself"),
        "srcs": attr.label_list(allow_files = [".cu"]),
        "toolkit": attr.label(),
        "_cc_toolchain": attr.label(default = "@bazel_tools//tools/cpp:current_cc_toolchain"),
    },
    fragments = ["cpp"],
    toolchains = ["@bazel_tools//tools/cpp:toolchain_type"],
)

def _with_cuda(deps, more):
    # What is fetched on demand goes into a select; see above.
    ours = [dep for dep in deps if not dep.startswith("@cuda//")]
    return ours + if_cuda([dep for dep in deps if dep.startswith("@cuda//") and dep not in more] + more)

def mr_cuda_library(name, srcs = [], hdrs = [], deps = [], copts = [], nvcc_copts = [], **kwargs):
    """cc_library of .cu and .cc files for --config=cuda; the CUDA runtime is among its dependencies.

    Args:
      name: of the library.
      srcs: .cu files, compiled by nvcc; .cc and .h files as in any library.
      hdrs: the library's headers.
      deps: libraries, a plain list. @cuda//:... may be in it.
      copts: options of the host compiler, for .cc and .cu alike.
      nvcc_copts: options of nvcc itself, for example -maxrregcount=64.
      **kwargs: of cc_library.
    """
    cuda_sources = [src for src in srcs if src.endswith(".cu")]
    other_sources = [src for src in srcs if not src.endswith(".cu")]
    deps = _with_cuda(deps, ["@cuda//:cudart"])
    objects = []
    if cuda_sources:
        objects = [":" + name + "_objects"]
        _cuda_objects(
            name = name + "_objects",
            srcs = cuda_sources,
            hdrs = hdrs + [src for src in other_sources if not src.endswith(".cc")],
            copts = MR_COPTS + copts,
            nvcc = select({
                "//tools/bazel:cuda": "@cuda//:nvcc",
                "//conditions:default": None,
            }),
            nvcc_copts = nvcc_copts,
            target_compatible_with = CUDA_ONLY,
            testonly = kwargs.get("testonly", False),
            toolkit = select({
                "//tools/bazel:cuda": "@cuda//:toolkit",
                "//conditions:default": None,
            }),
            visibility = ["//visibility:private"],
            deps = deps,
        )
    native.cc_library(
        name = name,
        srcs = other_sources + objects,
        hdrs = hdrs,
        copts = MR_COPTS + copts,
        target_compatible_with = CUDA_ONLY,
        deps = deps,
        **kwargs
    )

def mr_cuda_shared_library(name, srcs, deps = [], copts = [], **kwargs):
    """NAME (lib....so) of .cc files, linked with LibTorch's CUDA libraries, to be loaded once a device was found.

    Code of ours among its dependencies would exist twice in the process: let them be headers, and libraries that
    are shared themselves.
    """
    native.cc_binary(
        name = name,
        srcs = srcs,
        copts = MR_COPTS + copts,
        linkopts = ["-Wl,-z,defs"],  # our own symbols must all be found, in spite of --allow-shlib-undefined
        linkshared = True,
        target_compatible_with = CUDA_ONLY,
        deps = _with_cuda(deps, ["@cuda//:torch_cuda"]),
        **kwargs
    )
