#!/usr/bin/env python3
"""How fast PyTorch's DataLoader with Pillow reads an ISIC folder: the peer of data/image/decode_benchmark.cc.

  tools/peers/loader_peer.py FOLDER [--size 256] [--batch 32] [--workers 0] [--epochs 2] [--json]

FOLDER has the layout that `millrace data make --format isic` writes. Each picture is decoded, mirrored at random,
resized with antialiasing and normalised, its mask resized to the nearest pixel: what the training of a segmentation
model does. Prints images a second of the best epoch. For one core set --workers 0; torch gets one thread.

Needs torch and Pillow; says which is missing (exit code 3).
"""

import argparse
import json
import os
import random
import sys
import time


def require():
    missing = []
    for module, package in (("torch", "torch"), ("PIL", "Pillow"), ("numpy", "numpy")):
        try:
            __import__(module)
        except ImportError:
            missing.append(package)
    if missing:
        print("loader_peer: not installed: " + ", ".join(missing), file=sys.stderr)
        sys.exit(3)


def make_dataset(folder, size):
    import numpy
    import torch
    from PIL import Image

    with open(os.path.join(folder, "splits.json"), encoding="utf-8") as f:
        ids = json.load(f)["train"]
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)

    class Skins(torch.utils.data.Dataset):
        def __len__(self):
            return len(ids)

        def __getitem__(self, index):
            stem = os.path.join(folder, "images", ids[index])
            image = Image.open(stem + ".jpg").convert("RGB")
            mask = Image.open(os.path.join(folder, "masks", ids[index] + "_segmentation.png")).convert("L")
            if random.random() < 0.5:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                mask = mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            image = image.resize((size, size), Image.Resampling.BILINEAR)
            mask = mask.resize((size, size), Image.Resampling.NEAREST)
            pixels = torch.from_numpy(numpy.array(image)).permute(2, 0, 1).float().div_(255)
            inside = torch.from_numpy(numpy.array(mask)).gt(127).to(torch.uint8)
            return pixels.sub_(mean).div_(deviation), inside

    return Skins()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    require()
    import torch

    torch.set_num_threads(1)
    loader = torch.utils.data.DataLoader(
        make_dataset(args.folder, args.size), batch_size=args.batch, shuffle=True, num_workers=args.workers)
    best = 0.0
    for _ in range(args.epochs):
        begin, count = time.perf_counter(), 0
        for images, _ in loader:
            count += images.shape[0]
        best = max(best, count / (time.perf_counter() - begin))
    print("torch %s: %.1f images/s, %d px, %d workers" % (torch.__version__, best, args.size, args.workers),
          file=sys.stderr)
    if args.json:
        print(json.dumps({"images_per_second": best, "size": args.size, "workers": args.workers}))


if __name__ == "__main__":
    main()
