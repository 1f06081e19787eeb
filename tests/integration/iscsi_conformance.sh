#!/bin/bash
# iscsi-test-cu, all its SCSI tests, over LIO's iSCSI against a clone that is not hydrated. What does not pass is
# listed in docs/iscsi-conformance.md with the reason; anything else fails this.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$here/../lab/lib.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

dir=/mnt/clone
lab_disk /dev/ubda $dir ext4
head -c 64M /dev/urandom >$dir/origin
nbd_start $dir/origin 10809
runner_start
modprobe iscsi_target_mod
config="origin=nbd%3A//127.0.0.1/;dest=$dir/dest;meta=$dir/meta;hydration=off"
lun_create_fast cu $((64 << 20)) "$config"
{
  lines_target cu
  lines_iscsi cu
} | targetcli_run "$LAB_LOG/target.log"
iscsi-test-cu --dataloss --test=SCSI "iscsi://127.0.0.1:$LAB_PORT/$(lun_iqn cu)/0" >"$LAB_LOG/iscsi-test-cu" 2>&1 || true
"$here/iscsi_conformance.py" "$here/../../docs/iscsi-conformance.md" <"$LAB_LOG/iscsi-test-cu"

# What needs a write-protected LUN.
lun_create_fast curo $((8 << 20)) "origin=nbd%3A//127.0.0.1/;dest=$dir/ro;meta=$dir/ro.meta;hydration=off;ro=on"
{
  lines_target curo
  lines_iscsi curo
} | targetcli_run "$LAB_LOG/target.log"
iscsi-test-cu --dataloss --test=SCSI.ReadOnly.ReadOnlySBC "iscsi://127.0.0.1:$LAB_PORT/$(lun_iqn curo)/0" \
  >"$LAB_LOG/read_only" 2>&1 || true
grep -q 'ReadOnlySBC ...passed' "$LAB_LOG/read_only" || fail "ro=on: $(grep -v '^ *$' "$LAB_LOG/read_only" | tail -n 12)"
echo "ok   ro=on: ReadOnly.ReadOnlySBC passes"
