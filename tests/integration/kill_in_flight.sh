#!/bin/bash
# kill -9 of tcmu-runner while its writes are stuck in the destination. The kernel finishes the O_DIRECT
# I/O of a dead process, so the new daemon must wait for the locks that go with it (I12), and nothing old
# may land on what is written later.
#
#   1. dm-delay: user's writes and copies are seconds late; the daemon opens only when they have landed.
#   2. An NBD disk that keeps single writes back while later ones pass: the old write is released last of
#      all, long after newer data would have been acknowledged by a daemon that does not wait.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$here/../lab/lib.sh"
# shellcheck source-path=SCRIPTDIR source=odd_disks.sh
. "$here/odd_disks.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

readonly delay=7
dir=/mnt/clone
writing() { [ "$(awk '{ print $2 }' "/sys/block/${LUN_DEV#/dev/}/inflight")" -gt 0 ]; }
put() { dd if="$1" of="$LUN_DEV" bs=1M seek="$2" oflag=direct,seek_bytes conv=notrunc status=none; } # FILE OFFSET
same() { # FILE OFFSET WHAT
  cmp "$1" <(dd if="$LUN_DEV" bs=1M skip="$2" count="$(stat -c %s "$1")" iflag=direct,skip_bytes,count_bytes status=none) ||
    fail "$3"
}
model() { dd if="$1" of=$dir/model bs=1M seek="$2" oflag=seek_bytes conv=notrunc status=none; } # FILE OFFSET

lab_disk /dev/ubda $dir ext4
head -c 48M /dev/urandom >$dir/origin
cp $dir/origin $dir/model
for file in older newer; do head -c 1M /dev/urandom >/run/$file; done
runner_start

### 1. a slow disk

modprobe dm-delay
dm_create slow "0 $((48 << 11)) delay /dev/ubdb 0 0 /dev/ubdb 0 ${delay}000 /dev/ubdb 0 0"
lun_create slow 48M "origin=$dir/origin;dest=/dev/mapper/slow;meta=$dir/slow.meta;hydration=off"
put_at=$(now)
put /run/older $((4 << 20)) &
writer=$!
wait_for 20 writing
"$CLONECTL" message slow enable_hydration
sleep 1
kill -0 "$writer" || fail "this machine is too slow for a delay of $delay s: nothing was in flight at the kill"
runner_kill
runner_start $((delay + 40))
opened_after=$(since "$put_at")
wait_for 5 clone_status slow .name
awk -v a="$opened_after" -v d=$delay 'BEGIN { exit !(a >= d) }' ||
  fail "the new daemon opened the LUN $opened_after s after a write that takes $delay s was begun by the old one"
"$CLONECTL" message slow disable_hydration
wait "$writer"
put /run/newer $((4 << 20))
model /run/newer $((4 << 20))
same /run/newer $((4 << 20)) "the newer write is not what the LUN shows"
echo "ok   dm-delay of $delay s: killed with writes and copies in flight, open again $opened_after s after the first"

### 2. a disk that keeps a write back

kept_back_disk_start 4
lun_create held 4M "origin=$dir/origin;dest=/dev/nbd0;meta=$dir/held.meta;hydration=off"
head -c 4096 /run/older >/run/older4k
head -c 4096 /run/newer >/run/newer4k
keep_writes_back
put /run/older4k 8192 &
writer=$!
wait_for 20 writes_are_kept_back
runner_kill
pass_later_writes
runner_launch
if wait_for 8 clone_status held .name 2>/dev/null; then
  wait "$writer"
  put /run/newer4k 8192
  release_writes
  sleep 2
  same /run/newer4k 8192 "opened while a write of the killed daemon was in flight, and that has landed on a newer one"
  fail "the new daemon opened the LUN while a write of the old one was in flight"
fi
release_writes
wait_for 60 clone_status held .name
wait "$writer"
put /run/newer4k 8192
sleep 1
same /run/newer4k 8192 "a write of the killed daemon has landed on a newer one"
echo "ok   a write kept back past the kill: the LUN stays closed for 8 s, opens when it has landed, newer data stay"

### the destinations

for name in slow held; do "$CLONECTL" message $name enable_hydration; done # Messages do not outlive a daemon.
"$CLONECTL" wait slow --timeout 120
"$CLONECTL" wait held --timeout 120
{ lines_delete slow && lines_delete held; } | targetcli_run "$LAB_LOG/delete.log"
runner_stop 60
cmp -n $((48 << 20)) /dev/mapper/slow $dir/model || fail "the slow destination is not what was written"
cp $dir/origin $dir/model
model /run/newer4k 8192
kept_back_disk_stop
cmp /run/disk/image <(head -c 4M $dir/model) || fail "the destination that keeps writes back is not what was written"
echo "ok   both destinations equal their models"
