#!/bin/bash
# dm-error and dm-flakey under origin, destination and metadata in turn, switched in and out under load. The
# initiator sees good data or an honest error, never wrong data; mode and reason are as documented; what was
# acknowledged stays, through restarts of the daemon too; and the admin's way back works each time: mend the
# device, `clonectl message NAME clear_needs_check`.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$here/../lab/lib.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

readonly mib=1048576 size=96
seed=${SEED:-$(date +%s)}
dir=/mnt/clone

### three disks that are parts of one: name, first MiB, MiB

declare -A first=([dest]=0 [meta]=128 [origin]=256) length=([dest]=$size [meta]=32 [origin]=$size)
table() { # DISK TARGET [ARGUMENTS]: "linear", "error", or "flakey" with its behaviour all the time
  local sectors=$((length[$1] << 11)) from=$((first[$1] << 11))
  case $2 in
    error) echo "0 $sectors error" ;;
    flakey) echo "0 $sectors flakey /dev/ubdb $from 0 3600 1 $3" ;;
    *) echo "0 $sectors linear /dev/ubdb $from" ;;
  esac
}
break_disk() { dm_switch "$1" "$(table "$@")"; }
mend_disk() { dm_switch "$1" "$(table "$1" linear)"; }

### what the initiator sees

load_start() {
  rm -f /run/stop
  seed=$((seed + 1))
  "$here/model_io.py" "$LUN_DEV" $dir/model --seed $seed --until /run/stop --length $((64 * mib)) --errors \
    >"$LAB_LOG/model_io.log" 2>&1 &
  model_io=$!
}
load_stop() { # AFTER_WHAT
  touch /run/stop
  wait "$model_io" || fail "$1: $(cat "$LAB_LOG/model_io.log")"
  echo "ok   $1: $(cat "$LAB_LOG/model_io.log")"
}
flush() { python3 -c 'import os, sys; os.fsync(os.open(sys.argv[1], os.O_RDWR))' "$LUN_DEV" 2>/dev/null; }
put() { dd if=/run/block of="$LUN_DEV" bs=4096 seek="$1" oflag=direct status=none 2>"$LAB_LOG/dd.log"; } # BLOCK
get() { dd if="$LUN_DEV" bs=4096 skip="$1" count=1 iflag=direct status=none 2>"$LAB_LOG/dd.log"; }      # BLOCK
is_the_origins() { get "$1" | cmp -s - <(dd if=$dir/origin bs=4096 skip="$1" count=1 status=none); }    # BLOCK
an_error() { # WHAT COMMAND...: the command fails, and Linux calls it an I/O error
  local what=$1
  shift
  ! "$@" >/run/got || fail "$what: ended well"
}
state_is() { [ "$(clone_status broken '"\(.state) \(.mode)"')" = "$1" ]; }
failed_for() { # REASON: as documented for a failed flush or commit
  wait_for 20 state_is "failed ro" || fail "not failed: $("$CLONECTL" status broken)"
  clone_status broken .reason | grep -qE "$1" || fail "the reason is $(clone_status broken .reason)"
  an_error "a flush of a LUN that has failed" flush
}
clear_needs_check() {
  "$CLONECTL" message broken clear_needs_check || fail "clear_needs_check"
  state_is "paused rw" || fail "after clear_needs_check: $("$CLONECTL" status broken)"
  flush || fail "a flush after clear_needs_check"
}
restart() { # kill|stop
  "runner_$1"
  runner_start 60
  wait_for 30 clone_status broken .name
}

lab_disk /dev/ubda $dir ext4
modprobe dm-flakey
for disk in dest meta origin; do dm_create $disk "$(table $disk linear)"; done
head -c ${size}M /dev/urandom >$dir/origin
dd if=$dir/origin of=/dev/mapper/origin bs=1M oflag=direct status=none
cp $dir/origin $dir/model
head -c 4096 /dev/urandom >/run/block
nbd_start /dev/mapper/origin 10809 2
runner_start
lun_create broken ${size}M "origin=nbd%3A//127.0.0.1/;dest=/dev/mapper/dest;meta=/dev/mapper/meta;hydration=off;copy_on_read=off"
readonly far=$((80 * 256)) # Blocks where the load never comes.
# Hydration runs only while a disk is broken: the clone must not be complete before the end.
hydration() { "$CLONECTL" message broken "${1}_hydration"; }

