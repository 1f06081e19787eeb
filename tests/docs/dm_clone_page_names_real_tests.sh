#!/bin/sh
# usage: dm_clone_page_names_real_tests.sh PROJECT_FOLDER
# Every test that docs/dm-clone.md names is there, every line of its tables of features and differences names
# one, and dm-clone's own tests are just those that our script of them runs.
set -eu
cd "$1"
page=docs/dm-clone.md
known=$(mktemp)
named=$(mktemp)
trap 'rm -f "$known" "$named"' EXIT
{
  # A name may stand on the line after the bracket.
  find tests -name '*.cc' -exec cat {} + | tr '\n' ' ' |
    grep -oE 'TEST(_F|_P)?\( *[A-Za-z0-9_]+, *[A-Za-z0-9_]+' | sed -E 's/^TEST(_F|_P)?\( *//; s/, */./'
  sed -nE 's/^add_guest_test\(([a-z_]+) .*/guest.\1/p' tests/integration/CMakeLists.txt
} | sort -u >"$known"

# The last cell of the tables that end in "held by".
awk -F'|' '
  /^## / { held = 0 }
  NF < 3 { next }
  $(NF - 1) ~ /^ held by $/ { held = 1; next }
  held && /^\|/ && $(NF - 1) !~ /^-+$/ { print NR ": " $(NF - 1) }' "$page" >"$named"
[ "$(wc -l <"$named")" -gt 20 ] || { echo "$page: its tables were not found"; exit 1; }
if grep -vE '`[A-Za-z0-9_]+\.[A-Za-z0-9_]+`' "$named"; then
  echo "$page: these lines name no test"
  exit 1
fi
missing=$(grep -oE '`[^`]*`' "$named" | tr -d '`' | sort -u | comm -23 - "$known")
[ -z "$missing" ] || { printf '%s: there are no such tests:\n%s\n' "$page" "$missing"; exit 1; }
own=$(sed '1,/^## dm-clone.s own tests/d' "$page" | grep '^|' | grep -oE '`[a-z0-9_]+`' | tr -d '`' | sort)
run=$(sed -n '/^for test in/,/; do$/p' tests/integration/dm_clone_tests.sh | sed 's/^for test in//; s/; do$//' |
  tr -s ' \\\n' '\n' | sort | grep .)
[ -n "$run" ] && [ "$own" = "$run" ] || { printf '%s: names\n%s\nrun are\n%s\n' "$page" "$own" "$run"; exit 1; }
echo "$(wc -l <"$named") lines, $(grep -oE '`[^`]*`' "$named" | sort -u | wc -l) tests"
