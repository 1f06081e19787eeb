#!/bin/bash
# The tests that dm-clone's authors have published (device-mapper-test-suite, branch feature-dm-clone: creation,
# commit and consistency), under their names, for our LUN: the same things are tried and the same outcome is
# wanted, except where a comment says what we do on purpose (docs/dm-clone.md).
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$here/../lab/lib.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

dir=/mnt/clone
mib=$((1 << 20))
modprobe loop
lab_disk /dev/ubda $dir xfs
mkdir -p /mnt/fs
begun=$(now)

### a clone, and what opening it said

place() { echo "dest=$dir/$1.img;meta=$dir/$1.meta"; } # NAME
# What a clone was made of goes, and nothing remembers it.
forget() { # NAME
  rm -rf "$dir/$1".* "/var/lib/tcmu-clone/known/$1"*
}
succeeds() { # NAME BYTES CONFIG
  lun_create_fast "$@" || fail "$1 was refused: $(reason "$1")"
  lun_delete_fast "$1"
}
# What the string alone shows is refused before there is a LUN that could be listed: that is in the log only.
reason() {
  "$CLONECTL" list --json | jq -rM --arg name "$1" '.[] | select(.name == $name) | .reason // empty'
  tail -n 1 "$LAB_LOG/tcmu-runner.log" | sed -n 's/.*check_config failed for [^ ]* because of //p'
}
fails() { # NAME BYTES CONFIG WORDS: WORDS is an extended regular expression that the reason matches
  local why
  if lun_create_fast "$1" "$2" "$3" 2>>"$LAB_LOG/refused"; then fail "$1 was made with $3"; fi
  why=$(reason "$1")
  grep -qE -- "$4" <<<"$why" || fail "$1: not refused because of $4, but: $why"
  rmdir "$lab_configfs/core/user_0/$1"
  echo "     refused: $why"
}

### creation

bring_up_clone_target() { # The one that goes through targetcli; the others are about what open says.
  lun_create bring_up 64M "origin=$dir/origin;$(place bring_up)"
  "$CLONECTL" wait bring_up --timeout 60
  cmp -n $((64 * mib)) "$LUN_DEV" $dir/origin
  lun_delete bring_up
  forget bring_up
}

huge_region_size() {
  succeeds huge $((256 * mib)) "origin=$dir/large;$(place huge);region_size=256m"
  forget huge
}

non_power_of_2_region_size_fails() {
  fails odd $((64 * mib)) "origin=$dir/origin;$(place odd);region_size=$((4096 + 57 * 512))" "region_size.*power of two"
}

too_small_region_size_fails() {
  fails small $((64 * mib)) "origin=$dir/origin;$(place small);region_size=2k" region_size
}

too_large_region_size_fails() {
  fails large $((2048 * mib)) "origin=$dir/large;$(place large);region_size=2g" region_size
}

largest_region_size_succeeds() {
  succeeds largest $((1024 * mib)) "origin=$dir/large;$(place largest);region_size=1g"
  forget largest
}

too_small_metadata_dev_fails() {
  local device
  truncate -s 16k $dir/tiny.dev
  device=$(losetup --find --show $dir/tiny.dev)
  fails tiny $((1024 * mib)) "origin=$dir/large;dest=$dir/tiny.img;meta=$device" "metadata.*has only 16384 bytes"
  [ ! -e $dir/tiny.img ] || fail "a refused creation left a destination behind"
  losetup -d "$device"
  forget tiny
}

opening_with_different_region_size_fails() {
  local config
  config="origin=$dir/large;$(place region);hydration=off;copy_on_read=off"
  succeeds region $((512 * mib)) "$config;region_size=64k"
  fails region $((512 * mib)) "$config;region_size=4k" "region.?size"
  fails region $((512 * mib)) "$config;region_size=128k" "region.?size"
  succeeds region $((512 * mib)) "$config;region_size=64k"
  forget region
}

opening_with_different_target_size_fails() {
  local config
  config="origin=$dir/large;$(place target);hydration=off;copy_on_read=off"
  truncate -s 1G $dir/target.img
  succeeds target $((512 * mib)) "$config"
  fails target $((512 * mib - 512)) "$config" size
  fails target $((512 * mib + 512)) "$config" size
  succeeds target $((512 * mib)) "$config"
  forget target
}

data_devices_smaller_than_target_fails() {
  local device
  truncate -s $((64 * mib - 512)) $dir/short.dev
  device=$(losetup --find --show $dir/short.dev)
  fails short $((64 * mib)) "origin=$dir/origin;dest=$device;meta=$dir/short.meta" "destination|dest"
  # A source that is shorter is no mistake here: past its end the disk reads as zeroes.
  lun_create_fast short $((64 * mib)) "origin=$device;$(place short);hydration=off;copy_on_read=off"
  cmp <(dd if="$LUN_DEV" bs=64k iflag=direct status=none) <(cat "$device" && head -c 512 /dev/zero)
  lun_delete_fast short
  losetup -d "$device"
  forget short
}

### commit: the superblock is written again, or it is not

