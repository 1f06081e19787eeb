# shellcheck shell=bash
# What the guest's tests are made of: the daemon, LUNs, both fabrics, a slow origin. Sourced by a script
# that runs as root where the kernel has TCMU, normally inside tests/lab/guest.
#
# Functions that cannot do their work print one sentence and return 1; the scripts run under `set -e`
# or call `fail`. Every wait is bounded. Environment, all optional:
#   HANDLER_DIR  folder of handler_clone.so         CLONECTL  the command clonectl
#   LAB_LOG      folder for logs                    LAB_PORT  TCP port of LIO's iSCSI portal

lab_project=$(dirname "$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")")
HANDLER_DIR=${HANDLER_DIR:-$lab_project/build/release/handler}
CLONECTL=${CLONECTL:-$lab_project/build/release/targetcli/clonectl}
LAB_LOG=${LAB_LOG:-/run/lab-log}
LAB_PORT=${LAB_PORT:-3260}
# The helper of clonectl, which is not installed here.
export TCMU_CLONE_HELPER=$lab_project/targetcli/helper/target_helper.py
mkdir -p "$LAB_LOG"
RUNNER_PID=''
NBDKIT_PID=''
NGINX_PID=''
TGTD_PID=''
lab_configfs=/sys/kernel/config/target
lab_initiator=iqn.2026-01.org.tcmu-clone

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

# wait_for SECONDS COMMAND...: until the command succeeds; 1 when it never does.
wait_for() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    if [ "$SECONDS" -ge "$end" ]; then
      echo "waited in vain for: $*" >&2
      return 1
    fi
    sleep 0.05
  done
}

now() { echo "$EPOCHREALTIME"; }
# since START [END]: seconds between two times of `now`, one decimal.
since() { awk -v a="$1" -v b="${2:-$EPOCHREALTIME}" 'BEGIN { printf "%.1f", b - a }'; }

### tcmu-runner

runner_on_bus() {
  dbus-send --system --print-reply --dest=org.freedesktop.DBus /org/freedesktop/DBus \
    org.freedesktop.DBus.GetNameOwner string:org.kernel.TCMUService1
}
runner_alive() { [ -n "$RUNNER_PID" ] && kill -0 "$RUNNER_PID" 2>/dev/null; }

# runner_start [SECONDS]: the daemon with our handler; returns when it owns its name on the bus, which it
# does only after every device that is left from before has been opened again.
runner_start() {
  runner_launch
  wait_for "${1:-40}" runner_on_bus || return
  runner_alive || { echo "tcmu-runner: did not start: see $LAB_LOG/tcmu-runner.out" >&2; return 1; }
}

# runner_launch: starts it and does not wait.
runner_launch() {
  setsid tcmu-runner --handler-path "$HANDLER_DIR" --tcmu-log-dir "$LAB_LOG" \
    </dev/null >>"$LAB_LOG/tcmu-runner.out" 2>&1 &
  RUNNER_PID=$!
}

# runner_stop [SECONDS]: SIGTERM, as an admin stops it. The daemon first waits for the commands it has.
runner_stop() {
  kill -TERM "$RUNNER_PID" || return
  if ! wait_for "${1:-30}" runner_gone; then
    echo "tcmu-runner: still there ${1:-30} s after SIGTERM" >&2
    return 1
  fi
  wait "$RUNNER_PID" 2>/dev/null || true
  RUNNER_PID=''
}
runner_gone() { ! runner_alive; }

runner_kill() {
  kill -KILL "$RUNNER_PID"
  wait "$RUNNER_PID" 2>/dev/null || true
  RUNNER_PID=''
}

### LUNs

lun_wwn() { echo "naa.5001405$(printf %s "$1" | md5sum | cut -c1-9)"; }
lun_iqn() { echo "$lab_initiator:$1"; }

# targetcli_run FILE: the lines on stdin in one session of targetcli (it takes seconds to start); what it
# says goes to FILE. An error shows in what it says, not in its exit status.
targetcli_run() { targetcli >"$1" 2>&1; }

