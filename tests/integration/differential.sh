#!/bin/bash
# The kernel's dm-clone as the judge: one seeded stream of requests goes to a dm-clone device and to our LUN, with
# the same origin, and bytes and status lines are compared after every step (differential.py); the two are
# removed and opened again in the middle.
#
# Variables, all optional: SEED repeats a run; STEPS, the requests between two openings (30).
set -eu
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$(dirname "$0")/../lab/lib.sh"
# shellcheck source-path=SCRIPTDIR source=beside_dm_clone.sh
. "$(dirname "$0")/beside_dm_clone.sh"
trap 'fail "line $LINENO: $BASH_COMMAND (SEED=$seed)"' ERR

here=$(dirname "$0")
dir=/mnt/clone
seed=${SEED:-$((RANDOM * 32768 + RANDOM))}
steps=${STEPS:-30}
modprobe -a dm-clone dm-delay loop
lab_disk /dev/ubda $dir ext4
begun=$(now)

# compare NAME SECTORS REGION_SECTORS PASSDOWN
compare() {
  local name=$1 sectors=$2 region=$3 passdown=$4 features="1 no_hydration" keys="hydration=off;copy_on_read=off" life mode=("" --strict --drain)
  [ "$passdown" = on ] || { features="2 no_hydration no_discard_passdown" && keys+=";discard_passdown=off"; }
  keys+=";hydration_threshold=1;hydration_batch_size=1"
  head -c $((sectors * 512)) /dev/urandom >"$dir/$name.origin"
  origin=$(losetup --find --show --read-only "$dir/$name.origin")
  dmsetup create slow --table "0 $sectors delay $origin 0 1"
  both_disks "$name" "$sectors"
  both_open "$name" "$sectors" "$region" "$features" "$keys;init=overwrite"
  for life in 1 2; do
    [ $life = 1 ] || both_open "$name" "$sectors" "$region" "$features" "$keys"
    python3 "$here/differential.py" "$name" --dm "/dev/mapper/$name" --lun "$LUN_DEV" \
      --origin "$dir/$name.origin" --dm-dest "$dm_dest" --lun-dest "$our_dest" --region $((region * 512)) \
      --passdown "$passdown" --clonectl "$CLONECTL" --models "/run/$name.models" \
      --seed $((seed + life)) --steps "$steps" "${mode[$life]}" >"$LAB_LOG/$name.$life"
    echo "$name, life $life: $(cat "$LAB_LOG/$name.$life")"
    both_close "$name"
  done
  dmsetup remove slow
  losetup -d "$origin"
  both_forget "$name"
}

echo "seed $seed, $steps steps a life"
runner_start
compare blocks $((6 * 2048 + 3)) 8 on
compare regions $((8 * 2048 + 11)) 128 off
compare large $((12 * 2048 + 1000)) 2048 on
runner_stop
echo "took $(since "$begun") s"
