#!/usr/bin/env bash
# What `bazel run //pipelines:NAME` starts: millrace, in the folder that holds the repository's files, with the
# arguments of the target and then those of the user.
set -euo pipefail
[ -e tools/millrace ] || cd "$0.runfiles/millrace"
exec tools/millrace "$@"