# Lines for targetcli. SIZE is in targetcli's words: 640M, 1G.
lines_create() { # NAME SIZE CONFIG
  echo "/backstores/user:clone create name=$1 size=$2 hw_max_sectors=2048 cfgstring=$3"
}
lines_loopback() { # NAME
  local wwn
  wwn=$(lun_wwn "$1")
  echo "/loopback create $wwn"
  echo "/loopback/$wwn/luns create /backstores/user:clone/$1"
}
lines_target() { # NAME: an iSCSI target, still without a LUN
  local tpg
  tpg=/iscsi/$(lun_iqn "$1")/tpg1
  echo "/iscsi create $(lun_iqn "$1")"
  echo "$tpg/portals delete 0.0.0.0 3260"
  echo "$tpg/portals create 127.0.0.1 $LAB_PORT"
  echo "$tpg set attribute authentication=0 generate_node_acls=1 cache_dynamic_acls=1" \
    "demo_mode_write_protect=0"
}
lines_iscsi() { # NAME
  echo "/iscsi/$(lun_iqn "$1")/tpg1/luns create /backstores/user:clone/$1"
}
lines_delete() { # NAME: from every fabric, then the backstore itself
  [ ! -d "$lab_configfs/iscsi/$(lun_iqn "$1")" ] || echo "/iscsi delete $(lun_iqn "$1")"
  [ ! -d "$lab_configfs/loopback/$(lun_wwn "$1")" ] || echo "/loopback delete $(lun_wwn "$1")"
  echo "/backstores/user:clone delete $1"
}

