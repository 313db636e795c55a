#!/usr/bin/env python3
"""Puts LibTorch's headers and CPU libraries into the cache folder and prints where they are.

libtorch.bzl calls it. The wheels named in the requirements file are downloaded by pip, by name and hash, with
fixed tags, so that the result does not depend on the Python that runs this. Downloads stay in CACHE/wheels;
the tree is unpacked once, renamed into place as a whole, and shared by all checkouts of the user:

    CACHE/libtorch-<hash of this file and the requirements>/{include,lib}

Usage: libtorch.py REQUIREMENTS CACHE
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile

# Tags of the wheels, not of this machine's Python.
PIP_TAGS = [
    "--platform=manylinux_2_28_x86_64",
    "--platform=manylinux_2_25_x86_64",
    "--platform=manylinux_2_17_x86_64",
    "--platform=manylinux2014_x86_64",
    "--python-version=311",
    "--implementation=cp",
    "--abi=cp311",
    "--only-binary=:all:",
]

# What a CPU build links. libtorch.so itself is left out: it pulls in CUDA. libtorch_cpu.so of this build
# needs the CUDA runtime and CUPTI to load, though it does not call them without a device.
LIBRARIES = re.compile(
    r"^(torch/lib/(libtorch_cpu\.so|libc10\.so|libgomp\.so\.1)"
    r"|nvidia/cu13/lib/(libcudart\.so\.13|libcupti\.so\.13))$"
)
HEADERS = re.compile(r"^torch/include/(.*)$")
# An old Protocol Buffers lies among the headers and would shadow the real one.
NOT_HEADERS = ("google/", "pybind11/")


def read_requirements(path):
    """Returns [(name, version, sha256)]."""
    pins = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            match = re.match(r"([\w-]+)==([\w.]+) --hash=sha256:([0-9a-f]{64})$", line.strip())
            if match:
                pins.append(match.groups())
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


def download(requirements, folder):
    command = [
        sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir", "download",
        "--quiet", "--no-input", "--no-deps", "--require-hashes", *PIP_TAGS,
        "--requirement", requirements, "--dest", folder,
    ]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
    if result.returncode:
        raise SystemExit(f"pip could not download LibTorch (exit {result.returncode}). "
                         "Set LIBTORCH=<folder with include/ and lib/> to use a copy you have.")


def unpack(wheels, target):
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                header = HEADERS.match(name)
                if header and not name.endswith("/") and not header[1].startswith(NOT_HEADERS):
                    path = os.path.join(target, "include", header[1])
                elif LIBRARIES.match(name):
                    path = os.path.join(target, "lib", os.path.basename(name))
                else:
                    continue
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with archive.open(name) as source, open(path, "wb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)


def main():
    requirements, cache = sys.argv[1:]
    pins = read_requirements(requirements)
    with open(__file__, "rb") as file:
        key = hashlib.sha256(file.read() + repr(pins).encode()).hexdigest()[:16]
    tree = os.path.join(cache, f"libtorch-{key}")
    folder = os.path.join(cache, "wheels")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(cache, "libtorch.lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two checkouts at once: one downloads, the other waits
        if not os.path.isdir(tree):
            if not all(find_wheel(folder, pin) for pin in pins):
                download(requirements, folder)
            part = f"{tree}.part"
            shutil.rmtree(part, ignore_errors=True)
            unpack([find_wheel(folder, pin) for pin in pins], part)
            os.rename(part, tree)
    print(tree)


if __name__ == "__main__":
    main()
