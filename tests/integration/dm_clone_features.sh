#!/bin/bash
# What dm-clone does and an operator sees, on a real LUN, where no other test looks: small writes into regions of
# every size, settings changed while in use, what a discard gives back, a whole terabyte discarded, stopping,
# backing up and starting again in the middle of the copy, and a destination that is larger than the LUN.
set -eu
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$(dirname "$0")/../lab/lib.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

dir=/mnt/clone
mib=$((1 << 20))
modprobe -a dm-delay loop
lab_disk /dev/ubda $dir xfs
begun=$(now)

place() { echo "dest=$dir/$1.img;meta=$dir/$1.meta;copy_on_read=off"; } # NAME
discard() { blkdiscard -f "$@" 2>>"$LAB_LOG/blkdiscard.log"; } # Without -f it reads first.
forget() { rm -rf "$dir/$1".* "/var/lib/tcmu-clone/known/$1"*; } # NAME
less_than() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a < b) }'; }
show() { dd if="$LUN_DEV" bs=64k iflag=direct status=none; }
is_zero() { cmp -s -n "$2" <(dd if="$LUN_DEV" bs=4096 skip=$(($1 / 4096)) iflag=direct status=none) /dev/zero; } # OFFSET BYTES

# slow_origin FILE: /dev/mapper/slow reads it, at once until slow_down MS.
slow_origin() {
  origin=$(losetup --find --show --read-only "$1")
  sectors=$(blockdev --getsz "$origin")
  dmsetup create slow --table "0 $sectors linear $origin 0"
  dmsetup mknodes
}
slow_down() { dm_switch slow "0 $sectors delay $origin 0 $1"; }
speed_up() { dm_switch slow "0 $sectors linear $origin 0"; } # What was delayed goes on at once.
slow_forget() {
  dmsetup remove slow
  losetup -d "$origin"
}

### an aligned 4 KiB write into a region of any size, while the origin hangs and copies wait for it

small_writes() {
  local region took
  slow_origin $dir/large
  for region in 4k 1m 1g; do
    lun_create_fast small $((2048 * mib)) "origin=/dev/mapper/slow;$(place small);region_size=$region;hydration=off"
    slow_down 600000
    "$CLONECTL" message small enable_hydration
    started=$(now)
    dd if=/run/block of="$LUN_DEV" bs=4096 seek=262147 oflag=direct conv=notrunc,fsync status=none
    took=$(since "$started")
    less_than "$took" 3 || fail "a small write into a region of $region took $took s"
    cmp <(dd if="$LUN_DEV" bs=4096 skip=262147 count=1 iflag=direct status=none) /run/block
    [ "$(clone_status small .blocks.destination)" = 1 ] || fail "$region: more than one block was copied"
    "$CLONECTL" message small disable_hydration
    speed_up
    lun_delete_fast small
    forget small
    echo "     regions of $region: $took s"
  done
  slow_forget
}

### settings changed with targetcli while the LUN is in use

reconfigured() {
  local config backstore=/backstores/user:clone/live
  config="origin=$dir/origin;$(place live)"
  lun_create_fast live $((24 * mib)) "$config;hydration=off"
  {
    echo "$backstore set attribute dev_config=clone/$config;hydration=off"
    echo "$backstore set attribute dev_config=clone/$config;hydration=off;hydration_threshold=7;hydration_batch_size=3"
    echo "$backstore set attribute emulate_write_cache=0"
    echo "$backstore set attribute dev_config=clone/$config;hydration=off;region_size=1m"
  } | targetcli_run "$LAB_LOG/live.log"
  [ "$(clone_status live '[.hydration.threshold, .hydration.batch] | @text')" = "[7,3]" ] ||
    fail "live keys do not apply: $(cat "$LAB_LOG/live.log")"
  [ "$(clone_status live '.write_cache')" = true ] || fail "emulate_write_cache=0 has changed what is durable"
  grep -q "region_size: cannot change while the LUN exists" "$LAB_LOG/tcmu-runner.log" ||
    fail "a static key was not refused with a reason: $(cat "$LAB_LOG/live.log")"
  [ "$(clone_status live .region_bytes)" = 4096 ] || fail "a static key was changed"
  "$CLONECTL" set live hydration=on
  "$CLONECTL" wait live --timeout 60
  lun_delete_fast live
  forget live
}

### what a discard gives back, and the short last region

kilobytes() { du -k "$dir/$1.img" | cut -f 1; } # NAME
discards() {
  local passdown before size=$((24 * mib + 1536))
  for passdown in on off; do
    lun_create_fast space $size "origin=$dir/origin;$(place space);region_size=64k;hydration=off;discard_passdown=$passdown"
    dd if=/dev/urandom of="$LUN_DEV" bs=1M count=8 oflag=direct conv=notrunc,fsync status=none
    before=$(kilobytes space)
    discard -l $((6 * mib)) "$LUN_DEV"
    if [ $passdown = on ]; then
      [ "$(kilobytes space)" -le $((before - 6000)) ] || fail "nothing was given back"
    else
      [ "$(kilobytes space)" -ge "$before" ] || fail "space was given back although passdown is off"
    fi
    is_zero 0 $((6 * mib)) || fail "passdown $passdown: a discarded range is not zero"
    before=$(clone_status space .regions.hydrated)
    discard -o $((24 * mib)) -l 1536 "$LUN_DEV"
    [ "$(clone_status space .regions.hydrated)" = $((before + 1)) ] || fail "the short last region was not discarded"
    is_zero $((24 * mib)) 1536 || fail "the short last region is not zero"
    [ "$(clone_status space .origin.bytes_read)" -lt $mib ] || fail "a discard has read the origin"
    lun_delete_fast space
    forget space
  done
}

