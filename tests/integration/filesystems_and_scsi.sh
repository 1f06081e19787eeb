#!/bin/bash
# What initiators really send: mkfs.ext4, mkfs.xfs (kills a daemon that mistreats WRITE SAME with UNMAP),
# fstrim, fsck, and by sg3-utils WRITE VERIFY, COMPARE AND WRITE, WRITE SAME, UNMAP, INQUIRY, MODE SENSE.
# Beside the LUN a plain file, the model, gets the same changes; in the end the destination must equal it.
set -eu
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$(dirname "$0")/../lab/lib.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

dir=/mnt/clone
lab_disk /dev/ubda $dir xfs
mkdir -p /run/t /mnt/fs
cd /run/t
truncate -s 400M $dir/old
mkfs.ext4 -q $dir/old
head -c 8M /dev/urandom >$dir/random
cp $dir/random $dir/model
sha256sum $dir/old $dir/random >origins
runner_start
runner=$RUNNER_PID
{
  lines_create fs 400M "origin=$dir/old;dest=$dir/fs.img;meta=$dir/fs.meta;hydration=off"
  lines_loopback fs
  lines_create scsi 8M "origin=$dir/random;dest=$dir/scsi.img;meta=$dir/scsi.meta;hydration=off"
  lines_loopback scsi
} | targetcli_run "$LAB_LOG/create.log"
lun_loopback_device fs || fail "$(cat "$LAB_LOG/create.log")"
fs=$LUN_DEV
lun_loopback_device scsi || fail "$(cat "$LAB_LOG/create.log")"
dev=$LUN_DEV

still_alive() { # AFTER_WHAT
  kill -0 "$runner" 2>/dev/null || fail "tcmu-runner died of $1"
  echo "ok   $1"
}

### file systems

file_system() { # TYPE CHECKER...
  local type=$1
  shift
  wipefs -q -a "$fs"
  "mkfs.$type" -q "$fs" || fail "mkfs.$type"
  still_alive "mkfs.$type"
  mount "$fs" /mnt/fs
  cp -r /usr/include/linux /mnt/fs/
  head -c 24M /dev/urandom >/mnt/fs/big
  sync -f /mnt/fs
  cp /mnt/fs/big /run/t/big
  rm -r /mnt/fs/linux
  fstrim -v /mnt/fs || fail "fstrim on $type"
  umount /mnt/fs
  "$@" "$fs" >"$LAB_LOG/fsck.log" 2>&1 || fail "$*: $(tail -n 3 "$LAB_LOG/fsck.log")"
  mount "$fs" /mnt/fs
  cmp /mnt/fs/big /run/t/big
  umount /mnt/fs
  still_alive "$type: files, fstrim and $1"
}
file_system ext4 e2fsck -fn
file_system xfs xfs_repair -n

### SCSI, 512-byte blocks; every range starts where the clone still has only the origin's data

expect() { # STATUS WHAT COMMAND...
  local want=$1 what=$2 got=0
  shift 2
  "$@" >"$LAB_LOG/sg.log" 2>&1 || got=$?
  [ "$got" = "$want" ] || fail "$what: exit status $got, not $want: $(tail -n 2 "$LAB_LOG/sg.log")"
}
model() { dd if="$1" of=$dir/model bs=512 seek="$2" conv=notrunc status=none; } # FILE LBA
zeroes() { head -c $(($1 * 512)) /dev/zero >zeroes; }
same() { # LBA COUNT WHAT
  cmp <(dd if="$dev" bs=512 skip="$1" count="$2" iflag=direct status=none) \
    <(dd if=$dir/model bs=512 skip="$1" count="$2" status=none) || fail "$3: wrong data at block $1"
  still_alive "$3"
}

head -c 4096 /dev/urandom >eight
head -c 1536 /dev/urandom >three
head -c 512 /dev/urandom >one

expect 0 "WRITE VERIFY(10)" sg_write_verify --in=eight --lba=64 --num=8 "$dev"
model eight 64
expect 0 "WRITE VERIFY(16)" sg_write_verify --16 --in=three --lba=1001 --num=3 "$dev"
model three 1001
same 0 1100 "WRITE VERIFY, aligned and not"

