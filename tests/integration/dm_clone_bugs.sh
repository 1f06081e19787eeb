#!/bin/bash
# What dm-clone does wrong and we must not, each shown on the kernel's dm-clone and on our LUN, one after the
# other. No timing: what has to wait is held in a dm-delay until the test lets it go.
#
#   lost_write      a copy in flight, discard, write, fsync, the copy lands: the flushed write is gone
#   taken_back      the metadata device fails: an acknowledged write reads as the origin again
#   poisoned        one bad sector of the origin fails full overwrites of its neighbours
#   starved         nothing is copied while one single read is under way
set -eu
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$(dirname "$0")/../lab/lib.sh"
# shellcheck source-path=SCRIPTDIR source=beside_dm_clone.sh
. "$(dirname "$0")/beside_dm_clone.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

dir=/mnt/clone
sectors=2048 region=128 # 16 regions of 64 KiB.
bytes=$((8 * region * 512))
modprobe -a dm-clone dm-delay dm-flakey loop
lab_disk /dev/ubda $dir ext4
begun=$(now)

# both NAME DM_FEATURES OUR_KEYS: the two clones, over an origin full of O.
both() {
  dmsetup create slow --table "0 $sectors linear $origin 0"
  both_open "$1" $sectors $region "$2" "hydration=off;copy_on_read=off;init=overwrite;$3"
}
both_gone() { # NAME
  both_close "$1"
  dmsetup remove slow
  both_forget "$1"
}
device_of() { if [ "$1" = dm ]; then echo "/dev/mapper/$2"; else echo "$LUN_DEV"; fi; } # WHICH NAME
put() { dd if=$dir/data of="$1" bs=64k count="$2" seek="${3:-0}" oflag=direct conv="notrunc${4:-}" status=none; } # DEVICE COUNT [FIRST [,fsync]]
shows() { cmp -s -n "$3" <(dd if="$1" bs=64k iflag=direct status=none count=$((($3 + 65535) / 65536))) "$2"; } # DEVICE FILE BYTES
hydrating() { [ "$("${1}_hydrating" "$2")" -ge "$3" ]; } # WHICH NAME NUMBER
idle() { [ "$("${1}_hydrating" "$2")" = 0 ]; }           # WHICH NAME
mode_is() { [ "$("${1}_mode" "$2")" = "$3" ]; }          # WHICH NAME MODE

lost_write() {
  local which device
  both_disks lost $sectors
  both lost "1 no_hydration 4 hydration_threshold 8 hydration_batch_size 1" "hydration_threshold=8;hydration_batch_size=1"
  for which in dm our; do
    device=$(device_of $which lost)
    dm_switch slow "0 $sectors delay $origin 0 600000"
    ${which}_message lost enable_hydration
    wait_for 20 hydrating $which lost 8 || fail "$which: nothing is copied"
    blkdiscard -f -l $bytes "$device" 2>>"$LAB_LOG/blkdiscard.log" # Without -f it reads first.
    put "$device" 8 0 ,fsync
    shows "$device" $dir/data $bytes || fail "$which: something else than what was written, right after fsync"
    hydrating $which lost 8 || fail "$which: the copies did not wait"
    ${which}_message lost disable_hydration
    dm_switch slow "0 $sectors linear $origin 0" # What was delayed goes on.
    wait_for 20 idle $which lost || fail "$which: the copies never land"
    if [ $which = dm ]; then
      shows "$device" $dir/origin $bytes || fail "dm-clone has not lost the write: was it mended?"
    else
      shows "$device" $dir/data $bytes || fail "our LUN has lost a flushed write"
    fi
  done
  both_gone lost
  echo "ok   lost_write: dm-clone shows the origin again, we what was written"
}

