#!/bin/bash
# kill -9 of tcmu-runner under load on a half-hydrated clone of a slow NBD origin, twice; an orderly stop
# under load; an admin's clear and restore of the whole target. Nothing the initiator was told is lost,
# and the destination ends as the model says, byte by byte.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$here/../lab/lib.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

# model_io owns the first 48 MiB, fio the next 16, nobody the rest.
readonly mib=1048576
dir=/mnt/clone
seed=${SEED:-$(date +%s)}

load_start() { # SEED SECONDS
  rm -f /run/stop
  "$here/model_io.py" "$LUN_DEV" $dir/model --seed "$1" --until /run/stop --length $((48 * mib)) \
    >"$LAB_LOG/model_io.log" 2>&1 &
  model_io=$!
  fio --name=verify --filename="$LUN_DEV" --offset=48M --size=16M --direct=1 --ioengine=libaio --iodepth=8 \
    --rw=randwrite --bsrange=4k-64k --verify=crc32c --verify_fatal=1 --verify_backlog=64 --loops=1000 \
    --time_based --runtime="$2" --randseed="$1" >"$LAB_LOG/fio.log" 2>&1 &
  fio=$!
}
load_stop() { # AFTER_WHAT
  touch /run/stop
  wait "$model_io" || fail "$1: $(cat "$LAB_LOG/model_io.log")"
  wait "$fio" || fail "$1: fio: $(grep -iE 'verify|error' "$LAB_LOG/fio.log" | head -n 3)"
  echo "ok   $1: $(cat "$LAB_LOG/model_io.log"), fio --verify found nothing; $(clone_percent crash) % hydrated"
}
load_alive() { kill -0 "$model_io" "$fio" 2>/dev/null || fail "the load ended early: $(cat "$LAB_LOG"/{model_io,fio}.log)"; }
half_way() {
  [ "$(clone_status crash .state)" != complete ] || fail "the clone was complete before the test was through"
}
no_connections() { [ "$(nbd_connections 10809)" = 0 ]; }

lab_disk /dev/ubda $dir ext4
head -c 256M /dev/urandom >$dir/origin
cp $dir/origin $dir/model
nbd_start $dir/origin 10809 20 40M
runner_start
lun_create crash 256M "origin=nbd%3A//127.0.0.1/;dest=$dir/dest;meta=$dir/meta"
assert_direct crash $dir/dest

load_start "$seed" 14
wait_for 60 clone_reached crash 4
load_alive
runner_kill
sleep 2
load_alive
runner_start
sleep 3
load_alive
runner_kill
runner_start
wait_for 30 clone_status crash .name
half_way
load_stop "kill -9 twice under load"

load_start $((seed + 1)) 6
sleep 2
load_alive
runner_stop 40
sleep 1
runner_start
wait_for 30 clone_status crash .name
half_way
load_stop "orderly stop and start under load"

before=$(clone_status crash .regions.hydrated)
targetcli saveconfig >"$LAB_LOG/restore.log" 2>&1
targetctl clear >>"$LAB_LOG/restore.log" 2>&1
! lun_exists crash || fail "targetctl clear left the LUN: $(tail -n 3 "$LAB_LOG/restore.log")"
runner_stop 40
runner_start
targetctl restore >>"$LAB_LOG/restore.log" 2>&1 || fail "targetctl restore: $(tail -n 3 "$LAB_LOG/restore.log")"
! grep -i 'cannot set' "$LAB_LOG/restore.log" || fail "the restore could not set an attribute"
lun_loopback_device crash
[ "$(clone_status crash .regions.hydrated)" -ge "$before" ] || fail "the clone forgot what was hydrated"
load_start $((seed + 2)) 4
sleep 1
load_stop "clear, stop, start, restore"

"$CLONECTL" wait crash --timeout 120
wait_for 10 no_connections || fail "the origin is still connected after completion"
lun_delete crash
runner_stop 40
cmp -n $((48 * mib)) $dir/dest $dir/model || fail "seed $seed: the destination is not what was written"
cmp -i $((64 * mib)) $dir/dest $dir/origin || fail "seed $seed: what nobody wrote is not the origin's"
echo "ok   the destination equals the model (seed $seed)"
