#!/bin/bash
# An outage longer than Linux believes in BUSY, (retries + 1) x time-out = 180 s: a reader of what only the origin has
# gets an I/O error then; behind a disk with max_retries=-1 it waits and gets its data; with on_origin_loss=error it
# hears of it at once. Whoever needs no origin notices nothing all the while.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$here/../lab/lib.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

dir=/mnt/clone
readonly outage=230 believed=180
lun() { # NAME [MORE_OF_THE_CONFIG]
  lines_create "$1" 64M "origin=nbd%3A//127.0.0.1%3A10809;dest=$dir/$1.dest;meta=$dir/$1.meta;hydration=off;origin_timeout=5s${2:-}"
  lines_loopback "$1"
}
disk_of() { # NAME
  lun_loopback_device "$1" || fail "no LUN $1: $(cat "$LAB_LOG/create.log"; "$CLONECTL" list)"
  echo "$LUN_DEV"
}
# read_one NAME DISK: one absent block; leaves its end and how long it took.
read_one() {
  local began code=0
  began=$(now)
  dd if="$2" of="/run/$1.read" bs=4096 skip=4000 count=1 iflag=direct status=none 2>"/run/$1.error" || code=$?
  echo "$code $(since "$began")" >"/run/$1.end"
}
took() { cut -d' ' -f2 "/run/$1.end"; }
ended() { [ -s "/run/$1.end" ]; }
between() { awk -v t="$1" -v least="$2" -v most="$3" 'BEGIN { exit !(t >= least && t <= most) }'; }
state_is() { [ "$(clone_status "$1" .origin.state)" = "$2" ]; }

lab_disk /dev/ubda $dir ext4
head -c 64M /dev/urandom >$dir/origin
nbd_start $dir/origin 10809
runner_start
{
  lun usual
  lun patient
  lun hasty ";on_origin_loss=error"
} | targetcli_run "$LAB_LOG/create.log"
usual=$(disk_of usual)
patient=$(disk_of patient)
hasty=$(disk_of hasty)
[ "$(cat "/sys/block/${usual##*/}/device/timeout")" = 30 ] || fail "the time-out of this kernel is another one"
for knob in "/sys/block/${patient##*/}/device/scsi_disk"/*/max_retries; do echo -1 >"$knob"; done

### away

nbd_stop
began=$(now)
read_one usual "$usual" &
read_one patient "$patient" &
wait_for 30 state_is hasty down
read_one hasty "$hasty"
[ "$(cut -d' ' -f1 /run/hasty.end)" = 1 ] || fail "on_origin_loss=error: a read of what is away succeeded"
grep -q "Remote I/O error" /run/hasty.error || fail "on_origin_loss=error: $(cat /run/hasty.error)"
between "$(took hasty)" 0 20 || fail "on_origin_loss=error: the read took $(took hasty) s"
echo "ok   on_origin_loss=error: the read failed after $(took hasty) s: $(tail -n 1 /run/hasty.error)"

place=0 slowest=0
head -c 64k /dev/urandom >/run/written
while between "$(since "$began")" 0 $outage; do
  start=$(now)
  dd if=/run/written of="$patient" bs=64k seek=$place oflag=direct conv=fsync status=none
  cmp -n 65536 /run/written <(dd if="$patient" bs=64k skip=$place count=1 iflag=direct status=none) ||
    fail "what was written is not there"
  "$CLONECTL" status patient >/dev/null
  slowest=$(awk -v a="$slowest" -v b="$(since "$start")" 'BEGIN { print (a > b ? a : b) }')
  place=$((place + 1))
  sleep 2
done
between "$slowest" 0 10 || fail "a write, its flush and a read took $slowest s"
echo "ok   $place rounds of an aligned write, a flush, a read of it and clonectl status, the slowest $slowest s"
ended usual || fail "a disk as it comes still waits after $(since "$began") s"
[ "$(cut -d' ' -f1 /run/usual.end)" = 1 ] || fail "a disk as it comes: the read succeeded without its origin"
between "$(took usual)" $((believed - 10)) $outage || fail "a disk as it comes gave up after $(took usual) s"
echo "ok   a disk as it comes gave up after $(took usual) s: $(tail -n 1 /run/usual.error)"
! ended patient || fail "max_retries=-1: the read ended after $(took patient) s: $(cat /run/patient.error)"

### back

nbd_start $dir/origin 10809
wait_for 60 ended patient || fail "max_retries=-1: no answer, though the origin is back"
[ "$(cut -d' ' -f1 /run/patient.end)" = 0 ] || fail "max_retries=-1: $(cat /run/patient.error)"
for name in usual hasty; do
  wait_for 30 state_is $name connected || fail "$name: the origin is back and it does not notice"
  read_one $name "$(disk_of $name)"
done
for name in usual patient hasty; do
  cmp "/run/$name.read" <(dd if=$dir/origin bs=4096 skip=4000 count=1 status=none) || fail "$name: wrong data"
done
echo "ok   max_retries=-1: answered after $(took patient) s; all three read what the origin has"
for name in usual patient hasty; do lun_delete $name; done
runner_stop 20
