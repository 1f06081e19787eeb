#!/bin/sh
# usage: faults_page_shows_the_table.sh PRINT_FAULT_TABLE DOCS_FOLDER
# The table of docs/faults.md is the one the fault matrix is tested against. To renew it, put the
# output of print_fault_table in its place.
set -eu
expected=$(mktemp)
shown=$(mktemp)
trap 'rm -f "$expected" "$shown"' EXIT
"$1" >"$expected"
awk '/^<!-- end of the table/ { inside = 0 } inside { print } /^<!-- the table/ { inside = 1 }' \
  "$2/faults.md" >"$shown"
[ -s "$expected" ] || { echo "print_fault_table prints nothing"; exit 1; }
diff -u "$shown" "$expected"
