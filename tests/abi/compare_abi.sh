#!/bin/sh
# Compares handler/tcmu_abi.h with the headers in the source of the distribution's tcmu-runner.
# Usage: compare_abi.sh PROJECT WORK_DIR CC [RUNNER_SOURCE]
# Exit: 0 the same, 1 they differ, 77 the source cannot be had here (one word says why).
set -eu

project=$1
work=$2
cc=$3
tree=${4:-}

skip() {
  echo "skipped: $1"
  exit 77
}

# The host's own lists stay as they are: the source entries live in a configuration of our own.
fetch_source() {
  command -v apt-get > /dev/null || skip no-apt
  command -v dpkg-source > /dev/null || skip no-dpkg-source
  mkdir -p "$work/lists/partial"
  rm -f "$work/deb-src.list" "$work/deb-src.sources"
  if [ -f /etc/apt/sources.list.d/debian.sources ]; then
    list=$work/deb-src.sources
    sed 's/^Types:.*/Types: deb-src/' /etc/apt/sources.list.d/debian.sources > "$list"
  elif [ -f /etc/apt/sources.list ]; then
    list=$work/deb-src.list
    sed -n 's/^deb[[:space:]]/deb-src /p' /etc/apt/sources.list > "$list"
  else
    skip no-sources-list
  fi
  set -- -qq -o "Dir::Etc::sourcelist=$list" -o Dir::Etc::sourceparts=- \
    -o "Dir::State::lists=$work/lists" -o APT::Sandbox::User=
  timeout 120 apt-get "$@" update > "$work/apt.log" 2>&1 || skip offline
  (cd "$work" && timeout 120 apt-get "$@" source tcmu >> "$work/apt.log" 2>&1) || skip no-package
}

unpacked() {
  find "$work" -maxdepth 2 -name tcmu-runner.h -printf '%h\n' | head -n 1
}

mkdir -p "$work"
if [ -z "$tree" ]; then
  tree=$(unpacked)
  [ -n "$tree" ] || fetch_source
  tree=$(unpacked)
fi
[ -f "$tree/tcmu-runner.h" ] || skip no-source

$cc -std=gnu11 -I"$project/handler" -o "$work/ours" "$project/tests/abi/probe.c"
$cc -std=gnu11 -w -DRUNNER_TREE -D_GNU_SOURCE -I"$tree" -I"$tree/ccan" \
  -c -o "$work/theirs.o" "$project/tests/abi/probe.c"
$cc -o "$work/theirs" "$work/theirs.o"
"$work/ours" > "$work/ours.txt"
"$work/theirs" > "$work/theirs.txt"
if grep -H 'differs$' "$work/ours.txt" "$work/theirs.txt"; then
  echo "a declaration is not what the probe expects"
  exit 1
fi
diff -u "$work/theirs.txt" "$work/ours.txt"
echo "$(wc -l < "$work/ours.txt") facts agree with $(basename "$tree")"
