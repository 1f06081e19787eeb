#!/bin/bash
# A file system on a clone works while the clone hydrates; every write to destination and metadata goes through
# one dm-log-writes, so both share one order. Then the log is replayed onto a copy, and at boundaries - each
# FLUSH, FUA and mark may have been the last thing before a power cut - the clone is opened there by a daemon
# that has to take it for the next boot: clonectl check finds nothing, the file system mounts, what was synced
# before the mark is there, the files of the origin are intact, and fsck finds nothing.
#
#   POINTS=N  at how many boundaries that is done (10; 0: all)   WORK=SECONDS  how long the work takes (10)
#   FS=ext4|xfs                                                  SEED=N
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$here/../lab/lib.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

readonly mib=2048 # A MiB in sectors.
readonly lun=$((320 * 1048576)) data=$((320 * mib)) disk=$((328 * mib))
seed=${SEED:-$(date +%s)} fs=${FS:-ext4}
export log=/dev/ubdb journal=/share/log/promises
readonly known=/var/lib/tcmu-clone/known/logged # What this machine remembers, as a power cut would find it.

# slices DEVICE FIRST: /dev/mapper/dest and meta, on DEVICE from sector FIRST on. The clone knows its
# destination again by the uuid.
slices() {
  dmsetup create dest --uuid LAB-dest --table "0 $data linear $1 $2"
  dmsetup create meta --uuid LAB-meta --table "0 $((disk - data)) linear $1 $(($2 + data))"
}
open_clone() { # CONFIG_TAIL
  lun_create_fast logged $lun "origin=nbd%3A//127.0.0.1/;dest=/dev/mapper/dest;meta=/dev/mapper/meta$1"
}
check_fs() {
  case $fs in
    ext4) e2fsck -fn "$LUN_DEV" ;;
    xfs) xfs_repair -n "$LUN_DEV" ;;
  esac
}

# judge ENTRY MARK: what replay_points.py runs where a power cut may have been.
judge() {
  dmsetup create cut --table "0 $disk snapshot /dev/mapper/copy /dev/ram0 N 8"
  slices /dev/mapper/cut 0
  cp /run/known_at_work $known
  "$CLONECTL" check /dev/mapper/meta --dest /dev/mapper/dest --origin nbd://127.0.0.1/ >"$LAB_LOG/check.log" 2>&1 ||
    fail "check: $(tail -n 5 "$LAB_LOG/check.log")"
  open_clone ';hydration=off'
  mount "$LUN_DEV" /mnt/lun
  "$here/log_files.py" judge /mnt/lun/work "$journal" "$2"
  (cd /mnt/lun && sha256sum --quiet -c /run/golden.sha256)
  umount /mnt/lun
  check_fs >"$LAB_LOG/fsck.log" 2>&1 || fail "fsck: $(tail -n 5 "$LAB_LOG/fsck.log")"
  lun_delete_fast logged
  dmsetup remove dest meta cut
}
if [ "${1:-}" = judge ]; then
  judge "$2" "$3"
  exit
fi

### the origin, and the clone on logged disks

modprobe -a dm-log-writes dm-snapshot loop
modprobe brd rd_nr=1 rd_size=131072
mkdir -p /mnt/lun
truncate -s $lun /run/origin
"mkfs.$fs" -q /run/origin
mount -o loop /run/origin /mnt/lun
mkdir /mnt/lun/golden /mnt/lun/work
for file in {1..48}; do head -c 512K /dev/urandom >/mnt/lun/golden/$file; done
(cd /mnt/lun && find golden -type f -print0 | xargs -0 sha256sum >/run/golden.sha256)
umount /mnt/lun

dmsetup create logged --table "0 $disk log-writes /dev/ubda $log"
slices /dev/mapper/logged 0
nbd_start /run/origin 10809 5
runner_start
open_clone ';hydration_threshold=1;hydration_batch_size=4'

### the work

mount "$LUN_DEV" /mnt/lun
dmsetup message logged 0 mark begun
cp $known /run/known_at_work
echo '{"mark": "begun", "seed": 0, "kept": {}, "current": 0, "records": 0}' >"$journal"
fio --name=noise --filename=/mnt/lun/noise --size=24M --rw=randrw --bsrange=4k-64k --fsync=16 --iodepth=4 \
  --ioengine=libaio --direct=1 --time_based --runtime="${WORK:-10}" --randseed="$seed" \
  >"$LAB_LOG/fio.log" 2>&1 &
fio=$!
"$here/log_files.py" work /mnt/lun/work "$journal" --seed "$seed" --mark logged --seconds "${WORK:-10}" \
  >"$LAB_LOG/work.log" 2>&1 &
work=$!
while kill -0 $work 2>/dev/null; do
  sleep 2
  fstrim /mnt/lun
done
wait $work || fail "the work: $(cat "$LAB_LOG/work.log")"
wait $fio || fail "fio: $(tail -n 3 "$LAB_LOG/fio.log")"
echo "worked: $(cat "$LAB_LOG/work.log"); $(clone_percent logged) % hydrated"
umount /mnt/lun
lun_delete_fast logged
runner_stop 40
dmsetup remove dest meta logged

### the cuts

# For the daemon a boot is the kernel's boot id and a fresh /run.
cat /proc/sys/kernel/random/uuid >/run/next_boot
mount --bind /run/next_boot /proc/sys/kernel/random/boot_id
umount /run/tcmu-clone/live
rm -rf /run/tcmu-clone
dmsetup create copy --table "0 $disk linear /dev/ubda $disk"
runner_start
judged=$("$here/replay_points.py" $log /dev/mapper/copy begun "${POINTS:-10}" -- bash "$here/log_replay.sh" judge)
runner_stop 40
echo "ok   opened, mounted and compared: $judged; $fs, seed $seed"
