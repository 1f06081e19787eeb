#!/bin/bash
# A LUN grows online: an ext4 on it over iSCSI is in use, its clone is half hydrated from a longer origin and
# ends in the middle of a block. lsblk shows the new size after a rescan, resize2fs takes it, what is new reads
# as zeroes, the old data stay; stops, kills and a restore of the old configuration keep the size; what cannot
# be leaves the old one; and a complete clone grows too.
set -eu
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$(dirname "$0")/../lab/lib.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

readonly mib=1048576
readonly first=$((96 * mib - 1536)) second=$((256 * mib)) third=$((300 * mib + 512))
dir=/mnt/clone

size_of_clone() { clone_status grows .size_bytes; }
shown() { lsblk -bndo SIZE "$ISCSI_DEV"; }
shows() { # BYTES
  echo 1 >"/sys/block/${ISCSI_DEV#/dev/}/device/rescan"
  [ "$(shown)" = "$1" ]
}
grow_to() { # BYTES: what targetcli says goes to a log
  echo "/backstores/user:clone/grows set attribute dev_size=$1" | targetcli_run "$LAB_LOG/grow.log"
}
grows_to() { # BYTES
  grow_to "$1"
  [ "$(size_of_clone)" = "$1" ] || fail "dev_size=$1: $(tail -n 3 "$LAB_LOG/grow.log")"
  wait_for 10 shows "$1" || fail "lsblk shows $(shown), not $1"
}
stays_at() { # BYTES WANTED WORDS_OF_THE_LOG
  grow_to "$2"
  [ "$(size_of_clone)" = "$1" ] || fail "dev_size=$2: the size is $(size_of_clone)"
  [ "$(cat "$lab_configfs"/core/user_*/grows/attrib/dev_size)" = "$1" ] || fail "dev_size=$2: the kernel believes it"
  grep -aq "dev_size: stays as it was: .*$3" "$LAB_LOG/tcmu-runner.log" || fail "dev_size=$2: the log does not say '$3'"
  echo "ok   dev_size=$2 is refused: $3"
}
reads_zeroes() { # FROM TO
  blockdev --flushbufs "$ISCSI_DEV"
  cmp -n $(($2 - $1)) -i "$1:0" "$ISCSI_DEV" /dev/zero || fail "bytes $1 to $2 are not all zero"
}
files_are_well() { # WHEN
  sha256sum --quiet -c /run/sums || fail "$1: a file has changed"
  touch "/mnt/fs/${1// /-}"
  sync -f /mnt/fs
  echo "ok   $1"
}
come_back() {
  iscsi_login grows
  mount "$ISCSI_DEV" /mnt/fs
}
go_away() {
  umount /mnt/fs
  iscsi_logout grows
}

lab_disk /dev/ubda $dir ext4
mkdir -p /mnt/fs
head -c 300M /dev/urandom >$dir/origin
truncate -s $first $dir/fs
mkdir /run/files
head -c 60M /dev/urandom >/run/files/old
sha256sum /run/files/old | sed s,/run/files,/mnt/fs, >/run/sums
mkfs.ext4 -q -d /run/files $dir/fs
dd if=$dir/fs of=$dir/origin bs=512 conv=notrunc status=none
rm $dir/fs
nbd_start $dir/origin 10809 5 20M
runner_start
iscsi_prepare
{
  lines_target grows
  lines_create grows $first "origin=nbd%3A//127.0.0.1/;dest=$dir/dest;meta=$dir/meta;hydration=off"
  lines_iscsi grows
} | targetcli_run "$LAB_LOG/create.log"
cp /etc/rtslib-fb-target/saveconfig.json /run/before.json
iscsi_login grows || fail "$(tail -n 3 "$LAB_LOG/create.log")"
[ "$(shown)" = $first ] || fail "the LUN has $(shown) bytes"
mount "$ISCSI_DEV" /mnt/fs

### what cannot be

! "$CLONECTL" detach grows 2>/dev/null || fail "detach says that the origin may go, and it is still needed"
stays_at $first $((64 * mib)) "cannot shrink"
stays_at $first $((100 << 40)) "File too large"
stays_at $first $((15 << 40)) "No space left on device"
[ "$(stat -c %s $dir/dest)" = $first ] || fail "the destination kept the length that was not to be"

### under load, half hydrated

fio --name=load --directory=/mnt/fs --size=8M --rw=randwrite --bsrange=512-64k --ioengine=libaio --iodepth=4 \
  --verify=crc32c --verify_fatal=1 --time_based --runtime=8 --randrepeat=0 >"$LAB_LOG/fio.log" 2>&1 &
load=$!
"$CLONECTL" message grows enable_hydration
sleep 1
[ "$(clone_status grows .state)" = hydrating ] || fail "it is $(clone_status grows .state) before it grows"
grows_to $second
[ "$(clone_status grows .state)" = hydrating ] || fail "it was complete before it had grown"
reads_zeroes $first $second
echo "ok   lsblk shows $(shown) bytes, what is new is zero, $(clone_percent grows) % hydrated"
dmesg | grep -q 'Capacity data has changed' || fail "the initiator met no unit attention"
resize2fs "$ISCSI_DEV" >"$LAB_LOG/resize2fs.log" 2>&1 || fail "resize2fs: $(tail -n 2 "$LAB_LOG/resize2fs.log")"
[ "$(df --output=size -B1M /mnt/fs | tail -n 1)" -gt 200 ] || fail "the file system did not grow: $(df /mnt/fs)"
head -c 120M /dev/urandom >/mnt/fs/new
sha256sum /mnt/fs/new >>/run/sums
wait $load || fail "fio: $(grep -iE 'verify|error' "$LAB_LOG/fio.log" | head -n 3)"
files_are_well "resize2fs while fio writes and the clone hydrates"

### it keeps its size

runner_kill
runner_start
wait_for 20 size_of_clone
[ "$(size_of_clone)" = $second ]
files_are_well "after kill -9 of the daemon"
go_away
runner_stop 40
runner_start
come_back
files_are_well "after a restart of the daemon"
go_away
targetctl clear
# It writes the old dev_size once more at the end, as every attribute, and is refused like everybody.
targetctl restore /run/before.json >"$LAB_LOG/restore.log" 2>&1 || true
[ "$(cat "$lab_configfs"/core/user_*/grows/attrib/dev_size)" = $first ] || fail "the restored dev_size is not the old one"
come_back
[ "$(size_of_clone) $(shown)" = "$second $second" ] || fail "the clone is as short as the old configuration"
grep -aq 'keeps its size' "$LAB_LOG/tcmu-runner.log" || fail "the log does not tell"
files_are_well "after a restore of the configuration from before"
grows_to $second

### a complete one

"$CLONECTL" message grows enable_hydration
"$CLONECTL" wait grows --timeout 200
"$CLONECTL" detach grows
nbd_stop
grows_to $third
[ "$(clone_status grows .state)" = complete ]
reads_zeroes $second $third
files_are_well "a complete clone grows, its origin has gone"
go_away
runner_stop 40
runner_start
come_back
files_are_well "and opens again"
go_away
lun_delete grows
runner_stop 40
[ "$(stat -c %s $dir/dest)" = $third ] || fail "the destination has $(stat -c %s $dir/dest) bytes"
e2fsck -fn $dir/dest >"$LAB_LOG/fsck.log" 2>&1 || fail "the destination: $(tail -n 3 "$LAB_LOG/fsck.log")"
echo "ok   the destination is a plain image of $third bytes with a sound file system"
