#!/usr/bin/env python3
"""Times sequential writes and reads of one file of 1 GiB: our StorageFile (CRC32C of each page included) and fio, in
turns in one run, with the same block size, queue depth, engine (io_uring, direct, registered buffers and file).

  tools/peers/storage_peer.py [--folder /nvme] [--rounds 7] [--block 1048576] [--depth 8] [--benchmark PATH]

fio is the distribution's package (apt-get install fio). --benchmark is our stopwatch, default
bazel-bin/data/storage/storage_benchmark (./bazelw build //data/storage:storage_benchmark). --folder lies on the drive
to be measured and has 2 GiB free; the files are removed.

Before each timed run the same program writes its file once, untimed: pages are data already, and what a host still
has to write back is the same for both. Each is timed over two passes. Printed are medians over the rounds, and the median over the
rounds of our rate / fio's rate in that round. "without sums" is what fio does: it looks at no byte. fio's own memory is of small pages unless --fio-memory=shmhuge; ours is huge
pages by madvise, as the trainer's arenas are.
"""
import argparse, json, os, shutil, statistics, subprocess, sys, tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GIB = 1 << 30
OURS = {"write": "BM_Write", "write without sums": "BM_WriteWithoutSums", "write staged": "BM_WriteStaged",
        "read": "BM_Read", "read without sums": "BM_ReadWithoutSums", "read staged": "BM_ReadStaged"}


def ours(benchmark, a, row):
    """Bytes per second of one row of our stopwatch, and what it says of itself."""
    env = dict(os.environ, MILLRACE_STORAGE_FOLDER=a.folder, MILLRACE_STORAGE_BLOCK=str(a.block),
               MILLRACE_STORAGE_DEPTH=str(a.depth))
    out = subprocess.run([benchmark, f"--benchmark_filter=^{OURS[row]}/", "--benchmark_format=json"], env=env,
                         check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    b = json.loads(out)["benchmarks"][0]
    if b.get("error_occurred"):
        sys.exit(f"{row}: {b['error_message']}")
    return b["bytes_per_second"], b["label"]


def fio(a, path, direction, loops):
    """Bytes per second of so many passes."""
    out = subprocess.run(["fio", "--name=peer", f"--filename={path}", f"--rw={direction}", f"--size={GIB}",
                          f"--bs={a.block}", f"--iodepth={a.depth}", f"--loops={loops}", "--direct=1",
                          "--ioengine=io_uring", "--fixedbufs=1", "--registerfiles=1", "--invalidate=0",
                          f"--iomem={a.fio_memory}", "--output-format=json"],
                         check=True, stdout=subprocess.PIPE).stdout.decode()
    return json.loads(out[out.index("{"):])["jobs"][0][direction]["bw_bytes"]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--folder", default=tempfile.gettempdir())
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--block", type=int, default=1 << 20)
    p.add_argument("--depth", type=int, default=8)
    p.add_argument("--fio-memory", default="malloc", help="fio's iomem; shmhuge needs vm.nr_hugepages")
    p.add_argument("--benchmark", default=os.path.join(ROOT, "bazel-bin/data/storage/storage_benchmark"))
    a = p.parse_args()
    if not os.access(a.benchmark, os.X_OK):
        sys.exit(f"no {a.benchmark}; ./bazelw build //data/storage:storage_benchmark makes it")
    if not shutil.which("fio"):
        sys.exit("no fio; apt-get install fio")
    if shutil.disk_usage(a.folder).free < 3 * GIB:
        sys.exit(f"{a.folder} has less than 3 GiB free; choose another --folder")
    path = os.path.join(a.folder, f"storage_peer.{os.getpid()}")
    rounds, label = [], ""
    try:
        for _ in range(a.rounds):
            rates = {}
            for row in OURS:
                direction = row.split()[0]
                if row == direction:
                    fio(a, path, "write", 1)
                    rates["fio " + direction] = fio(a, path, direction, 2)
                rates[row], label = ours(a.benchmark, a, row)
            rounds.append(rates)
    finally:
        if os.path.exists(path):
            os.remove(path)
    print(f"{label.replace(', no checksums', '')}; medians of {a.rounds} rounds")
    for name in rounds[0]:
        line = f"  {name:20} {statistics.median(r[name] for r in rounds) / 1e9:6.2f} GB/s"
        if not name.startswith("fio"):
            ratio = statistics.median(r[name] / r["fio " + name.split()[0]] for r in rounds)
            line += f"   {ratio:.2f} of fio"
        print(line, flush=True)


if __name__ == "__main__":
    main()
