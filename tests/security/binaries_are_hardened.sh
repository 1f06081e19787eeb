#!/bin/bash
# What the linker and the compiler were told, read back from what is shipped.
# Usage: binaries_are_hardened.sh HANDLER_SO CLONECTL
set -eu

bad=0
# want FILE WHAT LISTING PATTERN: some line of the listing has the pattern.
want() {
  grep -qE -- "$4" <<<"$3" && return
  echo "$(basename "$1"): $2"
  bad=1
}

for file in "$@"; do
  headers=$(readelf -lW "$file")
  dynamic=$(readelf -dW "$file")
  symbols=$(readelf --dyn-syms -W "$file")
  want "$file" "its stack may be executed" "$headers" 'GNU_STACK +[^E]* RW +0x'
  want "$file" "no RELRO" "$headers" 'GNU_RELRO'
  want "$file" "symbols are bound late: no BIND_NOW" "$dynamic" 'BIND_NOW|FLAGS_1.*NOW'
  want "$file" "no stack protector" "$symbols" '__stack_chk_fail'
  want "$file" "no fortified functions" "$symbols" '__[a-z]+_chk(@| |$)'
  want "$file" "not relocatable: no PIE" "$(readelf -hW "$file")" 'Type: +DYN'
  if grep -qE 'LOAD.* RWE ' <<<"$headers"; then
    echo "$(basename "$file"): a segment is writable and executable"
    bad=1
  fi
  if grep -qE 'RPATH|RUNPATH' <<<"$dynamic"; then
    echo "$(basename "$file"): has a path to search libraries in"
    bad=1
  fi
done
[ "$bad" = 0 ] && echo "$# files: NX, RELRO, BIND_NOW, PIE, stack protector, FORTIFY_SOURCE"
exit "$bad"