lun_exists() { [ -n "$(compgen -G "$lab_configfs/core/user_*/$1")" ]; }
lun_exported() { # over iSCSI
  [ -n "$(compgen -G "$lab_configfs/iscsi/$(lun_iqn "$1")/tpgt_1/lun/lun_0/*/alua_tg_pt_gp")" ] ||
    [ -n "$(find "$lab_configfs/iscsi/$(lun_iqn "$1")/tpgt_1/lun/lun_0" -type l 2>/dev/null)" ]
}
lun_enabled() { [ "$(cat "$lab_configfs"/core/user_*/"$1"/enable 2>/dev/null)" = 1 ]; }

# lun_create NAME SIZE CONFIG: through targetcli, shown by loopback; sets LUN_DEV.
lun_create() {
  { lines_create "$@" && lines_loopback "$1"; } | targetcli_run "$LAB_LOG/create-$1.log"
  lun_loopback_device "$1" && return
  echo "LUN $1: cannot be created: $(grep -v -e '^targetcli' -e '^Copyright' -e '^For help' -e '^$' \
    "$LAB_LOG/create-$1.log" | tail -n 3)" >&2
  return 1
}

lun_delete() {
  lines_delete "$1" | targetcli_run "$LAB_LOG/delete-$1.log"
  if lun_enabled "$1"; then
    echo "LUN $1: cannot be deleted: $(tail -n 3 "$LAB_LOG/delete-$1.log")" >&2
    return 1
  fi
}

# lun_create_fast NAME BYTES CONFIG: the same in a tenth of the time, by hand in configfs; sets LUN_DEV. What
# open said is in the daemon's log.
lun_create_fast() {
  local core=$lab_configfs/core/user_0/$1 port
  port=$lab_configfs/loopback/$(lun_wwn "$1")/tpgt_1
  mkdir -p "$core" &&
    echo -n "dev_config=clone/$3" >"$core/control" &&
    echo -n "dev_size=$2,hw_max_sectors=2048" >"$core/control" &&
    echo -n "$1" >"$core/wwn/vpd_unit_serial" &&
    echo 1 >"$core/enable" &&
    mkdir -p "$port/lun/lun_0" &&
    echo "naa.5001405$(printf %s "nexus $1" | md5sum | cut -c1-9)" >"$port/nexus" &&
    ln -s "$core" "$port/lun/lun_0/$1" &&
    lun_loopback_device "$1"
}
lun_delete_fast() {
  local port
  port=$lab_configfs/loopback/$(lun_wwn "$1")/tpgt_1
  rm "$port/lun/lun_0/$1" && rmdir "$port/lun/lun_0" "$port" "${port%/*}" &&
    rmdir "$lab_configfs/core/user_0/$1"
}

# lun_loopback_device NAME: sets LUN_DEV. A loopback port knows its SCSI address but for the LUN.
lun_loopback_device() {
  [ -d "$lab_configfs/loopback/$(lun_wwn "$1")" ] || return
  wait_for 15 loopback_disk "$1" || return
  # shellcheck disable=SC2034  # For the caller.
  LUN_DEV=/dev/$(loopback_disk "$1")
}
loopback_disk() {
  local address
  address=$(cat "$lab_configfs/loopback/$(lun_wwn "$1")/tpgt_1/address") || return
  ls "/sys/bus/scsi/devices/$address:0/block"
}

### the iSCSI initiator

iscsi_prepare() {
  modprobe -a iscsi_target_mod iscsi_tcp || return
  pgrep -x iscsid >/dev/null && return
  if [ -d /run/systemd/system ]; then
    systemctl start iscsid
    return
  fi
  grep -qs ^InitiatorName= /etc/iscsi/initiatorname.iscsi ||
    echo "InitiatorName=$lab_initiator:initiator" >/etc/iscsi/initiatorname.iscsi
  iscsid && wait_for 10 pgrep -x iscsid
}

# iscsi_node NAME: what open-iscsi must know before a login; the target need not exist yet.
iscsi_node() { iscsiadm -m node -T "$(lun_iqn "$1")" -p "127.0.0.1:$LAB_PORT" -o new >/dev/null; }

# iscsi_login NAME: sets ISCSI_DEV.
iscsi_login() {
  local node=(-m node -T "$(lun_iqn "$1")" -p "127.0.0.1:$LAB_PORT")
  [ -n "$(compgen -G "/etc/iscsi/nodes/$(lun_iqn "$1")/*")" ] || iscsi_node "$1" || return
  iscsiadm "${node[@]}" --login >/dev/null || return
  wait_for 15 iscsi_disk "$1" || return
  # shellcheck disable=SC2034  # For the caller.
  ISCSI_DEV=/dev/$(iscsi_disk "$1")
}
iscsi_logout() {
  local node=(-m node -T "$(lun_iqn "$1")" -p "127.0.0.1:$LAB_PORT")
  iscsiadm "${node[@]}" --logout >/dev/null && iscsiadm "${node[@]}" -o delete
}
iscsi_disk() {
  local session disk
  for session in /sys/class/iscsi_session/session*; do
    [ "$(cat "$session/targetname" 2>/dev/null)" = "$(lun_iqn "$1")" ] || continue
    disk=$(echo "$session"/device/target*/*:0/block/*)
    [ -e "$disk" ] && basename "$disk" && return
  done
  return 1
}

### NVMe over TCP: the kernel's target on top of any disk, and its initiator. Not in User-Mode Linux.

lab_nvmet=/sys/kernel/config/nvmet
nvme_nqn() { echo "nqn.2026-01.org.tcmu-clone:$1"; }

# nvme_show NAME DEVICE: a subsystem with the disk as its namespace 1, on port 4420 of 127.0.0.1.
nvme_show() {
  local subsystem port=$lab_nvmet/ports/1
  subsystem=$lab_nvmet/subsystems/$(nvme_nqn "$1")
  modprobe -a nvmet nvmet_tcp nvme_tcp &&
    mkdir -p "$subsystem/namespaces/1" &&
    echo 1 >"$subsystem/attr_allow_any_host" &&
    echo -n "$2" >"$subsystem/namespaces/1/device_path" &&
    echo 1 >"$subsystem/namespaces/1/enable" || return
  if [ ! -d "$port" ]; then
    mkdir "$port" && echo tcp >"$port/addr_trtype" && echo ipv4 >"$port/addr_adrfam" &&
      echo 127.0.0.1 >"$port/addr_traddr" && echo 4420 >"$port/addr_trsvcid" || return
  fi
  ln -s "$subsystem" "$port/subsystems/"
}
nvme_hide() {
  local subsystem
  subsystem=$lab_nvmet/subsystems/$(nvme_nqn "$1")
  rm "$lab_nvmet/ports/1/subsystems/${subsystem##*/}" && rmdir "$subsystem/namespaces/1" "$subsystem"
}

# nvme_login NAME: sets NVME_DEV.
nvme_login() {
  nvme connect -t tcp -a 127.0.0.1 -s 4420 -n "$(nvme_nqn "$1")" --hostnqn="$(nvme_nqn host)" >/dev/null || return
  wait_for 20 nvme_disk "$1" || return
  # shellcheck disable=SC2034  # For the caller.
  NVME_DEV=/dev/$(nvme_disk "$1")
}
nvme_logout() { nvme disconnect -n "$(nvme_nqn "$1")" >/dev/null; }
nvme_disk() {
  local subsystem disk
  for subsystem in /sys/class/nvme-subsystem/*; do
    [ "$(cat "$subsystem/subsysnqn" 2>/dev/null)" = "$(nvme_nqn "$1")" ] || continue
    for disk in "$subsystem"/nvme*n*; do
      disk=${disk##*/}
      [ -b "/dev/$disk" ] && echo "$disk" && return
    done
  done
  return 1
}

