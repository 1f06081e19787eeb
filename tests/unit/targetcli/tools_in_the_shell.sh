#!/bin/bash
# usage: tools_in_the_shell.sh CLONECTL
# check, dump, restore and repair where the shell matters: exit statuses in scripts and pipes, outputs
# that are full or closed, inputs that are no files. The metadata are made from a dump written here.
set -u
clonectl=$1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
bad=0

# expect STATUS WHAT COMMAND...
expect() {
  local wanted=$1 what=$2 status=0
  shift 2
  "$@" >out 2>err || status=$?
  if [ "$status" = "$wanted" ]; then
    [ "$wanted" = 0 ] || grep -q '^clonectl: ' err || { echo "FAILED: $what: no sentence: $(cat err)"; bad=1; }
  else
    echo "FAILED: $what: exit status $status instead of $wanted: $(cat out err)"
    bad=1
  fi
}
full() { "$clonectl" dump meta >/dev/full; }
closed() { "$clonectl" dump meta >&-; }
from_pipe() { "$clonectl" restore -i /dev/stdin other < <(cat dump); }

zero=00000000-0000-0000-0000-000000000000
cat >dump <<EOF
tcmu-clone-metadata 1
uuid 01234567-89ab-cdef-0123-456789abcdef
name vm%201
size_bytes 1073741824
region_size 4096
units 96
sequence 7
flags clean
reason
attach_id $zero
boot_id $zero
machine_id $zero
origin_size 1073741824
origin_identity origin
destination_identity none
origin 0 5
destination 5 100
zero 105 262039
end
EOF

expect 0 "a restore" "$clonectl" restore -i dump meta
expect 1 "a restore over it" "$clonectl" restore -i dump meta
expect 0 "a restore over it, as told" "$clonectl" restore --input dump meta --overwrite
expect 0 "a check" "$clonectl" check meta
expect 0 "a dump" "$clonectl" dump meta -o again
expect 0 "the dump's dump" "$clonectl" restore -i again copy
cmp meta copy || bad=1
[ "$(head -n -1 again)" = "$(head -n -1 dump)" ] || { echo "FAILED: the dump is not what was restored"; bad=1; }
[ "$("$clonectl" dump meta | head -n 1)" = "tcmu-clone-metadata 1" ] || bad=1
expect 1 "a full output" full
expect 1 "a closed output" closed
expect 1 "a dump from a device" "$clonectl" restore -i /dev/zero other
expect 1 "a dump from a pipe" from_pipe
ln -s meta link
expect 0 "a symbolic link" "$clonectl" check link
expect 1 "a character device" "$clonectl" check /dev/null
expect 2 "no such option" "$clonectl" repair meta --guess
expect 2 "no such state" "$clonectl" repair meta --lost nowhere
expect 0 "nothing to repair" "$clonectl" repair meta
printf x | dd of=meta bs=1 seek=$((16 * 4096 + 7)) conv=notrunc status=none
expect 3 "a check of damage" "$clonectl" check meta
expect 3 "a dump of damage" "$clonectl" dump meta
expect 3 "a repair without a word" "$clonectl" repair meta
expect 0 "a repair as told" "$clonectl" repair meta --lost destination
expect 0 "a check afterwards" "$clonectl" check meta
truncate -s 40960 meta
expect 3 "metadata cut short" "$clonectl" check meta
[ ! -e other ] || { echo "FAILED: a refused restore left a file"; bad=1; }
exit $bad
