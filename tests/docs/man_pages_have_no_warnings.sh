#!/bin/sh
# usage: man_pages_have_no_warnings.sh DOCS_FOLDER
# Formats every page with all warnings on; any word from groff is a failure.
set -eu
docs=$1
command -v groff >/dev/null || { echo "skipped: needs groff (package groff-base)"; exit 77; }

status=0
for page in "$docs"/*.[578]; do
  warnings=$(groff -ww -man -Tutf8 -rLL=78n "$page" 2>&1 >/dev/null)
  if command -v man >/dev/null; then
    warnings=$warnings$(LC_ALL=C.UTF-8 MANWIDTH=80 man -l --warnings "$page" 2>&1 >/dev/null)
  fi
  if [ -n "$warnings" ]; then
    printf '%s:\n%s\n' "$page" "$warnings"
    status=1
  fi
done
exit $status
