#!/usr/bin/env python3
"""Packs all that a bare machine with a GPU needs to check Millrace there into one folder, below 64 MiB.

  ./bazelw run --config=cuda //tools/gpu_check:pack -- --out FOLDER
  (copy FOLDER to the machine)   python3 FOLDER/run.py --out RESULTS

The machine has an NVIDIA driver, Python 3.10 or newer and PyTorch of the version that pack.json names; LibTorch, the
CUDA runtime, cuBLAS, cuDNN and NCCL are taken from there. The folder has the layout of the repository, so that programs
find pipelines, machines and data beside them as they do in it:

  run.py          what to start there (with checks.py, context.py)    pack.json   what was packed, for which PyTorch
  tools/millrace, ops/cuda/..., models/cuda/... stripped programs, and the library that tools/millrace loads
  lib/            shared libraries that such a machine lacks: oneTBB, Protocol Buffers, Abseil, ...
  lib/gcc/        libstdc++ and libgcc_s, which run.py uses where the machine's are older

Without --config=cuda the folder is that of the CPU back end: `run.py --cpu` rehearses with it.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys

LIMIT = 64 << 20

# The machine's PyTorch and driver bring these.
OF_TORCH = re.compile(r"lib(torch|c10|cud|cublas|cufft|curand|cusolver|cusparse|cufile|cupti|nv|nccl|gomp|shm|caffe2)[^/]*\.so")
# Every Linux has these; a copy of another version beside the machine's own would break it.
OF_GLIBC = re.compile(r"(ld-linux[^/]*|linux-vdso|lib(c|m|dl|pthread|rt|util|resolv|anl|nsl|mvec))\.so")
OF_GCC = re.compile(r"lib(stdc\+\+|gcc_s)\.so")


def needed(program):
    """{name: path} of the shared libraries that a program loads; what is nowhere is an error unless PyTorch has it."""
    listed = subprocess.run(["ldd", program], stdout=subprocess.PIPE, text=True, check=True).stdout
    libraries = {}
    for line in listed.splitlines():
        name, _, where = line.strip().partition(" => ")
        name = os.path.basename(name.split(" ")[0])
        if OF_TORCH.match(name) or OF_GLIBC.match(name) or not where:
            continue
        if where.startswith("not found"):
            sys.exit(f"{program} needs {name}, which is not installed here")
        libraries[name] = where.split(" (")[0]
    return libraries


def put(source, target):
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.copyfile(os.path.realpath(source), target)
    os.chmod(target, 0o755 if os.access(source, os.X_OK) else 0o644)


def strip(path):
    """Symbols only help a debugger. A shared library keeps those that others link with."""
    subprocess.run(["strip", "--strip-unneeded", path], check=True)


def torch_version(wheels):
    with open(wheels, encoding="utf-8") as file:
        return re.search(r"^torch==(\S+)", file.read(), re.M).group(1)


def size_of(folder):
    return sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(folder) for name in names)


def pack(out, programs, libraries, files, torch):
    """Returns what was packed, as pack.json says it."""
    if os.path.isdir(out) and os.listdir(out) and not os.path.exists(os.path.join(out, "pack.json")):
        sys.exit(f"{out} has something else in it: name a new folder")
    shutil.rmtree(out, ignore_errors=True)
    shared = {}
    for source in programs + libraries:
        target = os.path.join(out, source)
        put(source, target)
        os.chmod(target, 0o755)
        strip(target)
        shared.update(needed(os.path.realpath(source)))
    for name, path in sorted(shared.items()):
        target = os.path.join(out, "lib", "gcc" if OF_GCC.match(name) else "", name)
        put(path, target)
        strip(target)
    for source in files:
        put(source, os.path.join(out, os.path.basename(source) if "/gpu_check/" in source else source))
    contents = {"torch": torch_version(torch), "cuda": bool(libraries), "programs": programs, "libraries": libraries,
                "shared_libraries": sorted(shared)}
    with open(os.path.join(out, "pack.json"), "w", encoding="utf-8") as file:
        json.dump(contents, file, indent=1)
    return contents


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="the folder; an earlier pack there is replaced")
    parser.add_argument("--programs", nargs="+", required=True)
    parser.add_argument("--libraries", nargs="*", default=[])
    parser.add_argument("--files", nargs="+", required=True)
    parser.add_argument("--torch", required=True, help="the file that pins PyTorch's version")
    a = parser.parse_args()
    out = os.path.join(os.environ.get("BUILD_WORKING_DIRECTORY", ""), a.out)  # `bazel run` starts us elsewhere
    contents = pack(out, a.programs, a.libraries, a.files, a.torch)
    for path in a.programs + a.libraries + ["lib", "lib/gcc", "pipelines", "data"]:
        at = os.path.join(out, path)
        print(f"{(size_of(at) if os.path.isdir(at) else os.path.getsize(at)) / 1e6:8.2f} MB  {path}")
    total = size_of(out)
    print(f"{total / 1e6:8.2f} MB  in all, for PyTorch {contents['torch']}{'' if contents['cuda'] else ', without CUDA'}: {out}")
    if total > LIMIT:
        sys.exit(f"{total} bytes, more than {LIMIT}")


if __name__ == "__main__":
    main()
