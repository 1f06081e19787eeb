# shellcheck shell=bash
# A disk, /dev/nbd0, that keeps single writes back for as long as it is told to, while later ones pass:
# what a path that comes back after a fail-over does. Sourced after lib.sh.

odd_dir=/run/disk

kept_back_disk_start() { # MIB
  modprobe nbd && mkdir -p $odd_dir && truncate -s "${1}M" $odd_dir/image || return
  cat >$odd_dir/pwrite <<'END'
data=$(mktemp /run/disk/data.XXXXXX)
cat >"$data"
if [ -e /run/disk/hold ]; then
  touch /run/disk/held.$$
  until [ -e /run/disk/release ]; do sleep 0.1; done
fi
dd if="$data" of=/run/disk/image bs=1M seek=$4 oflag=seek_bytes conv=notrunc status=none
rm "$data"
END
  # shellcheck disable=SC2016  # Expanded by the plugin.
  nbdkit -f -U $odd_dir/socket eval thread_model='echo parallel' get_size="echo ${1}M" can_write='exit 0' \
    can_flush='exit 0' flush='exit 0' can_multi_conn='exit 0' \
    pread='dd if=/run/disk/image bs=1M skip=$4 count=$3 iflag=skip_bytes,count_bytes status=none' \
    pwrite='. /run/disk/pwrite' >>"$LAB_LOG/nbd-disk.log" 2>&1 &
  odd_server=$!
  wait_for 10 test -S $odd_dir/socket &&
    nbd-client -unix $odd_dir/socket /dev/nbd0 >"$LAB_LOG/nbd-client.log" 2>&1
}
kept_back_disk_stop() {
  nbd-client -d /dev/nbd0 >>"$LAB_LOG/nbd-client.log" 2>&1 && kill "$odd_server"
}
keep_writes_back() { touch $odd_dir/hold; }
writes_are_kept_back() { [ -n "$(compgen -G "$odd_dir/held.*")" ]; }
pass_later_writes() { rm $odd_dir/hold; }
release_writes() { touch $odd_dir/release; }
