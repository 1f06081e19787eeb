#!/bin/bash
# A destination that stalls for longer than cmd_time_out: the kernel gives commands up while we still have
# their buffers, tells the initiator of an error, and we complete them late. Verified load sees errors but
# no wrong byte, a write that was given up never lands on a newer one, the LUN works afterwards, and the
# daemon stops in order.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$here/../lab/lib.sh"
# shellcheck source-path=SCRIPTDIR source=odd_disks.sh
. "$here/odd_disks.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

readonly time_out=3 mib=1048576
seed=${SEED:-$(date +%s)}
dir=/mnt/clone

lab_disk /dev/ubda $dir ext4
head -c 80M /dev/urandom >$dir/origin
cp $dir/origin $dir/model
runner_start
dm_create stall "0 $((80 << 11)) linear /dev/ubdb 0"
kept_back_disk_start 4
{
  lines_create stall 80M "origin=$dir/origin;dest=/dev/mapper/stall;meta=$dir/stall.meta;origin_timeout=2s;hydration_threshold=64"
  lines_create late 4M "origin=$dir/origin;dest=/dev/nbd0;meta=$dir/late.meta;origin_timeout=2s;hydration=off"
  # Not once a LUN is exported.
  for name in stall late; do
    echo "/backstores/user:clone/$name set attribute cmd_time_out=$time_out"
    lines_loopback $name
  done
} | targetcli_run "$LAB_LOG/create.log"
for name in stall late; do
  [ "$(cat "$lab_configfs"/core/user_*/$name/attrib/cmd_time_out)" = $time_out ] || fail "$(cat "$LAB_LOG/create.log")"
done

### verified load over a disk that stalls

lun_loopback_device stall
rm -f /run/stop
"$here/model_io.py" "$LUN_DEV" $dir/model --seed "$seed" --until /run/stop --offset $mib --length $((48 * mib)) \
  --errors --late >"$LAB_LOG/model_io.log" 2>&1 &
model_io=$!
sleep 2
for stall in 7 10; do
  dmsetup suspend --noflush stall
  sleep $stall
  dmsetup resume stall
  sleep 2
done
touch /run/stop
wait "$model_io" || fail "$(cat "$LAB_LOG/model_io.log")"
! grep -q '(0 failed)' "$LAB_LOG/model_io.log" || fail "the kernel gave no command up: the disk did not stall for longer than $time_out s"
echo "ok   stalls of 7 and 10 s, cmd_time_out $time_out s: $(cat "$LAB_LOG/model_io.log")"

### a single write that nobody repeats

write_10() { # FILE_OF_4K LBA
  sg_raw --send=4096 --infile="$1" --timeout=60 "$LUN_DEV" 2a 00 00 00 "$(printf '%02x' $(($2 >> 8)))" \
    "$(printf '%02x' $(($2 & 255)))" 00 00 08 00 >"$LAB_LOG/sg_raw.log" 2>&1
}
newest_stays() { # WHERE
  dd if="$LUN_DEV" bs=4096 skip=$((16 >> 3)) count=1 iflag=direct status=none | cmp - /run/newer ||
    fail "$1: the newer write is gone"
}
for file in older newer; do head -c 4096 /dev/urandom >/run/$file; done
dmsetup suspend --noflush stall
began=$(now)
! write_10 /run/older 16 || fail "a write ended well while its disk stalled"
echo "ok   given up after $(since "$began") s: $(grep -iE 'sense|aborted|unit' "$LAB_LOG/sg_raw.log" | tr -s ' \n' ' ')"
dmsetup resume stall
write_10 /run/newer 16 || fail "a write after the stall: $(cat "$LAB_LOG/sg_raw.log")"
newest_stays "after a stall"
dd if=/run/newer of=$dir/model bs=4096 seek=2 conv=notrunc status=none

### a disk that keeps the given-up write back until a newer one is through

lun_loopback_device late
keep_writes_back
! write_10 /run/older 16 || fail "a write ended well while it was kept back"
wait_for 5 writes_are_kept_back || fail "the write did not reach the disk"
pass_later_writes
write_newer() { dd if=/run/newer of="$LUN_DEV" bs=4096 seek=2 oflag=direct status=none; }
write_newer &
newer=$!
sleep 1
release_writes
# It waited for the older one, and may have been given up for that on a slow machine.
wait "$newer" || write_newer || write_newer || fail "a write after one that was kept back"
sleep 1
newest_stays "after a write that was kept back and landed late"
echo "ok   a write that was given up and landed late did not land on a newer one"

### in order to the end

! dmesg | grep -E 'BUG:|WARNING:|ring is broken|corrupt' || fail "the kernel complains"
"$CLONECTL" message late enable_hydration
for name in stall late; do "$CLONECTL" wait $name --timeout 120; done
{ lines_delete stall && lines_delete late; } | targetcli_run "$LAB_LOG/delete.log"
began=$(now)
runner_stop 20
stopped=$(since "$began")
cmp -n $((80 * mib)) /dev/mapper/stall $dir/model || fail "seed $seed: the destination is not what was written"
dd if=/run/newer of=$dir/origin bs=4096 seek=2 conv=notrunc status=none
kept_back_disk_stop
cmp -n $((4 * mib)) /run/disk/image $dir/origin || fail "the destination that kept a write back is not what was written"
echo "ok   stopped in $stopped s, both destinations equal their models (seed $seed)"
