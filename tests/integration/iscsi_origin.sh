#!/bin/bash
# An origin over iSCSI from the real LIO: cloned with CHAP, gone for some seconds while it is being copied,
# back again, copied whole; the destination equals it, and what was written meanwhile is there.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$here/../lab/lib.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

dir=/mnt/clone
iqn=iqn.2026-01.test.origin:disk
portal=/sys/kernel/config/target/iscsi/$iqn/tpgt_1
target_is() { # 1 or 0: whether it takes anybody in; those inside are thrown out
  echo "$1" >$portal/enable
}
origin_is() { [ "$(clone_status vm .origin.state)" = "$1" ]; }
conf() { # SECRET: written aside, since it is read whenever it is there
  (umask 077 && cat >/etc/tcmu/clone.d/vm.conf) <<END
origin = iscsi://alice%$1@127.0.0.1:13260/$iqn/0
dest = $dir/vm.dest
meta = $dir/vm.meta
hydration = off
origin_timeout = 5s
END
}

lab_disk /dev/ubda $dir ext4
mkdir -p /etc/tcmu/clone.d
head -c 32M /dev/urandom >$dir/origin
truncate -s 64M $dir/origin # Half of it reads as zeroes.
cp $dir/origin $dir/model
targetcli_run "$LAB_LOG/origin.log" <<END
/backstores/fileio create name=origin file_or_dev=$dir/origin write_back=false
/iscsi create $iqn
/iscsi/$iqn/tpg1/luns create /backstores/fileio/origin
/iscsi/$iqn/tpg1 set attribute authentication=1 demo_mode_write_protect=1 generate_node_acls=1 cache_dynamic_acls=1
/iscsi/$iqn/tpg1 set auth userid=alice password=s3cret-s3cret
/iscsi/$iqn/tpg1/portals delete 0.0.0.0 3260
/iscsi/$iqn/tpg1/portals create 127.0.0.1 13260
END
wait_for 20 test -d $portal/lun/lun_0 || fail "LIO shows no origin: $(cat "$LAB_LOG/origin.log")"

### the wrong secret

runner_start
conf wrong-s3cret
lines_create vm 64M conf=vm | targetcli_run "$LAB_LOG/wrong.log"
wait_for 20 grep -q "uthentication" "$LAB_LOG/tcmu-runner.out" "$LAB_LOG/tcmu-runner.log" 2>/dev/null ||
  "$CLONECTL" list | grep -qi "uthentication" || fail "the wrong secret: $("$CLONECTL" list)"
! grep -rq s3cret "$LAB_LOG"/tcmu-runner* || fail "a secret is in the log"
! "$CLONECTL" list | grep -q s3cret || fail "a secret is in the list"
echo "ok   the wrong secret is refused, and told to nobody"

### the right one

conf s3cret-s3cret
{
  lines_create vm 64M conf=vm
  lines_loopback vm
} | targetcli_run "$LAB_LOG/create.log"
lun_loopback_device vm || fail "no LUN: $(cat "$LAB_LOG/create.log"; "$CLONECTL" list)"
cmp -n $((8 << 20)) "$LUN_DEV" $dir/origin || fail "what is read is not the origin's"
! "$CLONECTL" status vm --json | grep -q s3cret || fail "a secret is in the status"
echo "ok   the LUN reads as its origin: $(clone_status vm .origin.state)"

### away for some seconds

target_is 0
dd if=/dev/urandom of=/run/written bs=1M count=4 status=none
dd if=/run/written of="$LUN_DEV" bs=1M seek=20 oflag=direct conv=fsync status=none
dd if=/run/written of=$dir/model bs=1M seek=20 conv=notrunc status=none
echo "ok   the target is gone: aligned writes and a flush go on"
dd if="$LUN_DEV" of=/run/absent bs=4096 skip=$((30 * 256)) count=16 iflag=direct status=none &
reader=$!
wait_for 30 origin_is down || fail "the origin is $(clone_status vm .origin.state)"
kill -0 $reader 2>/dev/null || fail "a read of what only the origin has did not wait"
"$CLONECTL" set vm hydration=on
sleep 5
target_is 1
wait $reader || fail "a read that waited for the origin ended with an error"
cmp /run/absent <(dd if=$dir/model bs=4096 skip=$((30 * 256)) count=16 status=none) || fail "it is wrong"
echo "ok   the target is back: a read that has waited is answered"

### whole

"$CLONECTL" wait vm --timeout 120
lun_delete vm
runner_stop 20
cmp $dir/vm.dest $dir/model || fail "the destination is not what was written"
cmp $dir/origin <(head -c 32M $dir/origin; head -c 32M /dev/zero) || fail "the origin was written"
echo "ok   complete, the destination equals the model"
