#!/bin/bash
# clonectl create and delete in the real stack: over loopback and iSCSI, with I/O; what is refused while the
# LUN is in use; what the next boot brings back. (Steps that fail are in create_fails.sh.)
set -eu
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$(dirname "$0")/../lab/lib.sh"
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=create.sh
. "$here/create.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

readonly iqn=iqn.2026-01.com.example:vm initiator=$lab_initiator:initiator

create() { # NAME OPTION...: of the one origin
  "$CLONECTL" create "$1" --origin nbd://127.0.0.1/ --dest "$dir/$1.img" "${@:2}" >/run/said 2>&1 ||
    fail "clonectl create $*: $(cat /run/said)"
}
# How the saved targets show a LUN: its numbers, and each initiator's.
shown() {
  jq -c --arg lun "/backstores/user/$1" '[.targets[] | .wwn as $target | .tpgs[] |
    [.luns[] | select(.storage_object == $lun) | .index] as $luns | select($luns != []) |
    {$target, $luns, initiators: [.node_acls[] |
      {node_wwn, sees: [.mapped_luns[] | select(.tpg_lun | IN($luns[])) | .index]}]}]' $saved
}
vm3_is_shown() { # AFTER
  [ "$(shown vm3)" = "[{\"target\":\"$iqn\",\"luns\":[1],\"initiators\":[{\"node_wwn\":\"$initiator\",\"sees\":[1]}]}]" ] ||
    fail "$1: vm3 is saved as shown by $(shown vm3)"
}
attribute() { cat "$lab_configfs"/core/user_*/"$1"/"$2"; }
serial() { attribute "$1" wwn/vpd_unit_serial | sed 's/.*: //'; }
fio_verify() { # DEVICE
  fio --name=v --filename="$1" --direct=1 --rw=randwrite --bs=4k --size=8M --offset=16M --iodepth=8 --ioengine=libaio \
    --verify=crc32c --randseed=7 --minimal >/run/fio 2>&1 || fail "fio: $(tail -n 5 /run/fio)"
}

prepare /dev/ubda
iscsi_prepare

### The main thing, over loopback

