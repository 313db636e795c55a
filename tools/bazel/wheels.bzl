"""Repository rules that take files from pinned Python wheels (wheels.txt) say here which.

    root = wheel_tree(ctx, "cuda", "CUDA: 100 MB to download on first use", "Set CUDA_HOME to use your own.")

with attrs = WHEEL_ATTRS and environ = WHEEL_ENVIRON + [...]. The tree lies in the user's cache folder, where
wheels.py puts it once per machine.
"""

WHEEL_ATTRS = {
    "_requirements": attr.label(default = "//tools/bazel:wheels.txt"),
    "_script": attr.label(default = "//tools/bazel:wheels.py"),
}

WHEEL_ENVIRON = ["MILLRACE_CACHE", "XDG_CACHE_HOME", "HOME"]

def _cache(ctx):
    env = ctx.os.environ
    if env.get("MILLRACE_CACHE"):
        return env["MILLRACE_CACHE"]
    if env.get("XDG_CACHE_HOME"):
        return env["XDG_CACHE_HOME"] + "/millrace"
    if env.get("HOME"):
        return env["HOME"] + "/.cache/millrace"
    fail("neither MILLRACE_CACHE, XDG_CACHE_HOME nor HOME is set; start Bazel by ./bazelw")

def _python(ctx, instead):
    # The distribution's own Python first: bazelw installed pip for it.
    for python in ["/usr/bin/python3", ctx.which("python3")]:
        if python and ctx.execute([python, "-m", "pip", "--version"]).return_code == 0:
            return python
    fail("no python3 with pip; start Bazel by ./bazelw, which installs it. " + instead)

def wheel_tree(ctx, tree, progress, instead):
    """The folder of wheels.py's TREE, as a text. `instead` ends the message of a failure."""
    script = ctx.path(ctx.attr._script)
    requirements = ctx.path(ctx.attr._requirements)
    ctx.report_progress(progress)
    result = ctx.execute(
        [_python(ctx, instead), script, tree, requirements, _cache(ctx)],
        timeout = 3600,
    )
    if result.return_code:
        fail("%s: %s %s" % (tree, result.stderr.strip(), instead))
    return result.stdout.strip()
