#!/usr/bin/env bash
# Formats C++ as .clang-format says.
#
#   tools/format.sh --check   names the files that differ, exit code 1 when there are any
#   tools/format.sh --fix     rewrites them
#   tools/format.sh --fix graph/ir   only below these paths
set -euo pipefail

case ${1:-} in
  --check) options=(--dry-run --Werror) ;;
  --fix) options=(-i) ;;
  *)
    echo "usage: tools/format.sh --check|--fix [path...]" >&2
    exit 2
    ;;
esac
shift
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."

# One file per process keeps all cores busy; files deleted but not yet committed are skipped.
git -c 'safe.directory=*' ls-files -z --cached --others --exclude-standard -- "${@:-.}" |
  while IFS= read -r -d '' file; do
    [[ $file =~ \.(h|cc|cu|cuh)$ && -f $file ]] && printf '%s\0' "$file"
    true
  done |
  xargs -0 -r -n 8 -P "$(nproc)" clang-format "${options[@]}" --style=file || exit 1
