#!/bin/bash
# The trap of the loopback: the LUN's dirty pages fill all memory there is, and the daemon that must clean them
# needs memory for that. A clone hydrates while writers dirty the file system on it to the limit of their memory
# cgroup, of the first version, where whoever reclaims waits for pages that are on their way to the LUN. Nothing
# hangs, nothing is lost; and no thread of the daemon is one that the kernel would make wait like that.
set -eu
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$(dirname "$0")/../lab/lib.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

readonly mib=1048576
dir=/mnt/clone
fs=/mnt/fs
group=/sys/fs/cgroup/limited
seed=${SEED:-$(date +%s)}

# write_and_verify: 96 MiB through the page cache, by write and by mmap, in the cgroup.
write_and_verify() {
  (
    echo 0 >$group/cgroup.procs
    exec timeout -k 5 200 fio --directory=$fs --direct=0 --size=24M --rw=randwrite --fallocate=none --verify=crc32c \
      --verify_fatal=1 --randseed="$seed" --name=write --ioengine=psync --numjobs=3 --bsrange=4k-256k \
      --name=map --ioengine=mmap --numjobs=1 --bsrange=4k-16k >"$LAB_LOG/fio.log" 2>&1
  )
}
# Their names, but for tcmu-runner's logger, which is there before it loads any handler. Linux has no other way to
# show it: PF_MEMALLOC_NOIO is a flag of each thread, those of io_uring included.
threads_that_may_wait() {
  awk '{ name = $2; sub(/.*\) /, "") } name != "(logger)" && !(int($7 / 524288) % 2) { print name }' \
    "/proc/$RUNNER_PID"/task/*/stat
}

lab_disk /dev/ubda $dir ext4
mkdir -p $fs
head -c 256M /dev/urandom >$dir/origin
nbd_start $dir/origin 10809 1 20M
mount -t cgroup -o memory memory /sys/fs/cgroup
mkdir $group
runner_start

echo $((24 * mib)) >$group/memory.limit_in_bytes
# All the group may hold may be dirty: a cgroup of this version has no limit of its own for that.
echo $((200 * mib)) >/proc/sys/vm/dirty_bytes
lun_create_fast low $((256 * mib)) "origin=nbd%3A//127.0.0.1/;dest=$dir/dest;meta=$dir/meta"
mkfs.ext4 -q -E nodiscard,lazy_itable_init=0 "$LUN_DEV"
mount "$LUN_DEV" $fs
before=$(clone_status low .origin.bytes_read)
began=$(now)
write_and_verify || fail "fio, seed $seed: $(tail -n 3 "$LAB_LOG/fio.log"); stuck: $(ps -eLo stat,comm | grep ^D)"
took=$(since "$began")
[ "$(clone_status low .origin.bytes_read)" -gt "$before" ] || fail "nothing was hydrated meanwhile"
reached=$(cat $group/memory.failcnt)
[ "$reached" -gt 0 ] || fail "the limit was not reached"
echo "ok   96 MiB verified in $took s by writers of 24 MiB, $reached times at their limit, seed $seed"
waiting=$(threads_that_may_wait)
[ -z "$waiting" ] || fail "may wait for the LUN when they need memory: $waiting"
echo "ok   none of $(find /proc/"$RUNNER_PID"/task -mindepth 1 -maxdepth 1 | wc -l) threads of the daemon does"

timeout 100 umount $fs || fail "umount hangs"
e2fsck -fn "$LUN_DEV" >"$LAB_LOG/fsck.log" 2>&1 || fail "$(tail -n 3 "$LAB_LOG/fsck.log")"
lun_delete_fast low
runner_stop 40
echo "ok   the file system is sound"
