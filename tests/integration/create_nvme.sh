#!/bin/bash
# clonectl create --nvme in QEMU: who may connect, the disk's identity, fio over it, delete while somebody is
# connected; and a restart of the target and the daemon under a connected initiator, which waits for its disk.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$here/../lab/lib.sh"
# shellcheck source-path=SCRIPTDIR source=create.sh
. "$here/create.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

nqn=$(nvme_nqn vm1)
host=$(nvme_nqn host) # As nvme_login calls itself.
verify() { # ARGUMENT...
  fio --name=v --filename="$NVME_DEV" --direct=1 --ioengine=libaio --iodepth=8 --bs=4k --offset=16M --size=4M \
    --verify=crc32c --randseed=7 "$@" >/run/fio 2>&1 || fail "fio $*: $(grep -iE 'verify|error' /run/fio | head -n 3)"
}

prepare /dev/vda
modprobe -a nvmet nvmet_tcp nvme_tcp
before
expect 0 "nvme connect -t tcp -a 127.0.0.1 -s 4420 -n $nqn" create vm1 --origin nbd://127.0.0.1/ --dest $dir/vm1.img \
  --nvme "$nqn" --allow "$host" --listen 127.0.0.1
grep -q '"address":"127.0.0.1","port":4420' /etc/tcmu/clone.d/vm1.export
! nvme connect -t tcp -a 127.0.0.1 -s 4420 -n "$nqn" --hostnqn="$(nvme_nqn stranger)" 2>/dev/null ||
  fail "a host that is not allowed has connected"
nvme_login vm1
uuid=$(sed -n 's/^uuid=//p' /var/lib/tcmu-clone/known/vm1)
[ "$(cat "/sys/block/${NVME_DEV#/dev/}/uuid")" = "$uuid" ] || fail "the disk is not the clone $uuid"
cmp -n $((4 << 20)) "$NVME_DEV" $dir/origin
verify --rw=randwrite
expect 1 "already" create vm2 --origin nbd://127.0.0.1/ --dest $dir/vm2.img --nvme "$nqn" --allow any
[ ! -e $dir/vm2.img ]
expect 1 "initiators are connected to port 4420" delete vm1
echo "ok   NVMe: one host may connect, sees the origin and the clone's UUID, fio verifies; in use is in use"

# What tcmu-clone-nvmet.service does at shutdown and at boot, around LIO's own.
verify --rw=randwrite --runtime=40 --time_based --rate_iops=50 &
load=$!
sleep 2
"$TCMU_CLONE_HELPER" nvme-down
targetctl clear
runner_stop 60
[ ! -e "/sys/kernel/config/nvmet/subsystems/$nqn" ]
runner_start
targetctl restore
"$TCMU_CLONE_HELPER" nvme-up
"$TCMU_CLONE_HELPER" nvme-up # Once more changes nothing.
wait $load || fail "the initiator met an error during the restart: $(cat /run/fio)"
[ "$(cat "/sys/block/${NVME_DEV#/dev/}/uuid")" = "$uuid" ]
echo "ok   target and daemon restarted under I/O: the initiator waited, and everything verified"

nvme_logout vm1
no_connection() { [ -z "$(ss -Htn state established 'sport = :4420')" ]; }
wait_for 10 no_connection
expect 0 "removed: destination" delete vm1 --purge
nothing_is_left "create --nvme, delete --purge"