### the remote origin

# nbd_start FILE PORT [DELAY_MS [RATE [FILTER PARAMETER...]]]: nbdkit serves FILE read-only on 127.0.0.1, each
# read late by DELAY_MS, all of them together at RATE bits a second ("200M"), behind one more FILTER of
# nbdkit with its parameters. It is started again when it dies: nbdkit 1.32 aborts now and then when a client
# is killed ("raw_send_socket: Assertion `sock >= 0' failed"). It is ended the hard way: asked to, it may wait for
# requests that its filters hold back, and a stopped one for ever.
nbd_start() {
  local slow=(--filter=delay "delay-read=${3:-0}ms")
  [ -z "${4:-}" ] || slow=(--filter=rate "${slow[@]}" "rate=$4")
  [ -z "${5:-}" ] || slow=(--filter="$5" "${slow[@]}" "${@:6}")
  (
    trap 'kill -KILL "$child"; wait "$child"; exit 0' TERM
    for ((start = 0; start < 50; start++)); do
      nbdkit -f -r -i 127.0.0.1 -p "$2" file "$1" "${slow[@]}" </dev/null &
      child=$!
      wait "$child" || true
    done
  ) >>"$LAB_LOG/nbdkit.log" 2>&1 &
  NBDKIT_PID=$!
  wait_for 10 nbd_listens "$2"
}
nbd_listens() { ss -Hltn "sport = :$1" | grep -q .; }
nbd_stop() {
  kill "$NBDKIT_PID" || return
  wait "$NBDKIT_PID" 2>/dev/null || true
  NBDKIT_PID=''
}
# nbd_connections PORT: how many clients are connected.
nbd_connections() { ss -Htn state established "sport = :$1" | wc -l; }

# http_start DIR PORT [LINES]: nginx serves DIR on 127.0.0.1; LINES go into its server block.
http_start() {
  mkdir -p /run/lab-nginx
  cat >/run/lab-nginx/conf <<END
daemon off; master_process off; pid /run/lab-nginx/pid; error_log $LAB_LOG/nginx-error.log;
events { worker_connections 512; }
http {
  access_log $LAB_LOG/nginx-access.log;
  client_body_temp_path /run/lab-nginx/a; proxy_temp_path /run/lab-nginx/b; fastcgi_temp_path /run/lab-nginx/c;
  uwsgi_temp_path /run/lab-nginx/d; scgi_temp_path /run/lab-nginx/e;
  server { listen 127.0.0.1:$2; root $1; keepalive_requests 100000; ${3:-} }
}
END
  nginx -p /run/lab-nginx -c /run/lab-nginx/conf </dev/null >>"$LAB_LOG/nginx.out" 2>&1 &
  NGINX_PID=$!
  wait_for 10 nbd_listens "$2"
}
http_stop() {
  kill -KILL "$NGINX_PID" || return
  wait "$NGINX_PID" 2>/dev/null || true
  NGINX_PID=''
}

