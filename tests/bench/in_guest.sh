#!/bin/bash
# The rows of the table of numbers that need a kernel: ours beside dm-clone, both over one origin 10 ms away, in a
# guest with LIO and tcmu-runner. Prints lines of the table. Not a test. To be run by
#
#   ROUNDS=5 tests/integration/run_in_guest WORK HANDLER_DIR CLONECTL SECONDS tests/bench/in_guest.sh
#
# The guest has one processor, so latencies include the switches between initiator and daemon: compare kinds of
# operation, not machines. dm-clone copies `hydration_threshold` regions of 4 KiB at a time: 1 by default.
set -eu
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$(dirname "$0")/../lab/lib.sh"
# shellcheck source-path=SCRIPTDIR source=../integration/beside_dm_clone.sh
. "$(dirname "$0")/../integration/beside_dm_clone.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

dir=/mnt/clone
rounds=${ROUNDS:-5}
sectors=131072 # 64 MiB.
cap=5          # Seconds after which a slow hydration is judged by what it has done.
results=/run/results
mkdir $results
modprobe -a dm-clone dm-delay loop
lab_disk /dev/ubda $dir ext4
head -c $((sectors * 512)) /dev/urandom >$dir/origin
origin=$(losetup --find --show --read-only $dir/origin)
dmsetup create slow --table "0 $sectors delay $origin 0 10"
runner_start

# latency DEVICE read|write COUNT: the median of 4 KiB operations, one at a time, in microseconds. Reads and
# writes go to different blocks: what was read may be kept.
latency() {
  local seed=7
  [ "$2" = read ] || seed=11
  fio --name=x --filename="$1" --direct=1 --rw="rand$2" --bs=4k --number_ios="$3" --size=60M --randseed=$seed \
    --output-format=json | jq ".jobs[0].$2.clat_ns.percentile.\"50.000000\" / 1000"
}
note() { echo "$2" >>"$results/$1"; } # ARM NUMBER
median() { sort -g "$results/$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
line() { # WHAT OURS THEIRS UNIT HOW: the ratio is ours : theirs.
  awk -v what="$1" -v a="$(median "$2")" -v b="$(median "$3")" -v unit="$4" \
    'BEGIN { printf "| %s | %.4g %s | %.4g %s | %.3g |\n", what, a, unit, b, unit, a / b }'
}

# hydration_rate WHICH: MiB a second until it is done, or in $cap seconds.
hydration_rate() {
  local begin before
  begin=$(now) before=$(regions "$1")
  "$1_message" bench enable_hydration
  wait_for $cap complete "$1" 2>/dev/null || true
  awk -v regions=$(($(regions "$1") - before)) -v begin="$begin" -v end="$(now)" \
    'BEGIN { print regions * 4096 / 1048576 / (end - begin) }'
}
regions() { "$1_hydrated" bench | cut -d/ -f1; } # WHICH: how many are done.
complete() { [ "$("$1_hydrated" bench)" = $((sectors / 8))/$((sectors / 8)) ]; }

for ((round = 0; round < rounds; round++)); do
  both_disks bench $sectors
  both_open bench $sectors 8 "1 no_hydration" "hydration=off;init=overwrite"
  note bare.read "$(latency /dev/mapper/slow read 50)"
  note our.read "$(latency "$LUN_DEV" read 50)"
  note dm.read "$(latency /dev/mapper/bench read 50)"
  note our.write "$(latency "$LUN_DEV" write 500)"
  note dm.write "$(latency /dev/mapper/bench write 500)"
  note our.hydration "$(hydration_rate our)"
  note dm.hydration "$(hydration_rate dm)"
  both_close bench
  both_forget bench
done
echo "| what, in the guest | ours | theirs | ratio |"
echo "|---|---|---|---|"
line "4 KiB absent read : bare origin, 10 ms" our.read bare.read us
line "4 KiB absent read : dm-clone" our.read dm.read us
line "4 KiB write to an absent block : dm-clone, region 4 KiB" our.write dm.write us
line "hydration : dm-clone as it comes" our.hydration dm.hydration MiB/s
