#!/usr/bin/env python3
"""Puts chosen files of pinned Python wheels into the cache folder and prints where they are.

wheels.bzl calls it. The wheels named in the requirements file are downloaded by pip, by name and hash, with
fixed tags, so that the result does not depend on the Python that runs this. Downloads stay in CACHE/wheels;
a tree is unpacked once, renamed into place as a whole, and shared by all checkouts of the user:

    CACHE/<tree>-<hash of its recipe and its wheels>/

Usage: wheels.py TREE REQUIREMENTS CACHE     TREE: libtorch, libtorch_cuda, cuda, nccl
"""

import fcntl
import hashlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

# Tags of the wheels, not of this machine's Python.
PIP_TAGS = [
    "--platform=manylinux_2_28_x86_64",
    "--platform=manylinux_2_25_x86_64",
    "--platform=manylinux_2_18_x86_64",
    "--platform=manylinux_2_17_x86_64",
    "--platform=manylinux2014_x86_64",
    "--python-version=311",
    "--implementation=cp",
    "--abi=cp311",
    "--only-binary=:all:",
]

# The compiler finds its parts relative to itself: one tree of several wheels.
TOOLKIT = {r"nvidia/cu13/((bin|include|nvvm)/.+)": r"\1"}

# tree -> wheel -> {which file (the whole name): where in the tree}
RECIPES = {
    # What a CPU build links. libtorch.so itself is left out: it pulls in CUDA. libtorch_cpu.so of this build
    # needs the CUDA runtime and CUPTI to load, though it does not call them without a device.
    "libtorch": {
        "torch": {
            # An old Protocol Buffers lies among the headers and would shadow the real one.
            r"torch/include/(?!google/|pybind11/)(.+)": r"include/\1",
            r"torch/(lib/(libtorch_cpu\.so|libc10\.so|libgomp\.so\.1))": r"\1",
        },
        "nvidia-cuda-runtime": {r"nvidia/cu13/(lib/libcudart\.so\.13)": r"\1"},
        "nvidia-cuda-cupti": {r"nvidia/cu13/(lib/libcupti\.so\.13)": r"\1"},
    },
    # Half a gigabyte that only a shared library is linked against.
    "libtorch_cuda": {"torch": {r"torch/(lib/(libtorch_cuda\.so|libc10_cuda\.so))": r"\1"}},
    "cuda": {
        "nvidia-cuda-nvcc": TOOLKIT,
        "nvidia-cuda-crt": TOOLKIT,
        "nvidia-nvvm": TOOLKIT,
        "nvidia-cuda-cccl": TOOLKIT,
        "nvidia-cuda-runtime": TOOLKIT,
        "nvidia-nvtx": TOOLKIT,
    },
    # The library is loaded at run time, and is not in the tree.
    "nccl": {"nvidia-nccl-cu13": {r"nvidia/nccl/(include/nccl\.h)": r"\1"}},
}


def read_requirements(path):
    """Returns {name: (name, version, sha256)}."""
    pins = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            match = re.match(r"([\w-]+)==([\w.]+) --hash=sha256:([0-9a-f]{64})$", line.strip())
            if match:
                pins[match[1]] = match.groups()
            elif line.strip() and not line.startswith("#"):
                raise SystemExit(f"{path}: not a pinned requirement: {line.strip()}")
    return pins


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def find_wheel(folder, pin):
    """The wheel of this name, version and hash in the folder, or None."""
    name, version, digest = pin
    prefix = f"{name.replace('-', '_')}-{version}-"
    for entry in sorted(os.listdir(folder)):
        path = os.path.join(folder, entry)
        if entry.startswith(prefix) and entry.endswith(".whl") and sha256(path) == digest:
            return path
    return None


def download(pins, folder):
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as requirements:
        requirements.writelines(f"{name}=={version} --hash=sha256:{digest}\n" for name, version, digest in pins)
        requirements.flush()
        command = [
            sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir", "download",
            "--quiet", "--no-input", "--no-deps", "--require-hashes", *PIP_TAGS,
            "--requirement", requirements.name, "--dest", folder,
        ]
        result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
    if result.returncode:
        raise SystemExit(f"pip could not download {', '.join(pin[0] for pin in pins)} (exit {result.returncode})")


def unpack(wheel, files, target):
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            for pattern, place in files.items():
                match = re.fullmatch(pattern, entry.filename)
                if not match or entry.is_dir():
                    continue
                path = os.path.join(target, match.expand(place))
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with archive.open(entry) as source, open(path, "wb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
                if entry.external_attr >> 16 & 0o100:
                    os.chmod(path, 0o755)


def main():
    name, requirements, cache = sys.argv[1:]
    recipe = RECIPES[name]
    known = read_requirements(requirements)
    pins = [known[wheel] for wheel in recipe]
    key = hashlib.sha256(repr((recipe, pins, inspect.getsource(unpack))).encode()).hexdigest()[:16]
    tree = os.path.join(cache, f"{name}-{key}")
    folder = os.path.join(cache, "wheels")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(cache, "wheels.lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two checkouts at once: one downloads, the other waits
        if not os.path.isdir(tree):
            missing = [pin for pin in pins if not find_wheel(folder, pin)]
            if missing:
                download(missing, folder)
            part = f"{tree}.part"
            shutil.rmtree(part, ignore_errors=True)
            for pin in pins:
                unpack(find_wheel(folder, pin), recipe[pin[0]], part)
            os.rename(part, tree)
    print(tree)


if __name__ == "__main__":
    main()
