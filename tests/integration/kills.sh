#!/bin/bash
# kill -9 of tcmu-runner, again and again, every third time while it is still starting, under fio --verify,
# random I/O with a model, and programs at work on a mounted ext4, with hydration from a slow NBD origin.
# No program sees an error; in the end fsck is clean, every file and every byte is as written, and the
# destination is what the LUN showed.
#
# KILLS says how often, 50 unless given. More than ./check has time for:
#
#   KILLS=200 tests/integration/run_in_guest build/kills "$PWD/build/release/handler" \
#     "$PWD/build/release/targetcli/clonectl" 3600 tests/integration/kills.sh
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$here/../lab/lib.sh"
# shellcheck source-path=SCRIPTDIR source=load.sh
. "$here/load.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

kills=${KILLS:-50}
seed=${SEED:-$(date +%s)}
RANDOM=$((seed % 32768))
dir=/mnt/clone
starting=0

nap() { sleep "$(awk -v ms=$((RANDOM % $1)) 'BEGIN { print ms / 1000 }')"; } # MOST_MS
kill_now_and_then() {
  local i
  for ((i = 1; i <= kills; i++)); do
    if ((i % 3 == 0)); then
      nap 400
      runner_on_bus >/dev/null 2>&1 || starting=$((starting + 1))
    else
      wait_for 60 runner_on_bus
      nap 1500
    fi
    load_alive
    runner_alive || fail "tcmu-runner died by itself: see $LAB_LOG/tcmu-runner.log"
    runner_kill
    runner_launch
  done
  wait_for 60 runner_on_bus
  wait_for 30 clone_status kills .name
  load_alive
}

# The first 128 MiB are a file system, then follow 64 of load; nobody writes the last 64.
lab_disk /dev/ubda $dir ext4
truncate -s 128M $dir/origin
mkfs.ext4 -q $dir/origin
head -c 128M /dev/urandom >>$dir/origin
cp $dir/origin $dir/model
nbd_start $dir/origin 10809 5 $((150 / kills + 1))M # Bits a second: hydration must go on until the last kill.
runner_start
# Little in flight: the programs' own reads must not queue up behind it for too long.
lun_create kills 256M "origin=nbd%3A//127.0.0.1/;dest=$dir/dest;meta=$dir/meta;hydration_threshold=128;hydration_batch_size=32"
assert_direct kills $dir/dest
dmsetup create files --table "0 $((128 * mib / 512)) linear $LUN_DEV 0"
mkdir -p /mnt/files
mount /dev/mapper/files /mnt/files

load_start "$LUN_DEV" $dir/model "$seed" 128
"$here/file_work.py" /mnt/files /run/sums --seed "$seed" --until /run/stop >"$LAB_LOG/file_work.log" 2>&1 &
LOAD_PIDS+=($!)
before=$(clone_status kills .blocks.origin)
began=$(now)
kill_now_and_then
took=$(since "$began")
[ "$(clone_status kills .blocks.origin)" -lt "$before" ] || fail "nothing was hydrated meanwhile"
[ "$(clone_status kills .state)" = hydrating ] || fail "hydration had ended before the last kill"
load_stop "$kills x kill -9, $starting of them while it was starting, in $took s"
wait "${LOAD_PIDS[2]}" || fail "the programs on ext4: $(cat "$LAB_LOG/file_work.log")"
umount /mnt/files
dmsetup remove files
e2fsck -fn "$LUN_DEV" >"$LAB_LOG/fsck.log" 2>&1 || fail "fsck: $(tail -n 3 "$LAB_LOG/fsck.log")"
echo "ok   ext4: $(cat "$LAB_LOG/file_work.log"), no error, fsck is clean"

nbd_stop
nbd_start $dir/origin 10809
"$CLONECTL" wait kills --timeout 120
dd if="$LUN_DEV" bs=1M iflag=direct status=none | sha256sum >/run/shown
lun_delete kills
runner_stop 40
sha256sum <$dir/dest | cmp - /run/shown || fail "seed $seed: the destination is not what the LUN showed"
cmp -i $((128 * mib)) -n $((48 * mib)) $dir/dest $dir/model || fail "seed $seed: the destination is not what was written"
cmp -i $((192 * mib)) $dir/dest $dir/origin || fail "seed $seed: what nobody wrote is not the origin's"
modprobe loop
mount -o loop,ro,noload $dir/dest /mnt/files
(cd /mnt/files && sha256sum --quiet -c /run/sums) || fail "seed $seed: files on the destination are not as written"
(cd /mnt/files && find . -type f | sort) | diff - <(cut -c67- /run/sums | sort) || fail "seed $seed: not the files that must be there"
echo "ok   $(wc -l </run/sums) files, the model and the destination are equal (seed $seed)"
