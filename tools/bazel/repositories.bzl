"""Everything outside the repository but LibTorch: installed libraries, and the repositories that Bazel itself
expects.

@system//:NAME is an installed library: its headers are in the compiler's own search path, so a target is only
its link options. To add one: name its package in bazelw, and add a target below.

Bazel would fetch the rest (rules_cc and its like) from the network on first use. What we need of them is small
and stands here, so a build needs no network beyond the distribution's packages.
"""

def _files_impl(ctx):
    for path, target in ctx.attr.links.items():
        ctx.symlink(target, path)
    for path, content in ctx.attr.files.items():
        ctx.file(path, content)

# A repository made of the given texts and links.
files_repository = repository_rule(
    implementation = _files_impl,
    attrs = {
        "files": attr.string_dict(doc = "path -> content"),
        "links": attr.string_dict(doc = "path -> absolute target"),
    },
)

# All of Abseil that we use, in link order, as pkg-config prints it for 20220623. Only what a binary needs is
# recorded in it (as-needed).
_ABSL = """
statusor status strerror bad_any_cast_impl random_distributions random_seed_sequences random_internal_pool_urbg
random_internal_randen random_internal_randen_hwaes random_internal_randen_hwaes_impl random_internal_randen_slow
random_internal_platform random_internal_seed_material random_seed_gen_exception flags_parse flags_usage
flags_usage_internal flags_internal flags_marshalling str_format_internal flags_reflection
flags_private_handle_accessor flags_commandlineflag flags_commandlineflag_internal flags_config
flags_program_name cord cordz_info cord_internal cordz_functions cordz_handle hash city bad_variant_access
low_level_hash raw_hash_set bad_optional_access hashtablez_sampler exponential_biased synchronization
graphcycles_internal time civil_time time_zone failure_signal_handler examine_stack symbolize
demangle_internal malloc_internal strings strings_internal base spinlock_wait stacktrace debugging_internal
throw_delegate raw_logging_internal log_severity int128
""".replace("\n", " ").split(" ")

def _system_library(name, libraries = [], deps = []):
    options = ["-Wl,--push-state,--as-needed"] + ["-l" + lib for lib in libraries] + ["-Wl,--pop-state"]
    return """
cc_library(
    name = "{name}",
    linkopts = {linkopts},
    deps = {deps},
)
""".format(
        name = name,
        linkopts = repr(options if libraries else []),
        deps = repr(deps),
    )

_SYSTEM = """
package(default_visibility = ["//visibility:public"])
""" + "".join([
    _system_library("absl", ["absl_" + lib for lib in _ABSL if lib] + ["pthread", "rt"]),
    _system_library("benchmark", ["benchmark", "pthread"]),
    _system_library("benchmark_main", ["benchmark_main"], [":benchmark"]),
    _system_library("crypto", ["crypto"]),  # OpenSSL's digests
    _system_library("gmock", ["gmock"], [":gtest"]),
    _system_library("gtest", ["gtest", "pthread"]),
    _system_library("gtest_main", ["gtest_main"], [":gtest"]),
    _system_library("jpeg", ["jpeg"]),  # libjpeg-turbo
    _system_library("json"),  # nlohmann/json.hpp, headers only
    _system_library("png", ["png16"], [":zlib"]),
    _system_library("protobuf", ["protobuf", "pthread"]),
    _system_library("tbb", ["tbb", "pthread"]),
    _system_library("uring", [":liburing.a"]),  # small and not everywhere: into the binary
    _system_library("zlib", ["z"]),
])

# Protocol Buffers as Bazel's own proto_library and cc_proto_library look for it. The well-known types are in
# the library already: their C++ is not generated again.
_WELL_KNOWN = [
    "any",
    "api",
    "descriptor",
    "duration",
    "empty",
    "field_mask",
    "source_context",
    "struct",
    "timestamp",
    "type",
    "wrappers",
]
_WELL_KNOWN_DEPS = {
    "api": ["source_context", "type"],
    "type": ["any", "source_context"],
}

_PROTOBUF = """
package(default_visibility = ["//visibility:public"])

sh_binary(
    name = "protoc",
    srcs = ["bin/protoc"],
)

alias(
    name = "protobuf",
    actual = "@system//:protobuf",
)

proto_lang_toolchain(
    name = "cc_toolchain",
    command_line = "--cpp_out=$(OUT)",
    runtime = ":protobuf",
    {not_generated} = {well_known},
)
""" + "".join(["""
proto_library(
    name = "{name}_proto",
    srcs = ["src/google/protobuf/{name}.proto"],
    strip_import_prefix = "src",
    deps = {deps},
)
""".format(
    name = name,
    deps = repr([":" + dep + "_proto" for dep in _WELL_KNOWN_DEPS.get(name, [])]),
) for name in _WELL_KNOWN])

def _native_rules(names):
    return "".join(["{0} = native.{0}\n".format(name) for name in names])

def millrace_repositories():
    """Declares every repository but @libtorch."""
    files_repository(name = "system", files = {"BUILD": _SYSTEM})

    # The attribute was renamed in Bazel 5. Debian's build of 4.2.3 does not tell its version.
    version = native.bazel_version or "4"
    files_repository(
        name = "com_google_protobuf",
        files = {"BUILD": _PROTOBUF.format(
            not_generated = "blacklisted_protos" if version.startswith("4") else "denylisted_protos",
            well_known = repr([":" + name + "_proto" for name in _WELL_KNOWN]),
        )},
        links = dict(
            [("bin/protoc", "/usr/bin/protoc")] +
            [
                ("src/google/protobuf/%s.proto" % name, "/usr/include/google/protobuf/%s.proto" % name)
                for name in _WELL_KNOWN
            ],
        ),
    )

    files_repository(
        name = "rules_cc",
        files = {
            "BUILD": "",
            "cc/BUILD": "",
            "cc/defs.bzl": _native_rules([
                "cc_binary",
                "cc_import",
                "cc_library",
                "cc_proto_library",
                "cc_test",
                "cc_toolchain",
                "cc_toolchain_suite",
            ]),
        },
    )
    files_repository(
        name = "rules_java",
        files = {
            "BUILD": "",
            "java/BUILD": "",
            "java/defs.bzl": _native_rules([
                "java_binary",
                "java_import",
                "java_library",
                "java_proto_library",
                "java_runtime",
                "java_test",
                "java_toolchain",
            ]),
        },
    )
    files_repository(
        name = "rules_proto",
        files = {
            "BUILD": "",
            "proto/BUILD": "",
            "proto/defs.bzl": _native_rules(["proto_lang_toolchain", "proto_library"]),
        },
    )
    files_repository(
        name = "remote_coverage_tools",
        files = {"BUILD": """
filegroup(
    name = "coverage_report_generator",
    visibility = ["//visibility:public"],
)
"""},
    )
    native.local_repository(name = "platforms", path = "/usr/share/bazel/platforms")
