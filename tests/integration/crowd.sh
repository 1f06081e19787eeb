#!/bin/bash
# Sixty-four clones of one golden image in one daemon: what each costs in threads, memory and descriptors; all
# are written and verified at once, and none is taken for another. Then LUNs come and go while others carry
# verified I/O, and nothing of those that went is left.
#
# LUNS=64 and ROUNDS=5 in the environment: how many, and how often four more are made and removed.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$here/../lab/lib.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

readonly luns=${LUNS:-64} rounds=${ROUNDS:-5} mib=1048576 loaded='m01 m02 m03 m04'
readonly size=$((4 * mib))
seed=${SEED:-$(date +%s)}
dir=/mnt/clone
names=$(printf 'm%02d ' $(seq "$luns"))
declare -A device

is_loaded() { [[ " $loaded " = *" $1 "* ]]; }
make_luns() { # NAME...
  local name live
  for name; do
    live=on
    ! is_loaded "$name" || live=off
    : >"$dir/$name.model" # Holds no more than the name, unless it gets load.
    echo "$name $size origin=$dir/golden;dest=$dir/$name.dest;meta=$dir/$name.meta;hydration=$live;copy_on_read=off"
  done | "$here/../lab/luns" make >/run/made
  while read -r name LUN_DEV; do device[$name]=$LUN_DEV; done </run/made
}
remove_luns() { printf '%s\n' "$@" | "$here/../lab/luns" remove; }
names_are() { # name|check NAMES
  local name
  for name in $2; do echo "$name ${device[$name]}"; done | "$here/many_luns.py" "$1" $dir "$2"
}
in_state() { [ "$("$CLONECTL" list --json | jq "[.[] | select($1)] | length")" = "$luns" ]; }
# figures: threads, those of io_uring's own, descriptors, KiB of memory, files of live maps.
figures() {
  local process=/proc/$RUNNER_PID
  cat "$process"/task/*/comm | awk '{ /^iou-/ ? iou++ : own++ } END { printf "%d %d ", own, iou }'
  find "$process/fd" -type l | wc -l
  awk '$1 == "VmRSS:" { print $2 }' "$process/status"
  find /run/tcmu-clone -type f | wc -l
}
per_lun() { # BEFORE AFTER: of all LUNs
  awk -v n="$luns" '{ printf "%.2f threads, %.2f workers of io_uring, %.2f descriptors, %.0f KiB\n",
    ($6 - $1) / n, ($7 - $2) / n, ($8 - $3) / n, ($9 - $4) / n }' <<<"$1 $2"
}

lab_disk /dev/ubda $dir ext4
head -c $size /dev/urandom >$dir/golden
runner_start
empty=$(figures | xargs)
began=$(now)
# shellcheck disable=SC2086  # Names without blanks.
make_luns $names
in_state '.mode == "rw"' || fail "not $luns LUNs that work: $("$CLONECTL" list)"
names_are name "$names"
idle=$(figures | xargs)
echo "ok   $luns LUNs made in $(since "$began") s; each costs $(per_lun "$empty" "$idle")"

began=$(now)
for name in $names; do printf '[%s]\nfilename=%s\n' "$name" "${device[$name]}"; done >/run/jobs
fio --thread --direct=1 --ioengine=libaio --iodepth=4 --offset=1M --size=512K --rw=randwrite --bsrange=4k-16k \
  --verify=crc32c --verify_fatal=1 --randseed="$seed" --group_reporting /run/jobs >"$LAB_LOG/fio.log" 2>&1 ||
  fail "fio on all of them, seed $seed: $(grep -iE 'verify|error' "$LAB_LOG/fio.log" | head -n 3)"
names_are check "$names" || fail "after fio on all of them, seed $seed"
# A clone that becomes complete gives up its origin's descriptor: not between two looks.
rest_complete() { [ "$("$CLONECTL" list --json | jq '[.[] | select(.state == "complete")] | length')" = $((luns - 4)) ]; }
wait_for 120 rest_complete || fail "not all but the loaded ones are complete: $("$CLONECTL" list)"
busy=$(figures | xargs)
echo "ok   all $luns written and verified at once in $(since "$began") s; each costs $(per_lun "$empty" "$busy")"
# A reactor and two completers of ours, and tcmu-runner's thread that takes commands from the ring.
awk -v n="$luns" '{ exit !($6 - $1 <= 4 * n) }' <<<"$empty $busy" || fail "over 4 threads each: $empty, then $busy"
awk -v n="$luns" '{ exit !(($9 - $4) / n < 8192) }' <<<"$empty $busy" || fail "over 8 MiB each: $empty, then $busy"

pids=()
for name in $loaded; do
  dd if="${device[$name]}" of="$dir/$name.model" bs=1M iflag=direct status=none
  "$here/model_io.py" "${device[$name]}" "$dir/$name.model" --seed "$seed" --until /run/stop --offset $((2 * mib)) \
    --threads 1 >"$LAB_LOG/model_io-$name.log" 2>&1 &
  pids+=($!)
done
load_alive() { kill -0 "${pids[@]}" 2>/dev/null || fail "the load ended early: $(cat "$LAB_LOG"/model_io-*.log)"; }
began=$(now)
for ((round = 1; round <= rounds; round++)); do
  fresh=$(printf "r$round%s " a b c d)
  # shellcheck disable=SC2086
  make_luns $fresh
  { names_are name "$fresh" && names_are check "$fresh"; } || fail "round $round, seed $seed"
  # shellcheck disable=SC2046
  remove_luns $(shuf -e --random-source=<(yes "$seed $round") $fresh)
  load_alive
done
in_state '.mode == "rw"' || fail "not $luns LUNs that work: $("$CLONECTL" list)"
names_are check "$names" || fail "after LUNs came and went, seed $seed"
touch /run/stop
for pid in "${pids[@]}"; do wait "$pid" || fail "$(cat "$LAB_LOG"/model_io-*.log)"; done
commands=$(awk '{ n += $1 } END { print n }' "$LAB_LOG"/model_io-*.log)
after=$(figures | xargs)
echo "ok   $((4 * rounds)) LUNs came and went in $(since "$began") s while 4 others did $commands commands, seed $seed"
# A thread of GLib's pool that is there at first may have ended.
awk '{ exit !($1 >= $6 && $3 == $8 && $5 == $10) }' <<<"$busy $after" ||
  fail "something of them is left: threads, workers, descriptors, KiB, live maps: $busy, then $after"
echo "ok   none of their threads, descriptors and live maps is left"

for name in $loaded; do "$CLONECTL" message "$name" enable_hydration; done
wait_for 120 in_state '.state == "complete"' || fail "not complete: $("$CLONECTL" list)"
# shellcheck disable=SC2086
remove_luns $names
runner_stop 60
for name in $names; do
  image=$dir/golden
  ! is_loaded "$name" || image=$dir/$name.model
  cmp -n 4096 "$dir/$name.dest" "$image" && cmp -i 8192 -n $((mib - 8192)) "$dir/$name.dest" "$image" &&
    cmp -i $((mib * 3 / 2)) "$dir/$name.dest" "$image" ||
    fail "seed $seed: the destination of $name is not what was written"
done
echo "ok   $luns destinations are what was written over the image"
