#!/bin/bash
# The ratio of a 4 KiB write to an absent block with the origin 50 ms away, to the same at 0 ms:
#
#   tests/bench/absent_write.sh [BUILD_DIR [FOLDER]]
#
# Native: two nbdkit servers on Unix sockets serve one image, the clones lie in FOLDER (default: below
# BUILD_DIR), which should be on a disk. The kinds of write take turns in one run, so that only the ratio
# counts and not the machine's mood. BUILD_DIR defaults to build/release.
set -eu
project=$(dirname "$(dirname "$(dirname "$(readlink -f "$0")")")")
build=$(readlink -f "${1:-$project/build/release}")
folder=${2:-$build/bench/absent_write}
program=$build/tests/bench/absent_write
[ -x "$program" ] || { echo "absent_write: $program is not built: cmake --build --preset release" >&2; exit 1; }
rm -rf "$folder" /dev/shm/absent-write
mkdir -p "$folder"
head -c 64M /dev/urandom >"$folder/origin"
servers=()
trap 'kill "${servers[@]}" 2>/dev/null; rm -rf "$folder" /dev/shm/absent-write' EXIT
for ms in 0 50; do
  nbdkit -f -r -U "$folder/$ms.sock" --filter=delay file "$folder/origin" delay-read="${ms}ms" &
  servers+=($!)
done
for ms in 0 50; do
  for ((i = 0; i < 100; i++)); do [ ! -S "$folder/$ms.sock" ] || break; sleep 0.1; done
done
"$program" "$folder" "nbd+unix:///?socket=$folder/0.sock" "nbd+unix:///?socket=$folder/50.sock"
