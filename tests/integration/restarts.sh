#!/bin/bash
# An orderly stop and start of tcmu-runner under load on a half-hydrated clone of a slow NBD origin; an
# admin's clear and restore of the whole target. Nothing the initiator was told is lost, and the destination
# ends as the model says, byte by byte. (Deaths of the daemon are in kills.sh.)
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$here/../lab/lib.sh"
# shellcheck source-path=SCRIPTDIR source=load.sh
. "$here/load.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

# The load owns the first 64 MiB, nobody the rest.
dir=/mnt/clone
seed=${SEED:-$(date +%s)}

half_way() {
  [ "$(clone_status restarts .state)" != complete ] || fail "the clone was complete before the test was through"
}
no_connections() { [ "$(nbd_connections 10809)" = 0 ]; }

lab_disk /dev/ubda $dir ext4
head -c 256M /dev/urandom >$dir/origin
cp $dir/origin $dir/model
nbd_start $dir/origin 10809 20 40M
runner_start
lun_create restarts 256M "origin=nbd%3A//127.0.0.1/;dest=$dir/dest;meta=$dir/meta"
assert_direct restarts $dir/dest

load_start "$LUN_DEV" $dir/model "$seed"
wait_for 60 clone_reached restarts 4
load_alive
runner_stop 40
sleep 1
runner_start
wait_for 30 clone_status restarts .name
half_way
load_stop "orderly stop and start under load, $(clone_percent restarts) % hydrated"

before=$(clone_status restarts .regions.hydrated)
targetcli saveconfig >"$LAB_LOG/restore.log" 2>&1
targetctl clear >>"$LAB_LOG/restore.log" 2>&1
! lun_exists restarts || fail "targetctl clear left the LUN: $(tail -n 3 "$LAB_LOG/restore.log")"
runner_stop 40
runner_start
targetctl restore >>"$LAB_LOG/restore.log" 2>&1 || fail "targetctl restore: $(tail -n 3 "$LAB_LOG/restore.log")"
! grep -i 'cannot set' "$LAB_LOG/restore.log" || fail "the restore could not set an attribute"
lun_loopback_device restarts
[ "$(clone_status restarts .regions.hydrated)" -ge "$before" ] || fail "the clone forgot what was hydrated"
load_start "$LUN_DEV" $dir/model $((seed + 1))
sleep 1
load_stop "clear, stop, start, restore"

"$CLONECTL" wait restarts --timeout 120
wait_for 10 no_connections || fail "the origin is still connected after completion"
lun_delete restarts
runner_stop 40
cmp -n $((48 * mib)) $dir/dest $dir/model || fail "seed $seed: the destination is not what was written"
cmp -i $((64 * mib)) $dir/dest $dir/origin || fail "seed $seed: what nobody wrote is not the origin's"
echo "ok   the destination equals the model (seed $seed)"
