#!/bin/bash
# One LUN over loopback and iSCSI at once: fio writes and verifies through both, over a clone that is not
# hydrated and over one that is; what nobody wrote stays the origin's.
set -eu
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$(dirname "$0")/../lab/lib.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

verify() { # DEVICE OFFSET SIZE ARGUMENTS...: fio writes a range, then reads it back and checks it
  local device=$1 offset=$2 size=$3
  shift 3
  fio --name=verify --filename="$device" --offset="$offset" --size="$size" --direct=1 --ioengine=libaio \
    --iodepth=8 --verify=crc32c --verify_fatal=1 --randrepeat=0 "$@" >"$LAB_LOG/fio.log" 2>&1 ||
    fail "fio on $device at $offset ($*): $(grep -iE 'verify|error' "$LAB_LOG/fio.log" | head -n 3)"
  echo "ok   fio --verify on $device: $*"
}
both_fabrics() { # MIB: five ranges of 4 MiB from here on are written
  verify "$LUN_DEV" "${1}M" 4M --rw=randwrite --bs=4k
  verify "$LUN_DEV" "$(($1 + 4))M" 1M --rw=randwrite --bs=512
  verify "$LUN_DEV" "$(($1 + 8))M" 4M --rw=randwrite --bsrange=512-64k --blockalign=512
  verify "$ISCSI_DEV" "$(($1 + 12))M" 4M --rw=write --bs=1M
  verify "$ISCSI_DEV" "$(($1 + 16))M" 4M --rw=randrw --bsrange=512-128k --blockalign=512
}
unwritten_is_the_origins() { # FILE_OR_DEVICE
  cmp -n $((8 << 20)) "$1" "$dir/origin" || fail "$1: the first 8 MiB are not the origin's"
  cmp -i $((28 << 20)) -n $((8 << 20)) "$1" "$dir/origin" || fail "$1: 28-36 MiB are not the origin's"
  cmp -i $((56 << 20)) "$1" "$dir/origin" || fail "$1: the tail is not the origin's"
}

no_connections() { [ "$(nbd_connections 10809)" = 0 ]; }

dir=/mnt/clone
lab_disk /dev/ubda $dir ext4
head -c 64M /dev/urandom >$dir/origin
nbd_start $dir/origin 10809 2
runner_start
iscsi_prepare
{
  lines_target fab
  lines_create fab 64M "origin=nbd%3A//127.0.0.1/;dest=$dir/dest;meta=$dir/meta;hydration=off;copy_on_read=off"
  lines_loopback fab
  lines_iscsi fab
} | targetcli_run "$LAB_LOG/create-fab.log"
lun_loopback_device fab || fail "$(cat "$LAB_LOG/create-fab.log")"
iscsi_login fab
assert_direct fab $dir/dest
cmp -n 1048576 "$ISCSI_DEV" $dir/origin
[ "$(clone_status fab .state)" = paused ]
clone_reached fab 50 && fail "half of it is hydrated though hydration is off"
echo "ok   one LUN is $LUN_DEV over loopback and $ISCSI_DEV over iSCSI, the destination is O_DIRECT"

both_fabrics 8
unwritten_is_the_origins "$ISCSI_DEV"
"$CLONECTL" message fab enable_hydration
"$CLONECTL" wait fab --timeout 120
wait_for 10 no_connections || fail "the origin is still connected after completion"
nbd_stop
both_fabrics 36
blockdev --flushbufs "$LUN_DEV" "$ISCSI_DEV"
unwritten_is_the_origins "$LUN_DEV"
cmp "$LUN_DEV" $dir/dest
cmp "$ISCSI_DEV" $dir/dest
echo "ok   complete, the origin is gone, both fabrics read what the destination holds"

iscsi_logout fab
lun_delete fab
runner_stop 30
unwritten_is_the_origins $dir/dest
echo "ok   deleted; the destination is a plain image"
