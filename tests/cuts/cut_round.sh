#!/bin/bash
# One life of the machine, in a guest: open the clone on the volatile disks, judge it, write until the power
# goes. The last life (LAST=yes) hydrates to the end instead and judges the destination as a plain image.
#
# Environment, from tests/cuts/run: KIND=devices|files, CACHE=on|off, SEED, ROUND, LAST, and that of lab/lib.sh.
# /share: state of the run, the origin, and the volatile disks: dest, meta, and a file system, site.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$here/../lab/lib.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

readonly size=$((136 * 1048576)) site=/mnt/site
mkdir -p $site
for disk in dest meta site; do losetup -f "/share/$disk"; done
mount /dev/loop2 $site
mkdir -p $site/state
export TCMU_CLONE_STATE_DIR=$site/state
case $KIND in
  devices) dest=/dev/loop0 meta=/dev/loop1 ;;
  files) dest=$site/dest meta=$site/meta ;;
esac
[ -n "$LAST" ] || pace=';hydration_threshold=2;hydration_batch_size=1'

nbd_start /share/origin 10809 5
runner_start
: >"/share/opening.$ROUND"
lun_create_fast cut $size "origin=nbd%3A//127.0.0.1/;dest=$dest;meta=$meta;write_cache=$CACHE${pace:-}"
[ "$CACHE" = on ] || through=--write-through
"$here/cut_load.py" "$LUN_DEV" /share --seed "$SEED" --round "$ROUND" ${LAST:+--no-load} ${through:+"$through"}

"$CLONECTL" wait cut --timeout 120
lun_delete_fast cut
runner_stop 40
cp /share/origin /share/plain
for area in 0:0 125:6 200:12 253:18; do # Halves of MiB: where in the LUN, where in the base.
  dd if="/share/base.$ROUND" of=/share/plain bs=512K seek="${area%:*}" skip="${area#*:}" count=6 \
    conv=notrunc status=none
done
cmp -n $size "$dest" /share/plain || fail "the destination is not what was written over the origin"
