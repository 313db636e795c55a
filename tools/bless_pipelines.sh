#!/usr/bin/env bash
# Writes pipelines/golden/NAME.txt anew from today's plans: all pipelines, or those named. Read the diff before you
# commit it.
set -euo pipefail
cd "$(dirname "$0")/.."
./bazelw build //tools:millrace
mkdir -p pipelines/golden
names=("$@")
[ ${#names[@]} -gt 0 ] || names=($(basename -s .textproto -a pipelines/*.textproto))
for name in "${names[@]}"; do
  bazel-bin/tools/millrace plan "pipelines/$name.textproto" --summary > "pipelines/golden/$name.txt"
done
git --no-pager diff --stat -- pipelines/golden
