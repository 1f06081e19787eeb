#!/bin/bash
# No space: where the metadata lie, which must not matter to any FLUSH or restart, since their space is
# reserved; and under a thin destination, where it is an honest error (07/2707) to writes of new blocks
# alone. Hydration says why it is held up, costs next to nothing meanwhile, and goes on by itself.
set -eu
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$(dirname "$0")/../lab/lib.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

readonly mib=1048576
dir=/mnt/clone
dest=/mnt/small/dest
write_blocks() { # FIRST END STEP: new bytes, in the model too, flushed after every 16 and at the end
  python3 - "$LUN_DEV" $dir/model "$@" 2>"$LAB_LOG/write_blocks.log" <<'END' ||
import mmap, os, sys
device = os.open(sys.argv[1], os.O_RDWR | os.O_DIRECT)
model = os.open(sys.argv[2], os.O_RDWR)
buffer = mmap.mmap(-1, 4096)
for count, block in enumerate(range(*map(int, sys.argv[3:])), start=1):
    buffer[:] = os.urandom(4096)
    os.pwritev(device, [buffer], block * 4096)
    os.pwrite(model, buffer[:], block * 4096)
    if count % 16 == 0:
        os.fsync(device)
os.fsync(device)
END
    fail "a write or a flush: $(tail -n 1 "$LAB_LOG/write_blocks.log"): $("$CLONECTL" status full 2>&1)"
}
shows_the_model() { # WHEN
  blockdev --flushbufs "$LUN_DEV"
  cmp -n $((96 * mib)) "$LUN_DEV" $dir/model || fail "$1: the LUN is not what was written"
}
is_well() { [ "$(clone_status full '"\(.mode) \(.errors.metadata)"')" = "rw 0" ]; }
held_up() { clone_status full '.hydration.held_up_by // empty' | grep -q 'No space left'; }
not_held_up() { [ "$(clone_status full '.hydration.held_up_by | tostring')" = null ]; }
no_room() { ! head -c 4096 /dev/zero >>"$1"; } # FILE
runner_ticks() { awk '{ print $14 + $15 }' "/proc/$RUNNER_PID/stat"; }

lab_disk /dev/ubda $dir ext4
dm_create small "0 $((160 << 11)) linear /dev/ubdb 0"
dm_create tiny "0 $((32 << 11)) linear /dev/ubdb $((160 << 11))"
mkfs.ext4 -q -m 0 /dev/mapper/small
mkfs.ext4 -q -m 0 /dev/mapper/tiny
mkdir -p /mnt/small
mount /dev/mapper/small /mnt/small
mount /dev/mapper/tiny /var/lib/tcmu-clone
head -c 96M /dev/urandom >$dir/origin
cp $dir/origin $dir/model
runner_start
lun_create full 96M "origin=$dir/origin;dest=$dest;hydration=off;copy_on_read=off"
assert_direct full $dest

### the file system of metadata and state is full to the last byte

dd if=/dev/zero of=/var/lib/tcmu-clone/ballast bs=64k status=none 2>/dev/null || true
no_room /var/lib/tcmu-clone/ballast || fail "the metadata's file system is not full"
write_blocks 0 $((96 * 256)) 97
is_well || fail "$(clone_status full .reason)"
runner_kill
runner_start
wait_for 30 is_well || fail "after kill -9: $(clone_status full .reason)"
write_blocks 1 2 1
runner_stop 40
runner_start
wait_for 30 is_well || fail "after a stop: $(clone_status full .reason)"
write_blocks 2 3 1
shows_the_model "metadata on a full file system"
echo "ok   full metadata file system: 254 scattered blocks, flushed every 16, a kill -9, a stop and two starts"

### the destination's is

fallocate -l $(($(df --output=avail -B1 /mnt/small | tail -n 1) - 24 * mib)) /mnt/small/ballast
"$CLONECTL" message full enable_hydration
wait_for 60 held_up || fail "hydration on a full destination does not say so: $("$CLONECTL" status full --json)"
[ "$(clone_status full '"\(.state) \(.mode)"')" = "hydrating rw" ] || fail "$("$CLONECTL" status full)"
"$CLONECTL" status full | grep -q '^held up by .*No space left' || fail "$("$CLONECTL" status full)"
sleep 3 # The pauses between attempts have grown by now.
ticks=$(runner_ticks)
bytes=$(clone_status full .origin.bytes_read)
sleep 6
ticks=$(($(runner_ticks) - ticks))
bytes=$(($(clone_status full .origin.bytes_read) - bytes))
[ $ticks -le 120 ] || fail "the daemon used $ticks of 600 ticks for a destination that is full"
[ $bytes -le $((8 * mib)) ] || fail "$bytes bytes were read from the origin in 6 s in vain"
echo "ok   hydration is held up: $(clone_status full .hydration.held_up_by); in 6 s $ticks of 600 ticks, $bytes bytes read in vain"

# The last blocks are the ones that hydration has not come to.
head -c 4096 /dev/urandom >/run/block
status=0
sg_raw --send=4096 --infile=/run/block "$LUN_DEV" 2a 00 00 02 ff f8 00 00 08 00 >"$LAB_LOG/sg.log" 2>&1 || status=$?
grep -qi 'data protect' "$LAB_LOG/sg.log" && grep -qi 'space allocation failed' "$LAB_LOG/sg.log" ||
  fail "a write of a new block: exit status $status: $(cat "$LAB_LOG/sg.log")"
said=$(dd if=/run/block of="$LUN_DEV" bs=4096 seek=$((96 * 256 - 1)) oflag=direct 2>&1) && fail "a write of a new block was acknowledged"
grep -q 'No space left on device' <<<"$said" || fail "Linux understands it as: $said"
echo "ok   a write of a new block is refused with 07/2707, which Linux tells its user as ENOSPC"
write_blocks 256 320 1
is_well || fail "$(clone_status full .reason)"
shows_the_model "a full destination"
echo "ok   reads, writes of hydrated blocks and flushes go on, the LUN is $(clone_status full .mode)"

rm /mnt/small/ballast
began=$(now)
wait_for 60 not_held_up || fail "$(clone_status full .hydration.held_up_by)"
resumed=$(since "$began")
"$CLONECTL" wait full --timeout 120
shows_the_model "there is space again"
lun_delete full
runner_stop 40
cmp -n $((96 * mib)) $dest $dir/model || fail "the destination is not what was written"
echo "ok   space again: hydration went on after $resumed s by itself; the destination equals the model"
