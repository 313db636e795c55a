#!/usr/bin/env python3
"""Counts Bazel's test targets from its build event file: prints "PASSED FAILED", names failures on stderr.

Usage: count_tests.py EVENTS.json BAZEL_EXIT_CODE

A configured test without a good summary failed (it may not have been built, or was cut off), unless Bazel skipped
it because it is not for this configuration. When Bazel failed and no test did, something that is not a test did not
build: that is one failure.
"""

import json
import sys


def main():
    path, status = sys.argv[1], int(sys.argv[2])
    tests, good, skipped = set(), set(), set()
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                event = json.loads(line)
            except ValueError:
                continue  # the last line of a build that was cut off
            name = event.get("id", {})
            if "targetConfigured" in name and event.get("configured", {}).get("testSize"):
                tests.add(name["targetConfigured"]["label"])
            if "targetCompleted" in name and event.get("aborted", {}).get("reason") == "SKIPPED":
                skipped.add(name["targetCompleted"]["label"])
            if "testSummary" in name:
                label = name["testSummary"]["label"]
                tests.add(label)
                if event.get("testSummary", {}).get("overallStatus") in ("PASSED", "FLAKY"):
                    good.add(label)
    bad = sorted(tests - good - skipped)
    for label in bad:
        print(f"FAILED: {label}", file=sys.stderr)
    failed = len(bad)
    if status != 0 and failed == 0:
        print(f"FAILED: Bazel ended with exit code {status}, see above", file=sys.stderr)
        failed = 1
    print(len(good), failed)


if __name__ == "__main__":
    main()
