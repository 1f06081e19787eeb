#!/bin/bash
# The origin stops answering (SIGSTOP), then dies (SIGKILL), while hydration reads from it: everything that
# does not need it goes on at full speed, LUNs are removed, the daemon stops and starts within seconds, a
# LUN is opened without it, and all goes on when it is back.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$here/../lab/lib.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

dir=/mnt/clone
origin_start() { nbd_start $dir/origin 10809 0 16M; }
origin_signal() { kill "-$1" "$(pgrep -P "$NBDKIT_PID" -x nbdkit)"; }
# What the machine at hand takes while all is well comes first: a busy one is no fault of ours.
within() { # SECONDS START WHAT
  local took
  took=$(since "$2")
  awk -v t="$took" -v most="$1" 'BEGIN { exit !(t <= most) }' || fail "$3 took $took s, not $1 at most"
  echo "ok   $3: $took s"
}
more_than() { awk -v usual="$1" -v more="$2" 'BEGIN { print 3 * usual + more }'; } # SECONDS SECONDS

# Everything on what is there, aligned writes of what is not, flushes.
use_the_rest() {
  "$here/model_io.py" "$LUN_DEV" $dir/model --seed $place --until / --length $((4 << 20)) --threads 1 >"$LAB_LOG/model_io.log" 2>&1 ||
    fail "what needs no origin: $(cat "$LAB_LOG/model_io.log")"
  head -c 256k /dev/urandom >/run/blocks
  dd if=/run/blocks of="$LUN_DEV" bs=4096 seek=$place oflag=direct conv=fsync status=none
  dd if=/run/blocks of=$dir/model bs=4096 seek=$place conv=notrunc status=none
  place=$((place + 64))
}
the_rest_works() { # WHEN
  local began
  began=$(now)
  use_the_rest
  within "$(more_than "$usual_use" 3)" "$began" "$1: 50 commands on what is there, 64 aligned writes and a flush on what is not"
}
# Only the last step of a removal waits for the daemon; targetcli's own seconds do not count.
unexport() { echo "/loopback delete $(lun_wwn "$1")" | targetcli_run "$LAB_LOG/delete-$1.log"; } # NAME
remove() { rmdir "$lab_configfs"/core/user_*/"$1"; }                                            # NAME
remove_without_origin() { # NAME WHEN
  local began
  began=$(now)
  remove "$1"
  within "$(more_than "$usual_removal" 3)" "$began" "$2: a LUN removed"
}
stop_and_start() { # WHEN LUNS
  local began
  began=$(now)
  runner_stop 60
  within "$(more_than "$usual_stop" $((3 * $2)))" "$began" "$1: daemon with $2 LUNs stopped"
  began=$(now)
  runner_start 60
  wait_for 20 clone_status d1 .name
  within "$(more_than "$usual_start" $((3 * $2)))" "$began" "$1: daemon started, LUNs opened without their origin"
}
origin_is() { [ "$(clone_status d1 .origin.state)" = "$1" ]; }

lab_disk /dev/ubda $dir ext4
head -c 64M /dev/urandom >$dir/origin
cp $dir/origin $dir/model
origin_start
runner_start
for name in d0 d1 d2 d3; do
  lines_create $name 64M "origin=nbd%3A//127.0.0.1/;dest=$dir/$name.dest;meta=$dir/$name.meta;origin_timeout=29s;hydration_threshold=128"
  lines_loopback $name
done | targetcli_run "$LAB_LOG/create.log"
lun_loopback_device d1
dd if=/dev/urandom of=/run/start bs=1M count=4 status=none
dd if=/run/start of="$LUN_DEV" bs=1M oflag=direct conv=fsync status=none
dd if=/run/start of=$dir/model bs=1M conv=notrunc status=none
place=$((32 * 256)) # Far from where hydration is.
[ "$(clone_status d1 .state)" = hydrating ]

### all is well

began=$(now)
use_the_rest
usual_use=$(since "$began")
unexport d0
began=$(now)
remove d0
usual_removal=$(since "$began")
began=$(now)
runner_stop 60
usual_stop=$(since "$began")
began=$(now)
runner_start 60
wait_for 20 clone_status d1 .name
usual_start=$(since "$began")
echo "ok   while all is well: commands $usual_use s, removal $usual_removal s, stop $usual_stop s, start $usual_start s"

### it does not answer any more

unexport d2
origin_signal STOP
remove_without_origin d2 "an origin that hangs"
the_rest_works "an origin that hangs"
stop_and_start "an origin that hangs" 2
the_rest_works "opened while the origin hangs"

### it is dead

kill -STOP "$NBDKIT_PID" # Nobody starts it again.
origin_signal KILL
wait_for 30 origin_is down || fail "the origin is $(clone_status d1 .origin.state)"
the_rest_works "an origin that is dead"
unexport d3
remove_without_origin d3 "an origin that is dead"
dd if="$LUN_DEV" bs=4096 skip=$((60 * 256)) count=1 iflag=direct status=none >/run/absent &
reader=$!
stop_and_start "an origin that is dead, a reader waits for it" 1
the_rest_works "opened while the origin is dead"
kill -0 "$reader" 2>/dev/null || fail "a read of what only the dead origin has did not wait"

### it is back

kill -CONT "$NBDKIT_PID"
began=$(now)
wait "$reader" || fail "a read that waited for the origin ended with an error"
cmp /run/absent <(dd if=$dir/model bs=4096 skip=$((60 * 256)) count=1 status=none) || fail "a read that waited for the origin is wrong"
within 25 "$began" "the origin is back: a read that has waited for it is answered"
"$CLONECTL" wait d1 --timeout 120
lun_delete d1
runner_stop 20
cmp $dir/d1.dest $dir/model || fail "the destination is not what was written"
echo "ok   complete, the destination equals the model"