unmaps() { awk '{ print $12 }' "/sys/block/${LUN_DEV#/dev/}/stat"; }
terabyte() {
  local read took before
  truncate -s 1T $dir/tera.origin
  lun_create_fast tera $((1 << 40)) "origin=$dir/tera.origin;$(place tera);hydration=off"
  read=$(clone_status tera .origin.bytes_read)
  before=$(unmaps)
  took=$(python3 - "$LUN_DEV" <<'END'
import fcntl, os, struct, sys, time
lun = os.open(sys.argv[1], os.O_RDWR)
began = time.monotonic()
fcntl.ioctl(lun, 0x1277, struct.pack("QQ", 0, 1 << 40))  # BLKDISCARD
print(f"{time.monotonic() - began:.3f}")
END
  )
  less_than "$took" 1 || fail "discarding a terabyte took $took s"
  [ "$(clone_status tera .blocks.zero)" = $((1 << 28)) ] || fail "not all of it is zero"
  [ "$(clone_status tera .origin.bytes_read)" = "$read" ] || fail "the origin was read"
  sync "$LUN_DEV"
  [ "$(clone_status tera .metadata.used_units)" -lt 8 ] || fail "uniform states take space in the metadata"
  echo "     1 TiB in $took s, $(($(unmaps) - before)) UNMAPs"
  lun_delete_fast tera
  forget tera
}

### stop the target in the middle of the copy, back up, start again; then go back to the backup

both_parts() { cat $dir/stop.img $dir/stop.meta | sha256sum; }
stop_and_start() {
  local config hydrated parts known
  slow_origin $dir/origin
  config="origin=/dev/mapper/slow;$(place stop)"
  lun_create_fast stop $((24 * mib)) "$config;hydration=off"
  slow_down 500
  dd if=/run/block of="$LUN_DEV" bs=4096 seek=5000 oflag=direct conv=notrunc status=none
  "$CLONECTL" message stop hydration_threshold 256
  "$CLONECTL" message stop enable_hydration
  wait_for 30 clone_reached stop 10
  slow_down 3000
  lun_delete_fast stop # Copies are in flight.
  speed_up
  parts=$(both_parts)
  "$CLONECTL" check $dir/stop.meta --dest $dir/stop.img >"$LAB_LOG/stop.check"
  sleep 1
  [ "$(both_parts)" = "$parts" ] || fail "something still writes after the LUN was removed"
  cp $dir/stop.img $dir/stop.backup.img
  cp $dir/stop.meta $dir/stop.backup.meta

  lun_create_fast stop $((24 * mib)) "$config;hydration=off"
  hydrated=$(clone_status stop .regions.hydrated)
  ((hydrated >= 600 && hydrated < 6144)) || fail "$hydrated regions are hydrated, of 6144"
  same_as_expected "started again"
  "$CLONECTL" message stop enable_hydration
  "$CLONECTL" wait stop --timeout 60
  same_as_expected "complete"
  lun_delete_fast stop

  cat $dir/stop.backup.img >$dir/stop.img
  cat $dir/stop.backup.meta >$dir/stop.meta
  if lun_create_fast stop $((24 * mib)) "$config;hydration=off" 2>>"$LAB_LOG/refused"; then fail "an old copy of the metadata was taken"; fi
  rmdir $lab_configfs/core/user_0/stop
  known=$("$CLONECTL" list --json | jq -rM '.[] | select(.name == "stop") | .reason' | grep -o '/[^ ]*/known/[^ ]*$')
  rm "$known" # As the sentence says, since destination and metadata were restored together.
  lun_create_fast stop $((24 * mib)) "$config;hydration=off"
  [ "$(clone_status stop .regions.hydrated)" = "$hydrated" ] || fail "the backup knows of another number of regions"
  same_as_expected "gone back to the backup"
  lun_delete_fast stop
  slow_forget
  forget stop
  echo "     stopped, backed up, started and taken back at $hydrated of 6144 regions"
}
same_as_expected() { cmp -s <(show) $dir/expected || fail "the LUN shows something else: $1"; }

### a destination that is larger than the LUN

larger_destination() {
  local device
  head -c $((25 * mib)) /dev/urandom >$dir/larger.dev
  tail -c $mib $dir/larger.dev >$dir/larger.rest
  device=$(losetup --find --show $dir/larger.dev)
  lun_create_fast larger $((24 * mib)) "origin=$dir/large;dest=$device;meta=$dir/larger.meta;init=overwrite"
  "$CLONECTL" wait larger --timeout 60
  discard "$LUN_DEV"
  lun_delete_fast larger
  cmp -n $((24 * mib)) "$device" /dev/zero
  cmp <(tail -c $mib "$device") $dir/larger.rest || fail "bytes behind the end of the LUN were changed"
  losetup -d "$device"
  forget larger
}

head -c $((24 * mib)) /dev/urandom >$dir/origin
head -c 4096 /dev/urandom >/run/block
cp $dir/origin $dir/expected
dd if=/run/block of=$dir/expected bs=4096 seek=5000 conv=notrunc status=none
truncate -s 2G $dir/large
printf data | dd of=$dir/large bs=1 seek=$((1536 * mib)) conv=notrunc status=none
runner_start
for feature in small_writes reconfigured discards terabyte stop_and_start larger_destination; do
  started=$(now)
  $feature
  echo "ok   $feature"
done
runner_stop
echo "took $(since "$begun") s"
