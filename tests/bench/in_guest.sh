#!/bin/bash
# The rows of the table of numbers that need a kernel: ours beside dm-clone, both over one origin 10 ms away, in a
# guest with LIO and tcmu-runner. Prints lines of the table. Not a test. To be run by
#
#   ROUNDS=5 tests/integration/run_in_guest WORK HANDLER_DIR CLONECTL SECONDS tests/bench/in_guest.sh
#
# The guest has one processor, so latencies include the switches between initiator and daemon: compare kinds of
# operation, not machines. Its clock ticks 100 times a second, which makes 20 ms of the delay. dm-clone copies
# `hydration_threshold` regions at a time, 1 by default; "tuned" has 4 MiB of them, a sixteenth in one read.
set -eu -o pipefail
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

# latency DEVICE read|write FIO-OPTION...: the median of 4 KiB operations, one at a time, in microseconds.
latency() {
  fio --name=x --filename="$1" --direct=1 --rw="rand$2" --bs=4k --size=60M "${@:3}" --output-format=json |
    jq ".jobs[0].$2.clat_ns.percentile.\"50.000000\" / 1000"
}
# Reads and writes go to different blocks: what was read may be kept. One that is repeated goes to the same.
read_latency() { latency "$1" read --number_ios=50 --randseed=7; }
write_latency() { latency "$1" write --number_ios="$2" --randseed="${3:-11}"; } # DEVICE COUNT [SEED]

note() { # ARM NUMBER
  [[ $2 =~ ^[0-9.e+]+$ ]] || fail "$1: no number: '$2'"
  echo "$2" >>"$results/$1"
}
median() { sort -g "$results/$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
line() { # WHAT OURS THEIRS UNIT: the ratio is ours : theirs.
  awk -v what="$1" -v a="$(median "$2")" -v b="$(median "$3")" -v unit="$4" \
    'BEGIN { printf "| %s | %.4g %s | %.4g %s | %.3g |\n", what, a, unit, b, unit, a / b }'
}

device() { [ "$1" = our ] && echo "$LUN_DEV" || echo "/dev/mapper/$name"; } # WHICH
regions() { "$1_hydrated" "$name" | cut -d/ -f1; }                          # WHICH: how many are done.
complete() { [ "$(regions "$1")" = $((sectors / region)) ]; }
# rate_while WHICH COMMAND...: what it hydrates meanwhile, in MiB a second.
rate_while() {
  local begin before
  begin=$(now) before=$(regions "$1")
  "${@:2}" >&2
  awk -v bytes=$((($(regions "$1") - before) * region * 512)) -v begin="$begin" -v end="$(now)" \
    'BEGIN { print bytes / 1048576 / (end - begin) }'
}
hydrate() { wait_for $cap complete "$1" 2>/dev/null || true; }
dm_tune() {
  dm_message "$name" hydration_threshold $((8192 / region))
  dm_message "$name" hydration_batch_size $((512 / region))
}

region=0 # In sectors.
# clones NAME REGION: both of that name; no LUN's name comes again, since it is known when it is gone.
clones() {
  name=$1 region=$2
  both_disks "$name" $sectors
  both_open "$name" $sectors "$region" "1 no_hydration" "hydration=off;init=overwrite"
}
end_clones() {
  both_close "$name"
  both_forget "$name"
}

write_both() { # WHICH: absent blocks, and the same again, which are hydrated then.
  write_latency "$(device "$1")" 200 3 >&2 # So that the first that counts finds all awake.
  note "$1.absent" "$(write_latency "$(device "$1")" 500)"
  note "$1.hydrated" "$(write_latency "$(device "$1")" 500)"
}

small_regions() { # WHICH...: the order.
  note bare.read "$(read_latency /dev/mapper/slow)"
  for which in "$@"; do note "$which".read "$(read_latency "$(device "$which")")"; done
  for which in "$@"; do write_both "$which"; done
  for which in "$@"; do
    "${which}_message" "$name" enable_hydration
    note "$which".hydration "$(rate_while "$which" hydrate "$which")"
    "${which}_message" "$name" disable_hydration
  done
  dm_tune
  dm_message "$name" enable_hydration
  note tuned.hydration "$(rate_while dm hydrate dm)"
}

large_regions() { # WHICH...
  for which in "$@"; do note "$which".part "$(write_latency "$(device "$which")" 50)"; done
}

for ((round = 0; round < rounds; round++)); do
  order=(our dm)
  ((round % 2 == 0)) || order=(dm our)
  clones small$round 8
  small_regions "${order[@]}"
  end_clones
  clones large$round 128
  large_regions "${order[@]}"
  end_clones
done
echo "| what, in the guest | ours | theirs | ratio |"
echo "|---|---|---|---|"
line "4 KiB absent read : bare origin, 10 ms" our.read bare.read us
line "4 KiB absent read : dm-clone" our.read dm.read us
line "4 KiB absent write : our hydrated write" our.absent our.hydrated us
line "dm-clone, region 4 KiB: 4 KiB absent write : its hydrated write" dm.absent dm.hydrated us
line "4 KiB absent write : dm-clone, region 4 KiB" our.absent dm.absent us
line "4 KiB absent write : dm-clone, region 64 KiB" our.part dm.part us
line "hydration : dm-clone, region 4 KiB, as it comes" our.hydration dm.hydration MiB/s
line "hydration : dm-clone, region 4 KiB, tuned" our.hydration tuned.hydration MiB/s
