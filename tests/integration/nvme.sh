#!/bin/bash
# A LUN as an NVMe disk: the kernel's nvmet over TCP on top of its loopback disk, in QEMU. fio verifies; what the
# initiator discards and zeroes reaches the clone as that, without a read of the origin; its FLUSH and FUA reach
# the destination's own disk. And btrfs on a LUN.
set -eu
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$(dirname "$0")/../lab/lib.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

readonly mib=1048576
dir=/mnt/clone
mkdir -p /mnt/files
verify() { # OFFSET_MIB SIZE_MIB ARGUMENTS...
  local offset=$1 size=$2
  shift 2
  fio --name=verify --filename="$NVME_DEV" --offset="${offset}M" --size="${size}M" --direct=1 --ioengine=libaio \
    --iodepth=8 --verify=crc32c --verify_fatal=1 --randrepeat=0 "$@" >"$LAB_LOG/fio.log" 2>&1 ||
    fail "fio at $offset MiB ($*): $(grep -iE 'verify|error' "$LAB_LOG/fio.log" | head -n 3)"
  echo "ok   fio --verify over NVMe: $*"
}
is_zero() { cmp -i "$(($1 * mib)):0" -n $(($2 * mib)) "$NVME_DEV" /dev/zero; } # OFFSET_MIB SIZE_MIB

# becomes_zero WHAT OFFSET_MIB SIZE_MIB COMMAND...: 4 KiB blocks that are the origin's become the clone's zeroes,
# each of them and no other, and the origin is not asked for them (-f: blkdiscard looks at nothing else first).
becomes_zero() {
  local what=$1 offset=$2 size=$3 before after
  shift 3
  before=$(clone_status nvm '"\(.blocks.origin) \(.blocks.zero) \(.origin.bytes_read)"')
  "$@" -o $((offset * mib)) -l $((size * mib)) "$NVME_DEV" 2>"$LAB_LOG/blkdiscard.log" || fail "$what: $*"
  after=$(clone_status nvm '"\(.blocks.origin) \(.blocks.zero) \(.origin.bytes_read)"')
  awk -v n=$((size * 256)) '{ exit !($1 - $4 == n && $5 - $2 == n && $3 == $6) }' <<<"$before $after" ||
    fail "$what: of $((size * 256)) blocks: origin's, zero, bytes read from it: before $before, after $after"
  is_zero "$offset" "$size" || fail "$what: does not read as zeroes"
  echo "ok   $what of $size MiB: $((size * 256)) blocks are zero, the origin was not read"
}
flushes() { awk '{ print $16 }' "/sys/block/${1#/dev/}/stat"; }
# reaches_the_disk WHAT COMMAND...: the disk of the destination gets a flush. The clone is quiet before, so that
# the one is the initiator's.
reaches_the_disk() {
  local what=$1 before
  shift
  sleep 2.5 # The last commit of a second is over.
  before=$(flushes /dev/vdb)
  sleep 1.5
  [ "$(flushes /dev/vdb)" = "$before" ] || fail "$what: the destination is flushed without reason"
  "$@" || fail "$what: $*"
  [ "$(flushes /dev/vdb)" -gt "$before" ] || fail "$what: no flush reached the destination"
  echo "ok   $what: $(($(flushes /dev/vdb) - before)) flush of the destination's disk"
}
write_fua() {
  python3 - "$NVME_DEV" $((60 * mib)) <<'END'
import mmap, os, sys
buffer = mmap.mmap(-1, 4096)  # O_DIRECT wants aligned memory.
buffer.write(b"forced" * 682)
device = os.open(sys.argv[1], os.O_WRONLY | os.O_DIRECT)
os.pwritev(device, [buffer], int(sys.argv[2]), os.RWF_DSYNC)
END
}

