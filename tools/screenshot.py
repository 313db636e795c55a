#!/usr/bin/env python3
"""Takes a picture of a report with a headless Chromium, which need not be installed for anything else.

  python3 tools/screenshot.py run/report.html picture.png [--dark] [--size 1280x1480] [--scale 1]

The browser gets no network. Exit code 2: no browser (apt-get install chromium), 3: it failed, or the page's script
reported an error.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def browser():
    """Path of an installed Chromium, or None."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


def command(program, profile, *flags):
    """A headless run without network, with a profile of its own."""
    return [program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}",
            "--host-resolver-rules=MAP * 0.0.0.0", "--virtual-time-budget=5000", "--enable-logging=stderr", *flags]


def console_errors(log):
    """What the page's script complained of."""
    return [line for line in log.splitlines() if re.search(r":CONSOLE[:(]", line)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("report")
    parser.add_argument("picture")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--size", default="1280x1480", help="of the window, WIDTHxHEIGHT")
    parser.add_argument("--scale", default="1", help="picture's pixels per window's pixel")
    args = parser.parse_args()
    program = browser()
    if program is None:
        print("screenshot.py: no Chromium found; apt-get install chromium, or put google-chrome into PATH", file=sys.stderr)
        return 2
    if not os.path.isfile(args.report):
        print(f"screenshot.py: no file {args.report}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as profile:
        flags = [f"--screenshot={os.path.abspath(args.picture)}", f"--window-size={args.size.replace('x', ',')}",
                 f"--force-device-scale-factor={args.scale}", f"--blink-settings=preferredColorScheme={0 if args.dark else 1}",
                 "file://" + os.path.abspath(args.report)]
        done = subprocess.run(command(program, profile, *flags), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    errors = console_errors(done.stderr)
    if done.returncode != 0 or errors or not os.path.isfile(args.picture):
        print("\n".join(errors) or done.stderr, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
