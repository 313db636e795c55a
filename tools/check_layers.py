#!/usr/bin/env python3
"""Says which include breaks the order of the folders, and why.

A row of ROWS may include the rows it names and the foreign libraries it names, nothing else. BUILD visibility
says the same of targets; this reads the includes themselves, because a header can be reached through a
dependency's dependency.

  tools/check_layers.py           checks the tracked files of this repository; prints FILE:LINE: what, why
  tools/check_layers.py ROOT      the same for another tree

Exit code 0: in order, 1: findings, 2: nothing to check. Its test is check_layers_test.py.
"""

import os
import re
import subprocess
import sys
from collections import namedtuple

# folder     what the row is called: the first row whose folder is a prefix of the file's path
# includes   folders (or single files) of this repository it may include, beside itself
# libraries  foreign libraries it may include, beside the language's and the system's own
# why        what the row is for, printed with a finding
Row = namedtuple("Row", "folder includes libraries why")

GRAPH = ["graph/base", "graph/ir", "graph/lower", "graph/plan", "graph/verify", "graph/sim", "graph/trace"]
PURE = "graphs are planned, proven and simulated without a device, a communicator or a thread"
ALL_LIBRARIES = ["absl", "protobuf", "json", "tbb", "torch", "cuda", "nccl", "mpi", "codec", "uring"]
UNDER_OPS = GRAPH + ["graph/runtime", "dist", "data", "models"]

ROWS = [
    Row("graph/base", [], ["absl"], "everything stands on it, so it stands on Abseil alone"),
    *[Row(folder, GRAPH, ["absl", "protobuf", "json"], PURE) for folder in GRAPH[1:]],
    Row("graph/runtime", GRAPH, ["absl", "protobuf", "json", "tbb"],
        "the executor runs any plan; what a node does comes from ops/"),
    Row("dist", ["graph/base"], ["absl", "cuda", "nccl", "mpi"],
        "communicators move raw spans and know neither tensors nor graphs"),
    Row("data", ["graph/base"], ["absl", "json", "codec", "uring"],
        "readers fill raw spans and know neither tensors nor graphs"),
    Row("ops/cuda/emulation", [], ["cuda"], "CUDA's words for all compilers: stands on nothing"),
    Row("models/cuda", ["graph/base", "models", "ops/cuda/emulation", "ops/cuda/elements.cuh"], ["absl", "cuda"],
        "kernels take pointers and a stream, so that they are tested without torch and without a GPU"),
    Row("models", ["graph/base", "graph/ir/model_spec.h"], ["absl", "torch"],
        "layers compute; they neither communicate nor read files"),
    Row("ops", UNDER_OPS, ALL_LIBRARIES, "torch meets graph/, dist/ and data/ here"),
    Row("pipelines", UNDER_OPS + ["ops"], ALL_LIBRARIES, "pipelines link ops"),
    Row("tools", UNDER_OPS + ["ops", "pipelines"], ALL_LIBRARIES, "the command line is on top"),
    Row("tests", UNDER_OPS + ["ops", "pipelines", "tools"], ALL_LIBRARIES, "tests may see everything"),
]

# Files that may include one library more than their row.
EXCEPTIONS = [
    # A library of its own, which gives LibTorch's CUDA side to the others as a C table.
    (re.compile(r"models/cuda/torch_(shim\.cc|cuda_test\.cc)$"), re.compile(r"(ATen|c10)/")),
    # A store for addresses at start-up, not a tensor library.
    (re.compile(r"dist/\w*rendezvous\w*\.(h|cc)$"), re.compile(r"torch/csrc/distributed/c10d/")),
]

