# shellcheck shell=bash
# A dm-clone of the kernel and a LUN of ours, of one name and with one origin, /dev/mapper/slow, whose table the
# test may switch. Sourced after lib.sh by a script that has set $dir, a folder on a real file system.

# loop_of FILE SECTORS [BYTE]: a disk of that size in a file, full of BYTE; prints the device.
loop_of() {
  if [ -n "${3:-}" ]; then
    head -c $(($2 * 512)) /dev/zero | tr '\0' "$3" >"$1"
  else
    truncate -s $(($2 * 512)) "$1"
  fi
  losetup --find --show "$1"
}

dm_hydrating() { dmsetup status "$1" | awk '{ print $8 }'; }
our_hydrating() { "$CLONECTL" status "$1" --dm | awk '{ print $5 }'; }
dm_hydrated() { dmsetup status "$1" | awk '{ print $7 }'; }
our_hydrated() { "$CLONECTL" status "$1" --dm | awk '{ print $4 }'; }
dm_mode() { dmsetup status "$1" | awk '{ print $NF }'; }
our_mode() { "$CLONECTL" status "$1" --dm | awk '{ print $NF }'; }
dm_message() { dmsetup message "$1" 0 "${@:2}"; }
our_message() { "$CLONECTL" message "$@"; }

# both_disks NAME SECTORS: destinations full of 0xEE and metadata, as $dm_dest, $our_dest, $dm_meta, $our_meta.
both_disks() {
  dm_meta=$(loop_of "${dir:?}/$1.dm" 8192)
  our_meta=$dir/$1.meta
  dm_dest=$(loop_of "$dir/$1.dm.img" "$2" '\356')
  our_dest=$(loop_of "$dir/$1.img" "$2" '\356')
}
# both_open NAME SECTORS REGION_SECTORS DM_FEATURES OUR_KEYS: on those; sets LUN_DEV.
both_open() {
  dmsetup create "$1" --table "0 $2 clone $dm_meta $dm_dest /dev/mapper/slow $3 $4"
  dmsetup mknodes
  lun_create_fast "$1" $(($2 * 512)) "origin=/dev/mapper/slow;dest=$our_dest;meta=$our_meta;region_size=$(($3 * 512));$5"
}
both_close() {
  dmsetup suspend "$1"
  dmsetup remove "$1"
  lun_delete_fast "$1"
}
both_forget() {
  losetup -d "$dm_meta" "$dm_dest" "$our_dest"
  rm "$dir/$1".*
}

