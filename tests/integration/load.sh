# shellcheck shell=bash
# Verified load on a LUN: model_io.py on 48 MiB of it, fio --verify on the 16 MiB behind. Sourced after
# lib.sh. What was written by model_io is in the model; fio reads back what it wrote, in rounds.

load_here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
LOAD_PIDS=()
readonly mib=1048576

# load_start DEVICE MODEL SEED [OFFSET_MIB [ARGUMENTS_OF_MODEL_IO...]]
load_start() {
  local device=$1 model=$2 seed=$3 offset=${4:-0}
  shift $(($# < 4 ? $# : 4))
  rm -f /run/stop
  "$load_here/model_io.py" "$device" "$model" --seed "$seed" --until /run/stop --offset $((offset * mib)) \
    --length $((48 * mib)) "$@" >"$LAB_LOG/model_io.log" 2>&1 &
  LOAD_PIDS=($!)
  fio_rounds "$device" $((offset + 48)) "$seed" >"$LAB_LOG/fio_rounds.log" 2>&1 &
  LOAD_PIDS+=($!)
}
fio_rounds() { # DEVICE OFFSET_MIB SEED: a round writes 16 MiB at random and reads them back
  local round=0
  while [ $round = 0 ] || [ ! -e /run/stop ]; do
    fio --name=verify --filename="$1" --offset="${2}M" --size=16M --direct=1 --ioengine=libaio --iodepth=8 \
      --rw=randwrite --bsrange=4k-64k --verify=crc32c --verify_fatal=1 --verify_backlog=64 \
      --randseed=$(($3 + round)) >"$LAB_LOG/fio.log" 2>&1 || return
    round=$((round + 1))
  done
  echo "fio --verify found nothing in $round rounds"
}

load_alive() {
  local pid
  for pid in "${LOAD_PIDS[@]}"; do
    kill -0 "$pid" 2>/dev/null || fail "the load ended early: $(cat "$LAB_LOG"/model_io.log "$LAB_LOG"/fio.log)"
  done
}
# load_stop AFTER_WHAT
load_stop() {
  touch /run/stop
  wait "${LOAD_PIDS[0]}" || fail "$1: $(cat "$LAB_LOG/model_io.log")"
  wait "${LOAD_PIDS[1]}" || fail "$1: fio: $(grep -iE 'verify|error' "$LAB_LOG/fio.log" | head -n 3)"
  echo "ok   $1: $(cat "$LAB_LOG/model_io.log"), $(cat "$LAB_LOG/fio_rounds.log")"
}
