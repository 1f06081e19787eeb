#!/bin/bash
# The offline tools on a half-hydrated clone in the real stack: what check says, a dump and a restore of
# its metadata, a damaged state page that keeps the LUN away until it is repaired, and needs_check, which
# makes the LUN read-only until an admin clears it.
set -eu
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$(dirname "$0")/../lab/lib.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

readonly mib=1048576 size=192
dir=/mnt/clone

# expect STATUS COMMAND...: clonectl's exit status; what it says is in /run/said.
expect() {
  local wanted=$1 status=0
  shift
  "$CLONECTL" "$@" >/run/said 2>&1 || status=$?
  [ "$status" = "$wanted" ] || fail "clonectl $*: $status instead of $wanted: $(cat /run/said)"
}
# same FROM TO: the LUN holds what the model holds in these MiB.
same() {
  cmp <(dd if="$LUN_DEV" bs=1M skip="$1" count=$(($2 - $1)) iflag=direct status=none) \
    <(dd if=$dir/model bs=1M skip="$1" count=$(($2 - $1)) status=none)
}
put() { dd if=/run/data of="$LUN_DEV" bs=64k seek=8 oflag=direct conv=fsync status=none 2>/run/dd; }
is_protected() { [ "$(cat "/sys/block/${LUN_DEV#/dev/}/ro")" = "$1" ]; } # 0|1
rescan() { echo 1 >"/sys/block/${LUN_DEV#/dev/}/device/rescan"; }
flip() { # OFFSET [FILE]: all eight bits of one byte of the metadata, or of another file
  local byte file=${2:-$dir/meta}
  byte=$(od -An -tu1 -j "$1" -N 1 "$file")
  printf "\\x$(printf %x $((byte ^ 255)))" | dd of="$file" bs=1 seek="$1" conv=notrunc status=none
}
# Damages one state page that is in use: the first whose loss costs 64 MiB of the disk.
damage_a_page() {
  local unit length
  for ((unit = 16; unit < $(stat -c %s $dir/meta) / 4096; unit++)); do
    flip $((unit * 4096 + 99))
    length=$("$CLONECTL" check --json $dir/meta 2>/dev/null | jq '.lost[0].length // 0') || true
    [ "$length" != $((64 * mib)) ] || return 0
    flip $((unit * 4096 + 99))
  done
  return 1
}

lab_disk /dev/ubda $dir ext4
head -c ${size}M /dev/urandom >$dir/origin
cp $dir/origin $dir/model
head -c 64k /dev/urandom >/run/data
nbd_start $dir/origin 10809 0 60M # So slow that it can be stopped half way.
runner_start
lun_create tools ${size}M "origin=nbd%3A//127.0.0.1/;dest=$dir/dest;meta=$dir/meta;hydration=off;copy_on_read=off"
for at in 5 70 140; do
  dd if=/run/data of="$LUN_DEV" bs=64k seek=$((at * 16)) oflag=direct conv=fsync status=none
  dd if=/run/data of=$dir/model bs=64k seek=$((at * 16)) conv=notrunc status=none
done
"$CLONECTL" message tools enable_hydration
wait_for 60 clone_reached tools 10
"$CLONECTL" message tools disable_hydration
expect 1 check $dir/meta
grep -q "in use" /run/said
[ "$(clone_status tools .state)" = paused ]
runner_stop
nbd_stop
nbd_start $dir/origin 10809

expect 0 check $dir/meta --dest $dir/dest --origin nbd://127.0.0.1/
grep -q "^state  *clean" /run/said
[ "$(grep -c "this is the one" /run/said)" = 2 ]
expect 0 check $dir/meta --dest $dir/dest --origin nbd://127.0.0.1/ --deep
grep -Eq "compared with the origin: [1-9][0-9]* bytes are equal, 0 differ" /run/said || fail "$(cat /run/said)"
deep=$(sed -nE 's/.*origin: ([0-9]+) bytes are equal.*/\1/p' /run/said)
copied=$("$CLONECTL" dump $dir/meta | awk '$1 == "copied" { print $2 * 4096; exit }')
flip "$copied" $dir/dest
expect 3 check $dir/meta --dest $dir/dest --origin nbd://127.0.0.1/ --deep
grep -q "^damage: bytes $copied..$((copied + 4095)) differ from the origin" /run/said || fail "$(cat /run/said)"
flip "$copied" $dir/dest
echo "ok   check --deep: $deep copied bytes equal the origin's; one that was changed behind our back is found"
expect 0 dump $dir/meta -o $dir/dump
mv $dir/meta $dir/meta.before
expect 0 restore -i $dir/dump $dir/meta
"$CLONECTL" dump $dir/meta | cmp - $dir/dump
runner_start
wait_for 30 clone_status tools .name
same 0 $size
echo "ok   check, dump, restore: $(grep -c '^[a-z]* [0-9]* [0-9]*$' $dir/dump) runs, the same $size MiB afterwards"

runner_stop
damage_a_page || fail "no state page found"
expect 3 check $dir/meta
runner_start
"$CLONECTL" list >/run/list
grep -q "^tools  *failed .*wrong checksum" /run/list || fail "the damaged LUN: $(cat /run/list)"
runner_stop
expect 3 repair $dir/meta
read -r first last < <(sed -nE 's/^lost: bytes ([0-9]+)\.\.([0-9]+) of the disk.*/\1 \2/p' /run/said)
[ $((last - first + 1)) = $((64 * mib)) ]
expect 0 repair $dir/meta --lost destination
expect 0 check $dir/meta
runner_start
wait_for 30 clone_status tools .name
same 0 $((first / mib))
same $(((last + 1) / mib)) $size
echo "ok   a damaged page: bytes $first..$last lost, the LUN refused, repaired, all else as it was"

runner_stop
"$CLONECTL" dump $dir/meta | sed -e 's/^flags clean$/flags clean needs_check/' -e 's/^end .*/end/' >$dir/dump.needs_check
grep -q "^flags clean needs_check" $dir/dump.needs_check
expect 0 restore --overwrite -i $dir/dump.needs_check $dir/meta
expect 3 check $dir/meta
runner_start
wait_for 30 clone_status tools .name
[ "$(clone_status tools .mode)" = ro ]
rescan
is_protected 1 || fail "the initiator was not told of the write protection"
! put || fail "a write to a LUN that was opened with needs_check"
same 0 $((first / mib))
same $(((last + 1) / mib)) $size
"$CLONECTL" message tools clear_needs_check
[ "$(clone_status tools .mode)" = rw ]
rescan
is_protected 0 || fail "the initiator was not told that the write protection is gone"
put || fail "after clear_needs_check: $(cat /run/dd)"
cmp -n 65536 /run/data <(dd if="$LUN_DEV" bs=64k skip=8 count=1 iflag=direct status=none)
echo "ok   needs_check: write-protected and readable, writable when cleared"
