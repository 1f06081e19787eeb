#!/bin/bash
# An origin over HTTP from a real nginx, which asks for a bearer token: cloned, gone for some seconds while it
# is being copied, back again, replaced by another file, put back, copied whole; the destination equals it, and what
# was written meanwhile is there.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$here/../lab/lib.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

dir=/mnt/clone
token=s3cret-t0ken
server() { http_start $dir/www 8080 "if (\$http_authorization != 'Bearer $token') { return 401; }"; }
listed() { "$CLONECTL" list | grep -q "$1"; }
says_changed() { clone_status vm .origin.last_error | grep -q "origin changed"; }
left() { [ "$(nbd_connections 8080)" = 0 ]; }
origin_is() { [ "$(clone_status vm .origin.state)" = "$1" ]; }
conf() { # TOKEN
  (umask 077 && cat >/etc/tcmu/clone.d/vm.conf) <<END
origin = http://127.0.0.1:8080/golden.img
origin_token = $1
dest = $dir/vm.dest
meta = $dir/vm.meta
hydration = off
origin_timeout = 5s
END
}

lab_disk /dev/ubda $dir ext4
mkdir -p /etc/tcmu/clone.d $dir/www
head -c 32M /dev/urandom >$dir/www/golden.img
truncate -s 64M $dir/www/golden.img # Half of it reads as zeroes.
cp $dir/www/golden.img $dir/model
touch -d 2026-01-02 $dir/www/golden.img
server

### the wrong token

runner_start
conf wr0ng-t0ken
lines_create vm 64M conf=vm | targetcli_run "$LAB_LOG/wrong.log"
wait_for 20 listed 401 || fail "the wrong token: $("$CLONECTL" list)"
! grep -rq t0ken "$LAB_LOG"/tcmu-runner* || fail "a token is in the log"
! listed t0ken || fail "a token is in the list"
echo "ok   the wrong token is refused, and told to nobody"

### the right one

conf $token
{
  lines_create vm 64M conf=vm
  lines_loopback vm
} | targetcli_run "$LAB_LOG/create.log"
lun_loopback_device vm || fail "no LUN: $(cat "$LAB_LOG/create.log"; "$CLONECTL" list)"
cmp -n $((8 << 20)) "$LUN_DEV" $dir/model || fail "what is read is not the origin's"
! "$CLONECTL" status vm --json | grep -q t0ken || fail "a token is in the status"
[ "$(clone_status vm .origin.using)" = http://127.0.0.1:8080/golden.img ]
echo "ok   the LUN reads as its origin: $(clone_status vm .origin.state)"

### away for some seconds

http_stop
dd if=/dev/urandom of=/run/written bs=1M count=4 status=none
dd if=/run/written of="$LUN_DEV" bs=1M seek=20 oflag=direct conv=fsync status=none
dd if=/run/written of=$dir/model bs=1M seek=20 conv=notrunc status=none
echo "ok   the server is gone: aligned writes and a flush go on"
dd if="$LUN_DEV" of=/run/absent bs=4096 skip=$((30 * 256)) count=16 iflag=direct status=none &
reader=$!
wait_for 30 origin_is down || fail "the origin is $(clone_status vm .origin.state)"
kill -0 $reader 2>/dev/null || fail "a read of what only the origin has did not wait"

### back, with something else

mv $dir/www/golden.img $dir/golden.img
head -c 64M /dev/urandom >$dir/www/golden.img
server
wait_for 30 says_changed ||
  fail "another file is not noticed: $(clone_status vm .origin)"
kill -0 $reader 2>/dev/null || fail "a read of what only the origin has did not wait"
echo "ok   another file in its place is noticed, and not read"

### back as it was

mv $dir/golden.img $dir/www/golden.img
wait $reader || fail "a read that waited for the origin ended with an error"
cmp /run/absent <(dd if=$dir/model bs=4096 skip=$((30 * 256)) count=16 status=none) || fail "it is wrong"
echo "ok   the right one is back: a read that has waited is answered"
"$CLONECTL" set vm hydration=on

### whole

"$CLONECTL" wait vm --timeout 120
wait_for 10 left || fail "there are connections after completion"
lun_delete vm
runner_stop 20
cmp $dir/vm.dest $dir/model || fail "the destination is not what was written"
echo "ok   complete, the destination equals the model"
