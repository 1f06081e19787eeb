#!/bin/bash
# Sixteen LUNs on one daemon, four of them under load: kill -9 and start, stop and start, and the removal of
# some while others carry I/O. All come back, none is taken for another, and each destination is right.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$here/../lab/lib.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

readonly luns=16 loaded='m02 m06 m10 m14' removed='m01 m04 m09 m12'
seed=${SEED:-$(date +%s)}
dir=/mnt/clone
names=$(printf 'm%02d ' $(seq $luns))

listed() { [ "$("$CLONECTL" list --json | jq '[.[] | select(.mode == "rw")] | length')" = "$1" ]; }
all_there() { # WHEN COUNT
  wait_for 60 listed "$2" || fail "$1: not $2 LUNs that work: $("$CLONECTL" list)"
}
# "NAME DEVICE" of those that are still there go to many_luns.py.
devices() {
  local name
  for name in $still; do echo "$name ${device[$name]}"; done
}
nobody_is_mixed_up() { devices | "$here/many_luns.py" check $dir "$loaded" || fail "$1"; } # WHEN
load_alive() { kill -0 "${pids[@]}" 2>/dev/null || fail "the load ended early: $(cat "$LAB_LOG"/model_io-*.log)"; }

lab_disk /dev/ubda $dir ext4
for name in $names; do
  head -c 8M /dev/urandom >"$dir/$name.origin"
  cp "$dir/$name.origin" "$dir/$name.model"
done
runner_start
began=$(now)
declare -A device
for name in $names; do
  # Every other one is hydrated at once; those under load stay half there.
  case $name in *[02468]) live=off ;; *) live=on ;; esac
  lun_create_fast "$name" $((8 << 20)) "origin=$dir/$name.origin;dest=$dir/$name.dest;meta=$dir/$name.meta;hydration=$live"
  device[$name]=$LUN_DEV
done
all_there "created" $luns
still=$names
devices | "$here/many_luns.py" name $dir "$loaded"
echo "ok   $luns LUNs made in $(since "$began") s, each with its name in it"

pids=()
for name in $loaded; do
  "$here/model_io.py" "${device[$name]}" "$dir/$name.model" --seed "$seed" --until /run/stop --offset 8192 \
    --length $(((8 << 20) - 8192)) --threads 2 >"$LAB_LOG/model_io-$name.log" 2>&1 &
  pids+=($!)
done
sleep 1
for round in 1 2 3; do
  load_alive
  began=$(now)
  case $round in
    2) runner_stop 60 ;;
    *) runner_kill ;;
  esac
  runner_start 60
  all_there "restart $round" $luns
  back=$(since "$began")
  nobody_is_mixed_up "restart $round"
  echo "ok   $([ $round = 2 ] && echo "stopped" || echo "kill -9") and started under load: $luns LUNs back after $back s"
done

load_alive
for name in $removed; do lun_delete_fast "$name"; done
still=$(for name in $names; do case " $removed " in *" $name "*) ;; *) echo "$name" ;; esac; done)
all_there "removed some" $((luns - 4))
load_alive
nobody_is_mixed_up "removed some"
touch /run/stop
for pid in "${pids[@]}"; do wait "$pid" || fail "$(cat "$LAB_LOG"/model_io-*.log)"; done
echo "ok   4 removed while 4 carried I/O: $(cat "$LAB_LOG"/model_io-*.log | awk '{ n += $1 } END { print n }') commands, no error"

for name in $still; do "$CLONECTL" message "$name" enable_hydration; done
for name in $still; do "$CLONECTL" wait "$name" --timeout 120; done
for name in $still; do lun_delete_fast "$name"; done
all_there "removed all" 0
runner_stop 60
for name in $still; do
  cmp "$dir/$name.dest" "$dir/$name.model" || fail "seed $seed: the destination of $name is not what was written"
done
echo "ok   $(wc -w <<<"$still") destinations equal their models (seed $seed)"