taken_back() {
  local which device loop
  both_disks back $sectors
  dm_create dm_meta "0 8192 linear $dm_meta 0"
  our_loop=$(loop_of $dir/back.our 8192)
  dm_create our_meta "0 8192 linear $our_loop 0"
  dmsetup mknodes
  dm_meta_loop=$dm_meta dm_meta=/dev/mapper/dm_meta our_meta=/dev/mapper/our_meta
  both back "1 no_hydration" ""
  for which in dm our; do
    device=$(device_of $which back)
    loop=$dm_meta_loop
    [ $which = dm ] || loop=$our_loop
    dm_switch ${which}_meta "0 8192 flakey $loop 0 0 3600 1 error_writes"
    put "$device" 1
    wait_for 20 mode_is $which back ro || fail "$which: a failed commit is not seen"
    if [ $which = dm ]; then
      shows "$device" $dir/origin 65536 || fail "dm-clone has not taken the write back: was it mended?"
    else
      shows "$device" $dir/data 65536 || fail "our LUN has taken an acknowledged write back"
      if sync "$device" 2>/dev/null; then fail "our LUN says that it is durable"; fi
    fi
    dm_switch ${which}_meta "0 8192 linear $loop 0"
  done
  our_message back clear_needs_check
  sync "$LUN_DEV"
  both_close back
  dmsetup remove slow
  dmsetup remove dm_meta
  dmsetup remove our_meta
  dm_meta=$dm_meta_loop
  losetup -d "$our_loop"
  both_forget back
  echo "ok   taken_back: dm-clone shows the origin again, we what was written, and after the admin's word it is durable"
}

poisoned() {
  local which device bad=$((4 * region)) rest slow
  rest=$((bad + region))
  # The fifth region cannot be read; all of it is late.
  dmsetup create broken --table "0 $bad linear $origin 0
$bad $region error
$rest $((sectors - rest)) linear $origin $rest"
  dmsetup mknodes
  slow="0 $sectors delay /dev/mapper/broken 0"
  both_disks bad $sectors
  both bad "1 no_hydration 4 hydration_threshold 64 hydration_batch_size 16" "hydration_threshold=64;hydration_batch_size=16"
  for which in dm our; do
    device=$(device_of $which bad)
    dm_switch slow "$slow 600000"
    ${which}_message bad enable_hydration
    wait_for 20 hydrating $which bad 1 || fail "$which: nothing is copied"
    put "$device" 1 5 2>"$LAB_LOG/put.$which" &
    writer=$!
    sleep 1
    dm_switch slow "$slow 0"
    if wait $writer; then
      [ $which = our ] || fail "dm-clone overwrites the neighbour of a bad sector: was it mended?"
    else
      [ $which = dm ] || fail "our LUN cannot overwrite the neighbour of a bad sector: $(cat "$LAB_LOG/put.$which")"
    fi
    [ $which = dm ] || wait_for 30 all_but_one bad || fail "our LUN has copied $(our_hydrated bad) regions"
    [ $which = our ] || [ "$(dm_hydrated bad)" = 0/16 ] || fail "dm-clone has copied $(dm_hydrated bad)"
    ${which}_message bad disable_hydration
    wait_for 20 idle $which bad
  done
  both_close bad
  dmsetup remove slow
  dmsetup remove broken
  both_forget bad
  echo "ok   poisoned: dm-clone fails the neighbour's overwrite and copies 0/16, we write it and copy 15/16"
}
all_but_one() { [ "$(our_hydrated "$1")" = 15/16 ]; }

starved() {
  local which device
  both_disks idle $sectors
  both idle "1 no_hydration 4 hydration_threshold 64 hydration_batch_size 1" "hydration_threshold=64;hydration_batch_size=1"
  for which in dm our; do
    device=$(device_of $which idle)
    # The first region waits, all others are there at once.
    dm_switch slow "0 $region delay $origin 0 600000
$region $((sectors - region)) linear $origin $region"
    dd if="$device" of=/dev/null bs=4k count=1 iflag=direct status=none &
    reader=$!
    sleep 1
    ${which}_message idle enable_hydration
    if [ $which = dm ]; then
      sleep 3
      [ "$(dm_hydrated idle)" = 0/16 ] || fail "dm-clone copies while a read is under way: was it mended?"
    else
      wait_for 20 all_but_one idle || fail "our LUN copies nothing while a read is under way: $(our_hydrated idle)"
    fi
    dm_switch slow "0 $sectors linear $origin 0"
    wait $reader
    ${which}_message idle disable_hydration
    wait_for 20 idle $which idle
  done
  both_gone idle
  echo "ok   starved: dm-clone copies 0/16 while one read waits, we copy 15/16"
}

head -c $((sectors * 512)) /dev/zero | tr '\0' O >$dir/origin
head -c $bytes /dev/zero | tr '\0' W >$dir/data
origin=$(losetup --find --show --read-only $dir/origin)
runner_start
lost_write
taken_back
poisoned
starved
runner_stop
echo "took $(since "$begun") s"
