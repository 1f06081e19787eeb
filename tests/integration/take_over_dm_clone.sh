#!/bin/bash
# A site moves from the kernel's dm-clone to us: a dm-clone device with a slow origin is written, discarded
# and hydrated in part, suspended and removed; its own metadata device becomes ours; and the LUN on the same
# destination shows exactly the bytes that dm-clone showed, before and after the rest is copied.
set -eu
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$(dirname "$0")/../lab/lib.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

dir=/mnt/clone
modprobe -a dm-clone dm-delay loop
lab_disk /dev/ubda $dir ext4
begun=$(now)

# loop_of FILE SECTORS: a fresh disk of that size in a file; prints the device.
loop_of() {
  truncate -s $(($2 * 512)) "$1"
  losetup --find --show "$1"
}
sum_of() { dd if="$1" bs=64k count=$(($2 * 512)) iflag=count_bytes,direct status=none | sha256sum; }
dm_hydrated() { dmsetup status "$1" | awk '{ split($7, done, "/"); print done[1] }'; }
dm_reached() { [ "$(dm_hydrated "$1")" -ge "$2" ]; }
random_below() { echo $(((RANDOM * 32768 + RANDOM) % $1)); }

# use_for_a_while DEVICE SECTORS: writes of all sizes and places, whole regions and not, and discards.
use_for_a_while() {
  local i count
  for i in $(seq 60); do
    count=$((1 + $(random_below 40)))
    dd if=/dev/urandom of="$1" bs=512 seek="$(random_below $(($2 - count)))" count=$count \
      oflag=direct conv=notrunc status=none
  done
  for i in $(seq 8); do
    blkdiscard -o $((512 * 8 * $(random_below $(($2 / 8 - 512))))) -l $((4096 * (1 + i * 37))) "$1"
  done
  sync "$1"
}

# take_over NAME SECTORS REGION_SECTORS
take_over() {
  local name=$1 sectors=$2 region=$3 origin dest meta regions before hydrated
  regions=$(((sectors + region - 1) / region))
  head -c $((sectors * 512)) /dev/urandom >"$dir/$name.origin"
  origin=$(losetup --find --show --read-only "$dir/$name.origin")
  dest=$(loop_of "$dir/$name.img" "$sectors")
  meta=$(loop_of "$dir/$name.dm" 8192)
  dmsetup create slow --table "0 $sectors delay $origin 0 3"
  dmsetup create "$name" --table "0 $sectors clone $meta $dest /dev/mapper/slow $region 1 no_hydration"
  dmsetup mknodes

  RANDOM=$sectors
  use_for_a_while "/dev/mapper/$name" "$sectors"
  dmsetup message "$name" 0 enable_hydration
  dmsetup message "$name" 0 hydration_batch_size $((512 / region))
  wait_for 60 dm_reached "$name" $((regions / 3)) || fail "dm-clone does not hydrate"
  dmsetup message "$name" 0 disable_hydration
  use_for_a_while "/dev/mapper/$name" "$sectors"
  before=$(sum_of "/dev/mapper/$name" "$sectors")
  if "$CLONECTL" restore --from-dm-clone "$meta" --name "$name" --origin "$origin" --dest "$dest" \
    "$dir/$name.meta" 2>"$LAB_LOG/$name.busy"; then
    fail "metadata that the kernel has in use were read"
  fi
  [ ! -e "$dir/$name.meta" ] || fail "a refused restore left $dir/$name.meta behind"

  dmsetup suspend "$name"
  hydrated=$(dm_hydrated "$name")
  ((hydrated > 0 && hydrated < regions)) || fail "$hydrated of $regions regions are hydrated"
  dmsetup remove "$name"
  dmsetup remove slow
  must_refuse_damage "$name" "$meta" "$origin" "$dest"
  "$CLONECTL" restore --from-dm-clone "$meta" --name "$name" --origin "$origin" --dest "$dest" "$dir/$name.meta"
  "$CLONECTL" check "$dir/$name.meta" --origin "$origin" --dest "$dest" >"$LAB_LOG/$name.check"

  lun_create "$name" $((sectors * 512)) \
    "origin=$origin;dest=$dest;meta=$dir/$name.meta;region_size=$((region * 512));hydration=off;copy_on_read=off"
  [ "$(clone_status "$name" .regions.hydrated)" = "$hydrated" ] ||
    fail "dm-clone had $hydrated regions, we have $(clone_status "$name" .regions.hydrated)"
  [ "$(sum_of "$LUN_DEV" "$sectors")" = "$before" ] || fail "$name: other bytes than dm-clone's"
  "$CLONECTL" message "$name" enable_hydration
  "$CLONECTL" wait "$name" --timeout 60
  [ "$(sum_of "$LUN_DEV" "$sectors")" = "$before" ] || fail "$name: other bytes after hydration"
  lun_delete "$name"
  [ "$(sum_of "$dest" "$sectors")" = "$before" ] || fail "$name: the image has other bytes"
  losetup -d "$origin" "$dest" "$meta"
  echo "$name: $hydrated of $regions regions of $((region / 2)) KiB taken over, all bytes the same"
}

# number FILE OFFSET BYTES: a little endian number there.
number() { od -An -t "u$3" -j "$2" -N "$3" "$1" | tr -d ' '; }

# A byte changed in any kind of block, or something else: refused with 3, and nothing is written.
must_refuse_damage() { # NAME META ORIGIN DEST
  local root most array offset status
  root=$(($(number "$2" 188 8) * 4096))
  most=$(number "$2" $((root + 20)) 4)
  array=$(($(number "$2" $((root + 32 + most * 8)) 8) * 4096))
  for offset in 100 $((root + 40)) $((array + 30)) 32; do
    dd if="$2" of="$dir/bad.dm" bs=1M status=none
    printf '\xa5' | dd of="$dir/bad.dm" bs=1 seek=$offset conv=notrunc status=none
    status=0
    "$CLONECTL" restore --from-dm-clone "$dir/bad.dm" --name "$1" --origin "$3" --dest "$4" "$dir/bad.meta" \
      2>"$LAB_LOG/$1.damage" || status=$?
    [ "$status" = 3 ] || fail "damage at byte $offset ends with $status: $(cat "$LAB_LOG/$1.damage")"
    [ ! -e "$dir/bad.meta" ] || fail "a refused restore left $dir/bad.meta behind"
  done
}

runner_start
take_over small $((32 * 2048)) 8
take_over odd $((48 * 2048 + 24)) 128
runner_stop
echo "took $(since "$begun") s"
