#!/bin/sh
# usage: page_shows_the_table.sh PRINT_TABLE PAGE
# The table of the page is the one that a test is held to. To renew it, put the output of PRINT_TABLE in
# its place.
set -eu
expected=$(mktemp)
shown=$(mktemp)
trap 'rm -f "$expected" "$shown"' EXIT
"$1" >"$expected"
awk '/^<!-- end of the table/ { inside = 0 } inside { print } /^<!-- the table/ { inside = 1 }' \
  "$2" >"$shown"
[ -s "$expected" ] || { echo "$1 prints nothing"; exit 1; }
diff -u "$shown" "$expected"