lab_disk /dev/vda $dir ext4
head -c 64M /dev/urandom >$dir/origin
nbd_start $dir/origin 10809 1
runner_start
lun_create_fast nvm $((64 * mib)) "origin=nbd%3A//127.0.0.1/;dest=/dev/vdb;meta=$dir/meta;hydration=off;copy_on_read=off"
nvme_show nvm "$LUN_DEV"
nvme_login nvm
[ "$(blockdev --getsize64 "$NVME_DEV")" = $((64 * mib)) ] || fail "$NVME_DEV is not 64 MiB"
cmp -n $mib "$NVME_DEV" $dir/origin
echo "ok   $LUN_DEV is $NVME_DEV over NVMe/TCP: $(lsblk -dno NAME,TRAN,SIZE,DISC-GRAN,DISC-MAX "$NVME_DEV")"

verify 8 4 --rw=randwrite --bs=4k
verify 12 1 --rw=randwrite --bs=512
verify 16 4 --rw=randrw --bsrange=512-128k --blockalign=512
verify 20 4 --rw=write --bs=1M
becomes_zero discard 24 8 blkdiscard -f
becomes_zero "write zeroes" 32 8 blkdiscard -f -z
[ "$(cat "/sys/block/${NVME_DEV#/dev/}/queue/write_cache")" = "write back" ] || fail "$NVME_DEV has no write cache"
reaches_the_disk FLUSH python3 -c "import os, sys; os.fsync(os.open(sys.argv[1], os.O_RDWR))" "$NVME_DEV"
reaches_the_disk FUA write_fua

"$CLONECTL" message nvm enable_hydration
verify 44 4 --rw=randrw --bs=4k
"$CLONECTL" wait nvm --timeout 120
nbd_stop
becomes_zero_after() { # WHAT OFFSET_MIB SIZE_MIB COMMAND...: the destination itself, now that it is complete
  local what=$1 offset=$2 size=$3
  shift 3
  "$@" -o $((offset * mib)) -l $((size * mib)) "$NVME_DEV" 2>"$LAB_LOG/blkdiscard.log" || fail "$what: $*"
  is_zero "$offset" "$size" || fail "$what: does not read as zeroes"
  echo "ok   complete, then $what: zeroes"
}
becomes_zero_after discard 48 4 blkdiscard -f
becomes_zero_after "write zeroes" 52 4 blkdiscard -f -z
nvme_logout nvm
nvme_hide nvm
cmp -n $((64 * mib)) "$LUN_DEV" /dev/vdb
lun_delete_fast nvm

# Here since User-Mode Linux has no btrfs.
truncate -s 256M $dir/empty
lun_create_fast tree $((256 * mib)) "origin=$dir/empty;dest=$dir/tree.img;meta=$dir/tree.meta;hydration=off;copy_on_read=off"
modprobe btrfs
mkfs.btrfs -q "$LUN_DEV" >"$LAB_LOG/btrfs.log" 2>&1
mount "$LUN_DEV" /mnt/files
cp -r /usr/share/common-licenses /mnt/files/
head -c 20M /dev/urandom >/mnt/files/random
sha256sum /mnt/files/random >/run/random.sum
btrfs -q subvolume snapshot -r /mnt/files /mnt/files/then
rm /mnt/files/random
fstrim /mnt/files
umount /mnt/files
btrfs check -q "$LUN_DEV" >"$LAB_LOG/btrfs.log" 2>&1 || fail "btrfs check: $(tail -n 3 "$LAB_LOG/btrfs.log")"
mount -o ro "$LUN_DEV" /mnt/files
sed s,/mnt/files,/mnt/files/then, /run/random.sum | sha256sum --quiet -c
umount /mnt/files
lun_delete_fast tree
echo "ok   btrfs: a snapshot, fstrim, check"
runner_stop 40
for area in 0:8 13:3 40:4 56:4 61:3; do
  cmp -i $((${area%:*} * mib)) -n $((${area#*:} * mib)) /dev/vdb $dir/origin || fail "at ${area%:*} MiB: not the origin's"
done
cmp -i $((24 * mib)):0 -n $((16 * mib)) /dev/vdb /dev/zero
cmp -i $((48 * mib)):0 -n $((8 * mib)) /dev/vdb /dev/zero
echo "ok   deleted; the destination is a plain image"