{ dd if=$dir/model bs=512 skip=2003 count=1 status=none && cat one; } >swap
expect 0 "COMPARE AND WRITE, equal" sg_compare_and_write --in=swap --lba=2003 --num=1 --xferlen=1024 "$dev"
model one 2003
same 2000 16 "COMPARE AND WRITE of a block of the origin"
expect 14 "COMPARE AND WRITE, not equal" sg_compare_and_write --in=swap --lba=2003 --num=1 --xferlen=1024 "$dev"
same 2000 16 "COMPARE AND WRITE that miscompares changes nothing"

expect 0 "WRITE SAME(10)" sg_write_same --in=one --xferlen=512 --lba=3001 --num=21 "$dev"
for lba in {3001..3021}; do model one "$lba"; done
same 2990 48 "WRITE SAME of a pattern"
expect 0 "WRITE SAME(16) UNMAP, a pattern" sg_write_same --16 --unmap --in=one --xferlen=512 --lba=4003 --num=13 "$dev"
for lba in {4003..4015}; do model one "$lba"; done
expect 0 "WRITE SAME(16) UNMAP, a pattern, aligned" sg_write_same --16 --unmap --in=one --xferlen=512 --lba=4096 --num=16 "$dev"
for lba in {4096..4111}; do model one "$lba"; done
same 3990 160 "WRITE SAME with UNMAP keeps a pattern that is not zero"
zeroes 1
expect 0 "WRITE SAME(16) UNMAP, zeroes" sg_write_same --16 --unmap --in=zeroes --xferlen=512 --lba=5003 --num=37 "$dev"
zeroes 37
model zeroes 5003
same 4990 80 "WRITE SAME with UNMAP of zeroes, unaligned"

expect 0 "UNMAP" sg_unmap --force --lba=6000 --num=64 "$dev"
zeroes 64
model zeroes 6000
same 5990 100 "UNMAP reads back zeroes"

sg_vpd --page=0x83 --raw "$dev" >vpd83
! grep -aqE 'origin|dest|/mnt' vpd83 || fail "VPD page 0x83 shows the config string to every initiator"
sg_vpd --page=0x83 "$dev" | grep -qi 'naa\|0x6001405' || fail "VPD page 0x83 has no NAA name: $(sg_vpd -p 0x83 "$dev")"
still_alive "VPD 0x83 names the LUN and not its config string"
# The caching page ends the answer: 20 bytes, the write cache bit is 4 in its third.
wce=$(sg_modes --page=8 --raw "$dev" | tail -c 18 | od -An -tu1 -N1)
[ $((wce & 4)) != 0 ] || fail "MODE SENSE: the write cache bit is not set: $(sg_modes --page=8 "$dev")"
[ "$(cat "/sys/block/${dev#/dev/}/queue/write_cache")" = "write back" ]
still_alive "MODE SENSE says there is a write cache, and Linux believes it"

### a LUN to look at

lun_create looks 400M "origin=$dir/old;dest=$dir/looks.img;meta=$dir/looks.meta;ro=on"
looks=$LUN_DEV
[ "$(blockdev --getro "$looks")" = 1 ] || fail "ro=on: Linux does not see the write protection"
! dd if=/dev/urandom of="$looks" bs=4k count=1 oflag=direct status=none 2>"$LAB_LOG/looks.log" ||
  fail "ro=on: a write was taken"
! mount -o rw "$looks" /mnt/fs 2>/dev/null || [[ $(findmnt -no OPTIONS /mnt/fs) == ro,* ]] || fail "ro=on: it is mounted rw"
! mountpoint -q /mnt/fs || umount /mnt/fs
mount -o ro "$looks" /mnt/fs
[ -d /mnt/fs/lost+found ] || fail "ro=on: the file system is not the origin's"
umount /mnt/fs
[ "$(clone_status looks .mode)" = ro ]
"$CLONECTL" wait looks --timeout 60
cmp "$looks" $dir/old || fail "ro=on: the LUN is not the origin"
lun_delete looks
still_alive "ro=on: looked at, mounted, hydrated, never written"

### the destinations

"$CLONECTL" message scsi enable_hydration
"$CLONECTL" wait scsi --timeout 60
{ lines_delete fs && lines_delete scsi; } | targetcli_run "$LAB_LOG/delete.log"
runner_stop 30
cmp $dir/scsi.img $dir/model || fail "the destination is not what the commands made of it"
sha256sum --quiet -c origins || fail "an origin was changed"
echo "ok   the origins are untouched, the destination equals the model"