superblock() { dd if="$dir/$1.meta" bs=4096 count=2 iflag=direct status=none | sha256sum; } # NAME
put_region() { # NUMBER FLAGS
  dd if=/dev/urandom of="$LUN_DEV" bs=64k count=1 seek="$1" oflag=direct conv="notrunc$2" status=none
}
flush() { sync "$LUN_DEV"; }
committed() { # NAME COMMAND...: whether the command made a commit
  local before
  before=$(superblock "$1")
  "${@:2}"
  [ "$(superblock "$1")" != "$before" ]
}
discard_region() { blkdiscard -o $(($1 * 65536)) -l 65536 "$LUN_DEV"; }
write_and_flush() { put_region "$1" ,fsync; }
discard_and_flush() { discard_region "$1" && flush; }
write_and_wait() { put_region "$1" "" && sleep 2; }
discard_and_wait() { discard_region "$1" && sleep 2; }

commit_checks() { # NAME REGION COMMAND...: of a region that is not hydrated, then of the same one again
  flush
  committed "$1" "${@:3}" "$2" || fail "$*: no commit"
  # Written for the first time, it may have been discarded before; from here on nothing changes.
  write_and_flush "$2"
  ! committed "$1" write_and_flush "$2" || fail "$*: a commit although nothing has changed"
}
with_commit_lun() { # COMMAND...
  lun_create_fast commit $((64 * mib)) "origin=$dir/origin;$(place commit);hydration=off;copy_on_read=off;region_size=64k"
  "$@"
  lun_delete_fast commit
  forget commit
}

# Several times, since the commit of each second must not be taken for that of the flush.
commit_on_flush() { with_commit_lun commit_on_flush_checks; }
commit_on_flush_checks() {
  local region
  for region in 1 2 3 4; do commit_checks commit $region write_and_flush; done
  for region in 5 6 7 8; do commit_checks commit $region discard_and_flush; done
}

commit_periodically() { with_commit_lun commit_periodically_checks; }
commit_periodically_checks() {
  commit_checks commit 1 write_and_wait
  commit_checks commit 2 discard_and_wait
}

### consistency

same() { cmp -s <(dd if="$1" bs=64k iflag=direct status=none) "$2" || fail "$1 does not show what $2 holds: $3"; }
stamp() { # SEED: writes, discards and zeroes at random places of LUN and model
  "$here/model_io.py" "$LUN_DEV" $dir/stomp.model --seed "$1" --until / >>"$LAB_LOG/stamp" 2>&1 ||
    fail "stamping: $(tail -n 1 "$LAB_LOG/stamp")"
}
pattern_stomp_test() {
  local origin
  cp $dir/origin $dir/stomp.model
  origin=$(sha256sum <$dir/origin)
  lun_create_fast stomp $((64 * mib)) "origin=$dir/origin;$(place stomp);hydration=off;copy_on_read=off"
  same "$LUN_DEV" $dir/stomp.model "a new clone"
  stamp 1
  same "$LUN_DEV" $dir/stomp.model "stamped"
  "$CLONECTL" message stomp enable_hydration
  "$CLONECTL" wait stomp --timeout 60
  same "$LUN_DEV" $dir/stomp.model "hydrated"
  stamp 2
  same "$LUN_DEV" $dir/stomp.model "stamped once more"
  lun_delete_fast stomp
  same $dir/stomp.img $dir/stomp.model "the image"
  [ "$(sha256sum <$dir/origin)" = "$origin" ] || fail "the origin was changed"
  forget stomp
}

# filesystem_test TYPE CHECKER...
filesystem_test() {
  local type=$1 want
  shift
  truncate -s 320M $dir/fs.origin
  "mkfs.$type" -q $dir/fs.origin
  mount -o loop $dir/fs.origin /mnt/fs
  cp -r /usr/include/linux /mnt/fs/
  head -c 48M /dev/urandom >/mnt/fs/testfile
  want=$(sum_of_files)
  umount /mnt/fs
  lun_create_fast fs $((320 * mib)) "origin=$dir/fs.origin;$(place fs);hydration=off;copy_on_read=off"
  mount "$LUN_DEV" /mnt/fs
  files_are_the_same "through the clone"
  fstrim /mnt/fs
  files_are_the_same "after fstrim"
  "$CLONECTL" message fs enable_hydration
  "$CLONECTL" wait fs --timeout 120
  files_are_the_same "after hydration"
  umount /mnt/fs
  lun_delete_fast fs
  "$@" $dir/fs.img >"$LAB_LOG/fsck.log" 2>&1 || fail "$*: $(tail -n 3 "$LAB_LOG/fsck.log")"
  forget fs
}
sum_of_files() { (cd /mnt/fs && find . -type f -print0 | sort -z | xargs -0 cat | sha256sum); }
files_are_the_same() {
  echo 3 >/proc/sys/vm/drop_caches
  [ "$(sum_of_files)" = "$want" ] || fail "other files $1"
}
filesystem_test_xfs() { filesystem_test xfs xfs_repair -n; }
filesystem_test_ext4() { filesystem_test ext4 e2fsck -fn; }

head -c $((64 * mib)) /dev/urandom >$dir/origin
truncate -s 2G $dir/large
runner_start
for test in bring_up_clone_target huge_region_size non_power_of_2_region_size_fails too_small_region_size_fails \
  too_large_region_size_fails largest_region_size_succeeds too_small_metadata_dev_fails \
  opening_with_different_region_size_fails opening_with_different_target_size_fails \
  data_devices_smaller_than_target_fails commit_on_flush commit_periodically pattern_stomp_test \
  filesystem_test_xfs filesystem_test_ext4; do
  started=$(now)
  $test
  echo "ok   $test: $(since "$started") s"
done
runner_stop
echo "took $(since "$begun") s"
