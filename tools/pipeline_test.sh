#!/usr/bin/env bash
# The test of one pipeline: it plans, has a certificate, simulates, and its plan's summary is the one in
# pipelines/golden. To accept a new summary: tools/bless_pipelines.sh
set -euo pipefail
file=$1
name=$(basename "$file" .textproto)
tools/millrace verify "$file"
tools/millrace simulate "$file"
tools/millrace plan "$file" --summary > "${TEST_TMPDIR:-/tmp}/summary.txt"
if ! diff -u "pipelines/golden/$name.txt" "${TEST_TMPDIR:-/tmp}/summary.txt"; then
  tools/millrace diff "pipelines/golden/$name.txt" "$file" >&2 || true
  echo "the plan of $name is not the one in pipelines/golden/$name.txt; if that is intended: tools/bless_pipelines.sh $name" >&2
  exit 1
fi