# The first that matches names the library of an include. What matches none is the language's or the system's.
LIBRARIES = [
    ("cuda", re.compile(r"(cuda|cublas|cudnn|cupti|cufile|curand|nvml|nvtx|nvToolsExt|cub/|thrust/|cooperative_groups)"
                        r"|(ATen|c10|torch)/(csrc/)?cuda/|c10/hip/")),
    ("nccl", re.compile(r"nccl")),
    ("mpi", re.compile(r"mpi(-ext|io)?\.h")),
    ("torch", re.compile(r"(torch|ATen|c10|caffe2)/")),
    ("tbb", re.compile(r"(tbb|oneapi/tbb)[/.]")),
    ("protobuf", re.compile(r"google/protobuf/")),
    ("absl", re.compile(r"absl/")),
    ("json", re.compile(r"nlohmann/")),
    ("uring", re.compile(r"liburing(\.h|/)")),
    ("codec", re.compile(r"(jpeglib|jerror|turbojpeg|png|pngconf|zlib)\.h|lib(av\w+|sw\w+|png\w*)/")),
]

CHECKED = (".h", ".cc", ".cu", ".cuh", ".inc", ".proto")
INCLUDE = re.compile(r'\s*#\s*include\s*[<"]([^>"]+)[>"]')
IMPORT = re.compile(r'\s*import\s+(?:public\s+|weak\s+)?"([^"]+)"')


def is_below(path, folder):
    """True for the folder itself, what lies in it, and the generated twin of a named header."""
    stem = folder[: -len(".h")] if folder.endswith(".h") else None
    return path == folder or path.startswith(folder + "/") or (stem and path in (stem + ".pb.h", stem + ".proto"))


def row_of(path):
    return next((row for row in ROWS if is_below(path, row.folder)), None)


def library_of(include):
    return next((name for name, pattern in LIBRARIES if pattern.match(include)), None)


def judge(path, include):
    """Returns what is wrong when this file includes that, or None."""
    row = row_of(path)
    if row is None:
        return None
    own = {known.folder.split("/")[0] for known in ROWS}
    include = os.path.normpath(include if include.split("/")[0] not in ("..", ".")
                               else os.path.join(os.path.dirname(path), include))
    if include.split("/")[0] in own:
        if is_below(include, row.folder) or any(is_below(include, folder) for folder in row.includes):
            return None
        allowed = ", ".join(row.includes) or "nothing else of this repository"
        return f"{row.folder}/ must not include {include} (may: {allowed}): {row.why}"
    library = library_of(include)
    if library is None or library in row.libraries:
        return None
    if any(file.match(path) and what.match(include) for file, what in EXCEPTIONS):
        return None
    return f"{row.folder}/ must not use {library}, here {include} (may: {', '.join(row.libraries)}): {row.why}"


def check_text(path, text):
    """Yields (line, message) for one file."""
    top = path.split("/")[0]
    if row_of(path) is None and any(row.folder.split("/")[0] == top for row in ROWS):
        yield 1, f"{os.path.dirname(path)}/ is no row of tools/check_layers.py: say there what it may include"
        return
    pattern = IMPORT if path.endswith(".proto") else INCLUDE
    for number, line in enumerate(text.splitlines(), 1):
        match = pattern.match(line)
        message = match and judge(path, match[1])
        if message:
            yield number, message


def source_files(root):
    """Files git knows or would add; without git, all files."""
    command = ["git", "-c", "safe.directory=*", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, capture_output=True, check=True).stdout.decode()
        return sorted({path for path in listing.split("\0") if path.endswith(CHECKED)})
    except (OSError, subprocess.CalledProcessError):
        found = []
        for folder, folders, files in os.walk(root):
            folders[:] = [name for name in folders if not name.startswith((".", "bazel-"))]
            found += [os.path.relpath(os.path.join(folder, name), root) for name in files if name.endswith(CHECKED)]
        return sorted(found)


def main(arguments):
    # Bazel runs this through links; the tree is where the links point.
    here = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    root = arguments[0] if arguments else here
    checked = findings = 0
    for path in source_files(root):
        full = os.path.join(root, path)
        if not os.path.isfile(full):
            continue  # deleted, not yet committed
        checked += 1
        with open(full, encoding="utf-8", errors="replace") as file:
            for line, message in check_text(path, file.read()):
                print(f"{path}:{line}: {message}")
                findings += 1
    print(f"layers: {checked} files, {findings} findings", file=sys.stderr)
    return 2 if checked == 0 else int(findings > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