before
create vm1 --loopback --set hydration_threshold=8
disk=$(sed -n 's/^disk of this host: //p' /run/said)
[ -b "$disk" ] || fail "no disk: $(cat /run/said)"
[ "$(blockdev --getsize64 "$disk")" = $((64 << 20)) ]
[ "$(cat "/sys/block/${disk#/dev/}/queue/max_hw_sectors_kb")" -ge 1024 ]
[ "$(stat -c %a /etc/tcmu/clone.d/vm1.conf)" = 600 ]
[ "$(serial vm1)" = "$(sed -n 's/^uuid=//p' /var/lib/tcmu-clone/known/vm1)" ]
grep -q "HwMaxSectors: 2048 .*MaxDataAreaMB: 128" <(attribute vm1 info | tr '\n' ' ')
cmp -n $((16 << 20)) "$disk" $dir/origin
fio_verify "$disk"
"$CLONECTL" set vm1 hydration_threshold=9 # Beside conf=, where it overrides the file.
[ "$(jq -r '.storage_objects[].config' $saved)" = "clone/conf=vm1;hydration_threshold=9" ] || fail "set: saved: $(cat $saved)"
[ "$(clone_status vm1 .hydration.threshold)" = 9 ]
expect 1 "there is a LUN of this name" create vm1 --origin /x --dest /y
mkfs.ext4 -q "$disk" && mkdir -p /mnt/lun && mount "$disk" /mnt/lun
expect 1 "in use: mounted on /mnt/lun" delete vm1
umount /mnt/lun
python3 -c 'import sys, time; disk = open(sys.argv[1], "rb"); time.sleep(100)' "$disk" &
user=$!
has_it() { readlink /proc/$user/fd/* | grep -qx "$disk"; }
wait_for 10 has_it
expect 1 "opened by python3 \(process $user\)" delete vm1
kill $user
wait $user 2>/dev/null || true
first_serial=$(serial vm1)
expect 0 "kept: destination $dir/vm1.img" delete vm1
[ -s $dir/vm1.img ]
create vm1 --loopback # The same clone again, as what was kept says.
disk=$(sed -n 's/^disk of this host: //p' /run/said)
[ "$(serial vm1)" = "$first_serial" ] || fail "the clone has another serial number"
e2fsck -fn "$disk" >/run/fsck 2>&1 || fail "the clone is another one: $(tail -n 3 /run/fsck)"
expect 0 "removed: destination" delete vm1 --purge
nothing_is_left "create, delete, create, delete --purge"
echo "ok   loopback: fio verified, in use refused, deleted and made again with the same serial number, purged"

### iSCSI

before
expect 1 "nobody may log in to a new target" create vm2 --origin nbd://127.0.0.1/ --dest $dir/vm2.img --iscsi $iqn
nothing_is_left "create --iscsi without --allow"
create vm2 --iscsi $iqn --allow $initiator --size 48m
grep -q "iscsiadm -m node -T $iqn -p $(hostname):3260 --login" /run/said || fail "$(cat /run/said)"
[ "$(cat $lab_configfs/iscsi/$iqn/tpgt_1/attrib/generate_node_acls)" = 0 ]
session=(-m node -T "$iqn" -p 127.0.0.1:3260)
login() { iscsiadm "${session[@]}" --login >/run/login 2>&1; }
logout() { iscsiadm "${session[@]}" --logout >/run/login 2>&1; }
iscsi_disks() { compgen -G '/sys/class/iscsi_session/session*/device/target*/*/block/*' | sed 's|.*/|/dev/|'; }
iscsiadm "${session[@]}" -o new >/dev/null
iscsiadm "${session[@]}" -o update -n node.session.auth.authmethod -v None
login || fail "no login: $(cat /run/login)"
wait_for 10 iscsi_disks
disk=$(iscsi_disks)
[ "$(blockdev --getsize64 "$disk")" = $((48 << 20)) ]
cmp -n $((16 << 20)) "$disk" $dir/origin
fio_verify "$disk"
expect 1 "in use by $initiator" delete vm2
create vm3 --iscsi $iqn # A second LUN of a target that is there: its ACLs hold for it.
grep -q "^LUN 1 of $iqn" /run/said
iscsiadm -m session --rescan >/dev/null
two_disks() { [ "$(iscsi_disks | wc -l)" = 2 ]; }
wait_for 10 two_disks
logout
iscsi-inq -i $initiator iscsi://127.0.0.1/$iqn/0 >/dev/null || fail "the named initiator cannot log in"
! iscsi-inq -i iqn.2026-01.com.example:stranger iscsi://127.0.0.1/$iqn/0 >/dev/null 2>&1 ||
  fail "an initiator without an ACL has logged in"

### What the next boot brings back

[ "$(jq -r '[.storage_objects[].name] | sort | join(" ")' $saved)" = "vm2 vm3" ]
second_serial=$(serial vm2)
targetctl clear
runner_stop 30
runner_start
targetctl restore >/run/restore 2>&1
[ ! -s /run/restore ] || fail "restore: $(cat /run/restore)"
[ "$(serial vm2)" = "$second_serial" ]
login || fail "no login after the restore: $(cat /run/login)"
wait_for 10 two_disks
for disk in $(iscsi_disks); do [ "$(blockdev --getsize64 "$disk")" != $((48 << 20)) ] || break; done
fio --name=v --filename="$disk" --direct=1 --rw=randwrite --bs=4k --size=8M --offset=16M --ioengine=libaio \
  --verify=crc32c --verify_only --randseed=7 --minimal >/run/fio 2>&1 || fail "after the restore: $(tail -n 5 /run/fio)"
logout
# A LUN that the boot could not open is in the saved configuration alone; what another command saves keeps it,
# and how it is exported.
vm3_is_shown restore
targetctl clear
expect 1 "targetctl restore" create vm4 --origin nbd://127.0.0.1/ --dest $dir/vm4.img --iscsi $iqn --allow any
mv $dir/vm3.img $dir/away
targetctl restore >/run/restore 2>&1 || true
! lun_exists vm3 || fail "vm3 came up without its destination"
expect 0 . list
grep -q "^vm3 .*failed.*is missing" /run/said || fail "vm3 is not listed as failed: $(cat /run/said)"
"$CLONECTL" set vm2 hydration_threshold=7
vm3_is_shown set
create vm4 --iscsi $iqn
grep -q "^LUN 2 of $iqn" /run/said || fail "vm3's number was given away: $(cat /run/said)"
vm3_is_shown create
[ "$(shown vm4 | jq -c '.[].initiators[].sees')" = "[2]" ] || fail "vm4 is saved as shown by $(shown vm4)"
expect 0 . delete vm4 --purge
expect 0 . delete vm2 --purge
vm3_is_shown delete
[ "$(shown vm2)$(shown vm4)" = "[][]" ] || fail "saved although deleted: $(shown vm2) $(shown vm4)"
[ -d $lab_configfs/iscsi/$iqn ] || fail "the target went with the last LUN that had come up"
[ "$(jq -r '.storage_objects[].name' $saved)" = vm3 ] || fail "deleting vm2 lost vm3: $(cat $saved)"
expect 0 "removed: metadata" delete vm3 --purge
rm $dir/away
nothing_is_left "two LUNs of one target, a restore, one that did not open"
expect 1 "there is no such LUN" delete vm3
echo "ok   iSCSI: ACLs, two LUNs of one target, login after clear and restore, fio verified before and after"