# tgt_start FILE PORT IQN: tgtd shows FILE, read-only, as LUN 1 of the target IQN on 127.0.0.1. Apart from a tgtd of
# the host.
tgt_start() {
  mkdir -p /run/lab-tgt
  TGT_IPC_SOCKET=/run/lab-tgt/socket tgtd -f --iscsi "portal=127.0.0.1:$2" </dev/null >>"$LAB_LOG/tgtd.log" 2>&1 &
  TGTD_PID=$!
  wait_for 10 nbd_listens "$2" && wait_for 10 tgt_admin --mode sys --op show || return
  tgt_admin --mode target --op new --tid 1 --targetname "$3" &&
    tgt_admin --mode logicalunit --op new --tid 1 --lun 1 --backing-store "$1" &&
    tgt_admin --mode logicalunit --op update --tid 1 --lun 1 --params readonly=1 &&
    tgt_admin --mode target --op bind --tid 1 --initiator-address ALL
}
tgt_admin() {
  TGT_IPC_SOCKET=/run/lab-tgt/socket timeout 10 tgtadm --lld iscsi "$@" >>"$LAB_LOG/tgtadm.log" 2>&1
}
tgt_stop() {
  kill -KILL "$TGTD_PID" || return
  wait "$TGTD_PID" 2>/dev/null || true
  TGTD_PID=''
}

### device mapper: disks that fail, stall or dawdle on command

# dm_create NAME TABLE: /dev/mapper/NAME, with a uuid by which a clone knows its destination again.
dm_create() { dmsetup create "$1" --uuid "LAB-$1" --table "$2"; }
# dm_switch NAME TABLE: another table, under whoever uses it. What is in flight ends first.
dm_switch() {
  dmsetup suspend --nolockfs --noflush "$1" && dmsetup load "$1" --table "$2" && dmsetup resume "$1"
}

### clonectl

# clone_status NAME FILTER: one field of its status, by a filter of jq; also of a LUN that has failed (3).
clone_status() {
  local json
  json=$("$CLONECTL" status "$1" --json 2>>"$LAB_LOG/clonectl.log") || [ $? = 3 ] || return
  jq -erM "$2" <<<"$json"
}
# clone_percent NAME: the hydrated share, one decimal.
clone_percent() { clone_status "$1" '.regions | (1000 * .hydrated / .total | floor) / 10'; }
clone_reached() { clone_status "$1" ".regions | 100 * .hydrated / .total >= $2" | grep -q true; }

# assert_direct NAME DEST: the LUN says O_DIRECT, and so does the kernel of the daemon's descriptor.
assert_direct() {
  local fd flags
  [ "$(clone_status "$1" .destination_direct)" = true ] || {
    echo "LUN $1: its status does not say that $2 is opened with O_DIRECT" >&2
    return 1
  }
  for fd in /proc/"$RUNNER_PID"/fd/*; do
    [ "$(readlink "$fd")" = "$2" ] || continue
    flags=$(sed -n 's/^flags:[[:space:]]*//p' "/proc/$RUNNER_PID/fdinfo/${fd##*/}")
    (((8#$flags & 8#40000) != 0)) && return
  done
  echo "LUN $1: tcmu-runner has no descriptor of $2 with O_DIRECT" >&2
  return 1
}

# lab_disk DEVICE DIR [TYPE]: a fresh file system on one of the guest's disks. O_DIRECT, flushes and hole
# punching are real there; the state of clones goes there too.
lab_disk() {
  mkfs -t "${3:-ext4}" -q "$1" && mkdir -p "$2" && mount "$1" "$2" && mkdir -p "$2/state" &&
    mkdir -p /var/lib/tcmu-clone && mount --bind "$2/state" /var/lib/tcmu-clone
}
