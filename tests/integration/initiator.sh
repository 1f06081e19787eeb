#!/bin/bash
# What a Linux initiator sees of a LUN, by the tools its admins use: lsblk and sysfs, sg3-utils, hdparm, blkdiscard;
# every answer against what the LUN really is and does. Then what runs on top: databases' ways of writing (fio's
# engines with O_DIRECT, O_DSYNC and fdatasync), and LVM's thin volumes, whose discards reach the clone.
set -eu
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$(dirname "$0")/../lab/lib.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

readonly mib=1048576 megabytes=128
dir=/mnt/clone
lab_disk /dev/ubda $dir ext4
head -c ${megabytes}M /dev/urandom >$dir/origin
nbd_start $dir/origin 10809
runner_start
lun_create_fast seen $((megabytes * mib)) "origin=nbd%3A//127.0.0.1/;dest=$dir/dest;meta=$dir/meta;hydration=off;copy_on_read=off"
dev=$LUN_DEV
queue=/sys/block/${dev#/dev/}/queue

# answers STATUS COMMAND...: its exit status (of sg3-utils: 5 invalid field, 9 invalid operation code, 14 miscompare);
# what it says is in $said.
answers() {
  local want=$1 got=0
  shift
  said=$("$@" 2>&1) || got=$?
  [ "$got" = "$want" ] || fail "$*: exit status $got, not $want: $(tail -n 3 <<<"$said")"
}
says() { # PATTERN...: each is in what the command said
  local pattern
  for pattern; do grep -qE "$pattern" <<<"$said" || fail "no '$pattern' in: $said"; done
}
tells() { # FILE VALUE: of the queue in sysfs
  [ "$(cat "$queue/$1")" = "$2" ] || fail "$1 is $(cat "$queue/$1"), not $2"
}
blocks() { clone_status seen ".blocks.$1"; }

### what it is

answers 0 lsblk -dnbo DISC-ALN,DISC-GRAN,MIN-IO,OPT-IO,PHY-SEC,LOG-SEC,ROTA,RO,SIZE "$dev"
[ "$(xargs <<<"$said")" = "0 4096 4096 1048576 4096 512 0 0 $((megabytes * mib))" ] || fail "lsblk: $said"
[ "$(cat "$queue/discard_max_bytes")" -gt $((megabytes * mib)) ] || fail "a discard of the whole disk is cut up"
[ "$(cat "$queue/write_zeroes_max_bytes")" -gt 0 ] || fail "Linux writes its zeroes itself"
tells write_cache "write back"
tells fua 1
answers 0 sg_inq "$dev"
says 'PDT=0 ' 'CmdQue=1' 'Unit serial number: seen'
answers 0 sg_readcap -l "$dev"
says "Number of logical blocks=$((megabytes * 2048))" 'lbpme=1, lbprz=1' 'physical block length=4096' 'prot_en=0'
answers 0 sg_vpd -p bl "$dev"
says 'Optimal unmap granularity: 8 blocks' 'Maximum compare and write length: 1 blocks' 'Maximum transfer length: 2048'
answers 0 sg_vpd -p lbpv "$dev"
says 'LBPU\): 1' 'LBPWS\): 1' 'LBPWS10\): 1' 'LBPRZ\): 1' 'thin provisioned'
answers 0 sg_vpd -p bdc "$dev"
says 'Non-rotating'
answers 0 sg_vpd -p sv "$dev"
for page in $(sg_vpd -p sv --hex --raw "$dev" 2>/dev/null | tail -c +5 | od -An -tx1); do answers 0 sg_vpd -p "0x$page" "$dev"; done
answers 0 sg_modes -a "$dev"
says 'WP=0, DpoFua=1' 'Caching' 'Control'
answers 0 sg_luns "$dev"
says 'imples 1 lun entry'
echo "ok   lsblk, sysfs, INQUIRY, VPD, READ CAPACITY, MODE SENSE, REPORT LUNS say what it is"

### what it answers

answers 0 sg_opcodes "$dev"
says 'Read\(10\)' 'Write\(16\)' 'Verify\(16\)' 'Unmap' 'Write same\(16\)' 'Compare and write' 'Get LBA status' 'Synchronize cache\(10\)'
answers 0 sg_opcodes --opcode=0x42 "$dev"
says 'supported .conforming'
answers 0 sg_opcodes --opcode=0x48 "$dev"
says 'NOT supported'
answers 0 sg_turs "$dev"
answers 0 sg_requests "$dev"
says 'No Sense'
answers 0 sg_sync "$dev"
answers 0 sg_start --start "$dev"
answers 0 sg_persist --in --report-capabilities "$dev"
answers 9 sg_sanitize --block --quick "$dev"
answers 9 sg_logs "$dev"
answers 9 sg_read_buffer "$dev"
answers 0 hdparm -t "$dev"
answers 0 hdparm -r "$dev"
says 'readonly *= *0'
answers 0 hdparm -g "$dev"
says "sectors = $((megabytes * 2048))"
timeout 20 hdparm -I "$dev" >/dev/null 2>&1 || true # Not an ATA disk: whatever it says, neither it nor we hang.
timeout 20 hdparm -i "$dev" >/dev/null 2>&1 || true
runner_alive || fail "hdparm killed the daemon"
answers 0 sg_turs "$dev"
echo "ok   sg3-utils and hdparm are answered, or refused with the right sense"

### what it does

dd if=$dir/origin of=/run/one bs=512 skip=999 count=1 status=none
head -c 512 /dev/urandom >/run/other
answers 0 sg_verify --lba=0 --count=2048 --bpc=1024 "$dev"
answers 0 sg_verify --lba=999 --count=1 --ndo=512 --in=/run/one "$dev"
answers 14 sg_verify --lba=999 --count=1 --ndo=512 --in=/run/other "$dev"
answers 0 sg_get_lba_status --lba=0 "$dev"
says "blocks: +$((megabytes * 2048)) +mapped"
zero=$(blocks zero)
read=$(clone_status seen .origin.bytes_read)
answers 0 blkdiscard -f -o $((8 * mib)) -l $((4 * mib)) "$dev"
answers 0 blkdiscard -f -z -o $((16 * mib)) -l $((4 * mib)) "$dev"
answers 0 sg_unmap --force --lba=$((24 * 2048)) --num=2048 "$dev"
head -c 512 /dev/zero >/run/zero
answers 0 sg_write_same --16 --unmap --in=/run/zero --xferlen=512 --lba=$((25 * 2048)) --num=2048 "$dev"
answers 5 sg_write_same --16 --ndob --lba=$((26 * 2048)) --num=2048 "$dev" # Passes by reservations: docs/limits.md.
answers 0 sg_write_same --10 --in=/run/zero --xferlen=512 --lba=$((26 * 2048)) --num=2048 "$dev"
[ $(($(blocks zero) - zero)) = $((11 * 256)) ] || fail "$(($(blocks zero) - zero)) blocks became zero, not $((11 * 256))"
[ "$(clone_status seen .origin.bytes_read)" = "$read" ] || fail "the origin was read for zeroing"
for area in 8:4 16:4 24:3; do
  cmp -i $((${area%:*} * mib)):0 -n $((${area#*:} * mib)) "$dev" /dev/zero || fail "at ${area%:*} MiB: not zero"
done
answers 0 sg_get_lba_status --lba=$((8 * 2048)) --maxlen=128 "$dev"
says "0x0*4000 +blocks: +8192 +deallocated" "0x0*6000 +blocks: +8192 +mapped"
echo "ok   VERIFY, GET LBA STATUS, UNMAP, WRITE SAME, blkdiscard: $((11 * 256)) blocks are zero, the origin was not read"

### what runs on top

for engine in sync psync pvsync2 libaio io_uring; do
  for how in --sync=1 --fdatasync=1 '--bs=8k --fsync=4'; do
    # shellcheck disable=SC2086
    fio --name=db --filename="$dev" --offset=32M --size=1M --io_size=256K --direct=1 --ioengine=$engine --iodepth=4 \
      --rw=randwrite --bs=4k $how --verify=crc32c --verify_fatal=1 >"$LAB_LOG/fio.log" 2>&1 ||
      fail "fio $engine $how: $(grep -iE 'verify|error' "$LAB_LOG/fio.log" | head -n 3)"
  done
done
echo "ok   O_DIRECT with O_DSYNC, fdatasync and fsync, by five engines: verified"

modprobe -a dm_mod dm_thin_pool
lvm_do() { lvm "$@" --devices "$dev" --config 'activation { udev_sync=0 udev_rules=0 } devices { obtain_device_list_from_udev=0 }' \
  >"$LAB_LOG/lvm.log" 2>&1 || fail "lvm $*: $(tail -n 3 "$LAB_LOG/lvm.log")"; }
lvm_do pvcreate -ff -y "$dev"
lvm_do vgcreate clone "$dev"
lvm_do lvcreate -y -L 80M -T clone/pool -V 64M -n thin
thin=/dev/mapper/clone-thin
mkfs.ext4 -q $thin
mkdir -p /mnt/thin
mount $thin /mnt/thin
head -c 24M /dev/urandom >/run/file
cp /run/file /mnt/thin/kept
cp /run/file /mnt/thin/gone
lvm_do lvcreate -y -s -n before clone/thin
rm /mnt/thin/gone
sync -f /mnt/thin
cmp /mnt/thin/kept /run/file
umount /mnt/thin
lvm_do lvremove -y clone/before
mount $thin /mnt/thin
zero=$(blocks zero)
answers 0 fstrim -v /mnt/thin
[ $(($(blocks zero) - zero)) -ge $((20 * 256)) ] || fail "the discards of a thin volume did not arrive: $said"
umount /mnt/thin
answers 0 e2fsck -fn $thin
lvm_do vgchange -an clone
echo "ok   LVM: a thin volume with ext4, a snapshot, fstrim: $((($(blocks zero) - zero) / 256)) MiB came back as zeroes"

"$CLONECTL" message seen enable_hydration
"$CLONECTL" wait seen --timeout 120
answers 0 sg_get_lba_status --lba=0 "$dev"
says mapped
blockdev --flushbufs "$dev"
cmp "$dev" $dir/dest
lun_delete_fast seen
runner_stop 40
echo "ok   complete; the destination is what the LUN shows"