### the origin

load_start
break_disk origin error
hydration enable
echo 3 >/proc/sys/vm/drop_caches
an_error "a read of what only a broken origin has" get $far
put $((far + 1)) || fail "an aligned write needs a broken origin: $(cat "$LAB_LOG/dd.log")"
flush || fail "a flush needs a broken origin"
wait_for 20 clone_status broken '.errors.origin_read > 0'
state_is "hydrating rw" || fail "$("$CLONECTL" status broken)"
hydration disable
mend_disk origin
is_the_origins $far || fail "a mended origin is not read"
load_stop "dm-error under the origin"

### the destination

load_start
break_disk dest flakey error_writes
hydration enable
an_error "a write to a broken destination" put $((far + 2))
failed_for "dest"
is_the_origins $far || fail "reads of the origin do not go on"
restart kill
state_is "failed ro" || fail "after kill -9 it was forgotten that a check is needed: $("$CLONECTL" status broken)"
mend_disk dest
an_error "a write before the admin has acted" put $((far + 2))
an_error "a flush before the admin has acted" flush
is_the_origins $far || fail "reads do not go on"
restart stop
state_is "failed ro" || fail "after a stop it was forgotten that a check is needed: $("$CLONECTL" status broken)"
clear_needs_check
put $((far + 2)) || fail "a write once the admin has acted: $(cat "$LAB_LOG/dd.log")"
load_stop "dm-flakey error_writes under the destination, kill -9 and stop while it had failed"

# The kernel answers a flush of dm-error with success: single commands fail, the LUN does not.
load_start
break_disk dest error
an_error "a read of a broken destination" get $((far + 2))
an_error "a write to a broken destination" put $((far + 6))
is_the_origins $far || fail "reads of the origin do not go on"
mend_disk dest
get $((far + 2)) | cmp - /run/block || fail "a mended destination does not show what was written"
state_is "paused rw" || fail "$("$CLONECTL" status broken)"
load_stop "dm-error under the destination"

# A disk that lies loses what it was given meanwhile, and nothing else.
break_disk dest flakey drop_writes
head -c 4096 /dev/urandom >/run/block
put $((far + 3)) || fail "dropped writes look good"
flush || fail "dropped writes look good"
mend_disk dest
restart kill
load_start
sleep 1
load_stop "dm-flakey drop_writes under the destination, kill -9"

### the metadata

load_start
put $((far + 4))
break_disk meta flakey error_writes
failed_for "meta"
put $((far + 5)) || fail "an unflushed write with broken metadata: $(cat "$LAB_LOG/dd.log")"
get $((far + 4)) | cmp - /run/block || fail "reads do not go on"
runner_kill
runner_start 60
"$CLONECTL" list --json | jq -e '.[] | select(.name == "broken") | .state == "failed" and .mode == "Fail" and (.reason | contains("meta"))' \
  >/dev/null || fail "a LUN opened over broken metadata: $("$CLONECTL" list)"
mend_disk meta
restart stop
state_is "failed ro" || fail "the live map has forgotten the failure: $("$CLONECTL" status broken)"
an_error "a write before the admin has acted" put $((far + 5))
clear_needs_check
for block in 4 5; do get $((far + block)) | cmp - /run/block || fail "an acknowledged write is gone"; done
load_stop "dm-flakey error_writes under the metadata, and a start that must fail"

load_start
break_disk meta error
failed_for "meta"
mend_disk meta
clear_needs_check
load_stop "dm-error under the metadata"

load_start
break_disk meta flakey drop_writes
sleep 2
flush || fail "dropped writes look good"
restart kill
mend_disk meta
load_stop "dm-flakey drop_writes under the metadata, kill -9"
restart kill
flush || fail "a flush after dropped writes of metadata"

### the end

hydration enable
"$CLONECTL" wait broken --timeout 120
load_start
sleep 1
load_stop "complete"
lun_delete broken
runner_stop 40
cmp -n $((64 * mib)) /dev/mapper/dest $dir/model || fail "seed $seed: the destination is not what was written"
cmp -i $((81 * mib)) -n $((15 * mib)) /dev/mapper/dest $dir/origin || fail "seed $seed: what nobody wrote is not the origin's"
cmp -n $((size * mib)) /dev/mapper/origin $dir/origin || fail "the origin was changed"
echo "ok   the destination equals the model (seed $seed)"
