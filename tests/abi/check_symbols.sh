#!/bin/sh
# The handler's symbol table: exports handler_init alone, needs nothing the runner has not.
# Usage: check_symbols.sh HANDLER_SO. Exit: 0 good, 1 not, 77 no runner is installed to ask.
set -eu

so=$1
list=$(mktemp -d)
trap 'rm -rf "$list"' EXIT

# A sanitizer's own registration symbols are not ours to hide.
nm -D --defined-only "$so" | awk '{print $NF}' | grep -v '^__[a-z]*san_' > "$list/exported" || true
if [ "$(cat "$list/exported")" != handler_init ]; then
  echo "exported besides or instead of handler_init:"
  cat "$list/exported"
  exit 1
fi

# The linker cannot tell a symbol of the runner from one of ours that was forgotten.
if nm -D --undefined-only "$so" | grep clonedev; then
  echo "symbols of the project itself are missing"
  exit 1
fi

nm -D --undefined-only "$so" | awk '{print $NF}' | grep '^tcmu' | sort > "$list/needed"
runner=$(command -v tcmu-runner || true)
[ -n "$runner" ] || { echo "skipped: no-runner"; exit 77; }
library=$(ldd "$runner" | awk '/libtcmu\.so/ {print $3}')
nm -D --defined-only "$runner" ${library:+"$library"} | awk 'NF == 3 {print $3}' | sort -u \
  > "$list/offered"
missing=$(comm -23 "$list/needed" "$list/offered")
if [ -n "$missing" ]; then
  echo "the installed tcmu-runner does not export: $missing"
  exit 1
fi
echo "exports handler_init only; $(wc -l < "$list/needed") runner symbols needed, all present"
