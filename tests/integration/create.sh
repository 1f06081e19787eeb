# shellcheck shell=bash
# What the tests of clonectl create and delete share. Sourced after lab.sh.

dir=/mnt/clone
saved=/etc/rtslib-fb-target/saveconfig.json

# prepare DISK: an origin of 64 MiB over NBD, the daemon, the fabrics.
prepare() {
  lab_disk "$1" $dir ext4
  head -c 64M /dev/urandom >$dir/origin
  nbd_start $dir/origin 10809 0 100M
  modprobe -a iscsi_target_mod tcm_loop
  mkdir -p /sys/kernel/config/target/{iscsi,loopback}
  runner_start
  "$CLONECTL" list >/dev/null
}

# expect STATUS PATTERN COMMAND...: clonectl's exit status, and what it says.
expect() {
  local wanted=$1 pattern=$2 status=0
  shift 2
  "$CLONECTL" "$@" >/run/said 2>&1 || status=$?
  [ "$status" = "$wanted" ] || fail "clonectl $*: $status instead of $wanted: $(cat /run/said)"
  grep -Eq -- "$pattern" /run/said || fail "clonectl $*: says nothing of '$pattern': $(cat /run/said)"
}
# Everything that a LUN may leave: the target's tree, files with their sizes, saved and listed names.
inventory() {
  find /sys/kernel/config/target /sys/kernel/config/nvmet -mindepth 2 \( -type d -o -type l \) 2>/dev/null | sort
  find /etc/tcmu /var/lib/tcmu-clone /run/tcmu-clone $dir -type f -printf '%p %s\n' | sort
  [ ! -s $saved ] || jq -r '.storage_objects[].name, .targets[].wwn' $saved
  "$CLONECTL" list --json | jq -r '.[].name'
}
before() { inventory >/run/before; }
nothing_is_left() { # WHAT
  inventory >/run/after
  diff -u /run/before /run/after >/run/left || fail "$1 left something: $(cat /run/left)"
  echo "     nothing left by: $1"
}
# Whether no helper is taking back what was done.
no_helper() { ! pgrep -f "^/usr/bin/python3 .*target_helper.py" >/dev/null; }
