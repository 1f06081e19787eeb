#!/bin/bash
# The guest's part of tests/soak/run: rounds of random events, and after each a look at what is left.
# Environment: MINUTES, SEED, and that of lab/lib.sh.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$here/../lab/lib.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

readonly size=$((64 * 1048576)) round_seconds=60 luns=4 fs_lun=4
readonly dir=/mnt/clone
# A freed arena of malloc may come back another way; what leaks for each LUN or event passes this soon.
readonly rss_slack_kib=8192
RANDOM=$SEED
round=0 lives=0 events=0 kills=0 restarts=0 troubles=0 compared=0
config=() origin_pid=() trouble=() trouble_ends=() load=()

roll() { ROLL=$((RANDOM % $1)); } # Not in a subshell, whose RANDOM would be another.
pick() { # WORD...: sets PICK
  roll $#
  shift "$ROLL"
  PICK=$1
}

### origins

origin_port() { echo $((10810 + $1)); }
origin_start() { # LUN DELAY_MS: at a pace at which hydration lasts as long as a LUN does
  nbd_start "$dir/origin$1" "$(origin_port "$1")" "$2" 8M error "error-pread-rate=40%" "error-file=/run/fail$1"
  origin_pid[$1]=$NBDKIT_PID
}
origin_stop() {
  NBDKIT_PID=${origin_pid[$1]}
  nbd_stop
  origin_pid[$1]=''
}
origin_signal() { # LUN SIGNAL: to the server itself
  kill "-$2" "$(ss -Hltnp "sport = :$(origin_port "$1")" | sed -n 's/.*pid=\([0-9]*\).*/\1/p' | head -n 1)"
}

# Each trouble lasts some seconds. The file system's origin may be late, but not fail or be away: ext4 would be
# right to give up.
trouble_begin() {
  local lun=$1
  [ -z "${trouble[$lun]}" ] || return 0
  if [ "$lun" = $fs_lun ]; then pick slow stall; else pick slow stall fail away; fi
  trouble[lun]=$PICK
  roll 11
  trouble_ends[lun]=$((SECONDS + ROLL + 1))
  troubles=$((troubles + 1))
  case ${trouble[$lun]} in
    slow)
      origin_stop "$lun"
      pick 20 100 400
      origin_start "$lun" "$PICK"
      ;;
    stall) # Ends by itself: the one who would end it may wait for the file system on this LUN.
      origin_signal "$lun" STOP
      (sleep $((ROLL + 1)) && origin_signal "$lun" CONT || true) &
      ;;
    fail) : >"/run/fail$lun" ;;
    away) origin_stop "$lun" ;;
  esac
}
trouble_end() {
  case ${trouble[$1]} in
    slow) origin_stop "$1" && origin_start "$1" 3 ;;
    stall) origin_signal "$1" CONT ;;
    fail) rm "/run/fail$1" ;;
    away) origin_start "$1" 3 ;;
  esac
  trouble[$1]=''
}

### lives of LUNs

make_origin() { # FILE SEED
  python3 - "$1" "$2" $size <<'END'
import random, sys
path, seed, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
rng = random.Random(seed)
with open(path, "wb") as file:
    file.truncate(size)
    for _ in range(rng.randrange(8, 40)):
        file.seek(rng.randrange(size // 65536 - 16) * 65536)
        file.write(rng.randbytes(rng.randrange(1, 17) * 65536))
END
}

lun_begin() {
  local lun=$1 options
  lives=$((lives + 1))
  make_origin "$dir/origin$lun" "$SEED/$lives"
  [ "$lun" != $fs_lun ] || mkfs.ext4 -q -F "$dir/origin$lun"
  trouble[lun]=''
  origin_start "$lun" 3
  pick region_size=4k region_size=64k region_size=1m
  options=$PICK
  pick write_cache=on write_cache=on write_cache=off
  options+=";$PICK"
  pick hydration=on hydration=on hydration=off
  options+=";$PICK"
  pick discard_passdown=on discard_passdown=off
  options+=";$PICK"
  config[lun]="origin=nbd%3A//127.0.0.1%3A$(origin_port "$lun")/;dest=$dir/dest$lun;meta=$dir/meta$lun;$options"
  lun_create_fast "soak$lun" $size "${config[$lun]}" || fail "soak$lun: $(tail -n 5 "$LAB_LOG/tcmu-runner.log")"
  if [ "$lun" = $fs_lun ]; then
    mkdir -p /mnt/fs
    mount "$LUN_DEV" /mnt/fs
    return
  fi
  cp --sparse=always "$dir/origin$lun" "$dir/model$lun"
  rm -f "/run/stop$lun"
  nice -n 10 "$here/../integration/model_io.py" "$LUN_DEV" "$dir/model$lun" --errors --seed $((SEED + lives)) --threads 2 \
    --until "/run/stop$lun" >"$LAB_LOG/model_io.$lun" 2>&1 &
  load[lun]=$!
}

lun_end() {
  local lun=$1
  trouble_end "$lun"
  if [ "$lun" = $fs_lun ]; then
    umount /mnt/fs
  else
    : >"/run/stop$lun"
    wait "${load[$lun]}" || fail "soak$lun: $(cat "$LAB_LOG/model_io.$lun")"
  fi
  roll 2
  if [ "$ROLL" = 0 ]; then
    "$CLONECTL" message "soak$lun" enable_hydration
    "$CLONECTL" message "soak$lun" hydration_threshold 256
    "$CLONECTL" wait "soak$lun" --timeout 120 || fail "soak$lun does not complete: $("$CLONECTL" status "soak$lun")"
  fi
  [ "$(clone_status "soak$lun" .mode)" = rw ] || fail "soak$lun: $("$CLONECTL" status "soak$lun")"
  lun_delete_fast "soak$lun"
  if [ "$ROLL" = 0 ]; then
    if [ "$lun" = $fs_lun ]; then
      e2fsck -fn $dir/dest$lun >"$LAB_LOG/fsck" 2>&1 || fail "fsck of a finished clone: $(tail -n 3 "$LAB_LOG/fsck")"
    else
      cmp "$dir/dest$lun" "$dir/model$lun" || fail "soak$lun: the finished destination is not the model"
    fi
    compared=$((compared + 1))
  fi
  origin_stop "$lun"
  rm -f "$dir/state/known/soak$lun" "$dir"/{origin,dest,meta,model}"$lun"
}

### events

event_look() {
  "$CLONECTL" list >/dev/null
  "$CLONECTL" list --json | jq -e "length == $luns" >/dev/null || fail "clonectl list: $("$CLONECTL" list)"
  "$CLONECTL" status "soak$1" >/dev/null
  "$CLONECTL" status "soak$1" --dm >/dev/null
  clone_status "soak$1" .name >/dev/null
}
pick_live_key() {
  pick hydration=on hydration=off hydration_threshold=1 hydration_threshold=auto hydration_batch_size=7 \
    hydration_batch_size=auto discard_passdown=on discard_passdown=off origin_timeout=5s origin_timeout=20s
}
event_set() {
  pick_live_key
  "$CLONECTL" set "soak$1" "$PICK" 2>"$LAB_LOG/set" || fail "set soak$1 $PICK: $(cat "$LAB_LOG/set")"
}
event_reconfig() {
  pick_live_key
  config[$1]="${config[$1]%;hydration=*};hydration=on"
  targetcli "/backstores/user:clone/soak$1" set attribute \
    "dev_config=clone/${config[$1]};hydration_threshold=3" >"$LAB_LOG/reconfig" 2>&1 ||
    fail "reconfig soak$1: $(tail -n 3 "$LAB_LOG/reconfig")"
}
event_message() {
  pick enable_hydration disable_hydration "hydration_threshold 8" "hydration_batch_size 4"
  # shellcheck disable=SC2086  # Two words.
  "$CLONECTL" message "soak$1" $PICK
}
event_nonsense() {
  ! "$CLONECTL" set "soak$1" hydration=perhaps 2>/dev/null || fail "nonsense was set"
  ! "$CLONECTL" message "soak$1" reticulate_splines 2>/dev/null || fail "nonsense was understood"
  ! "$CLONECTL" status nosuch 2>/dev/null || fail "there is a LUN that is not"
}
event_turnover() {
  lun_end "$1"
  lun_begin "$1"
}
event_files() {
  local stamp=$RANDOM
  mkdir -p /mnt/fs/files
  for file in 1 2 3 4; do head -c $((file * 300000)) /dev/urandom >"/mnt/fs/files/$stamp.$file"; done
  (cd /mnt/fs && sha256sum files/"$stamp".* >"/run/sums" && sync -f . && echo 3 >/proc/sys/vm/drop_caches &&
    sha256sum --quiet -c /run/sums) || fail "files on the LUN are not what was written"
  find /mnt/fs/files -type f | shuf -n 4 --random-source=<(yes "$stamp") | xargs -r rm
  fstrim /mnt/fs
}
event_restart() {
  restarts=$((restarts + 1))
  runner_stop 60
  runner_start 60
}
event_kill() {
  kills=$((kills + 1))
  runner_kill
  runner_start 60
}

event() { # RESTLESS: whether the daemon may die
  local lun
  events=$((events + 1))
  for ((lun = 1; lun <= luns; lun++)); do
    [ -z "${trouble[$lun]}" ] || [ $SECONDS -lt "${trouble_ends[$lun]}" ] || trouble_end $lun
    [ $lun = $fs_lun ] || kill -0 "${load[$lun]}" 2>/dev/null || fail "soak$lun: $(cat "$LAB_LOG/model_io.$lun")"
  done
  roll $luns
  lun=$((ROLL + 1))
  roll 20
  case $ROLL in
    [0-2]) event_look $lun ;;
    3) event_set $lun ;;
    4) event_reconfig $lun ;;
    [5-7]) event_message $lun ;;
    8) event_nonsense $lun ;;
    9 | 10) event_files ;;
    11) event_turnover $lun ;;
    12) if [ "$1" = yes ]; then event_restart; fi ;;
    13) if [ "$1" = yes ]; then event_kill; fi ;;
    *) trouble_begin $lun ;;
  esac
}

### what is left

rss_kib() { sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$RUNNER_PID/status"; }
threads() { find "/proc/$RUNNER_PID/task" -mindepth 1 -maxdepth 1 | wc -l; }
descriptors() { find "/proc/$RUNNER_PID/fd" -mindepth 1 -maxdepth 1 | wc -l; }
settled() { [ "$(threads)" = "$base_threads" ] && [ "$(descriptors)" = "$base_descriptors" ]; }

# With no LUN the daemon has the threads and descriptors it had after its first round, and its memory stays.
look_back() {
  [ "$("$CLONECTL" list --json)" = '[]' ] || fail "LUNs are left: $("$CLONECTL" list)"
  [ -z "$(ls -A /run/tcmu-clone/live)" ] || fail "live maps are left: $(ls /run/tcmu-clone/live)"
  if [ "$RUNNER_PID" != "${base_runner:-}" ]; then
    sleep 2
    base_runner=$RUNNER_PID base_threads=$(threads) base_descriptors=$(descriptors) base_rss=$(rss_kib)
  else
    wait_for 10 settled || fail "left in tcmu-runner: $(threads) threads, $(descriptors) descriptors, at first" \
      "$base_threads and $base_descriptors: $(ls -l "/proc/$RUNNER_PID/fd")"
    [ "$(rss_kib)" -le $((base_rss + rss_slack_kib)) ] || fail "tcmu-runner grows: $(rss_kib) KiB, at first $base_rss"
  fi
  printf '%6s s  round %d: %d events, %d origin troubles, %d restarts, %d kills, %d LUNs (%d compared to the end); ' \
    $SECONDS $round $events $troubles $restarts $kills $lives $compared
  echo "tcmu-runner: $(rss_kib) KiB, $(threads) threads, $(descriptors) descriptors"
}

lab_disk /dev/ubda $dir ext4
runner_start 60
while [ $SECONDS -lt $((MINUTES * 60)) ]; do
  round=$((round + 1))
  for ((lun = 1; lun <= luns; lun++)); do lun_begin $lun; done
  ends=$((SECONDS + round_seconds))
  # The first of six is for the daemon's deaths; in the others it has to stay as it is.
  restless=no
  [ $((round % 6)) != 1 ] || restless=yes
  while [ $SECONDS -lt $ends ]; do
    event $restless
    roll 20
    sleep "$((ROLL / 10)).$((ROLL % 10))"
  done
  for ((lun = 1; lun <= luns; lun++)); do lun_end $lun; done
  look_back
done
runner_stop 60
echo "ok   $round rounds, $events events, $troubles origin troubles, $restarts restarts, $kills kills, $lives LUNs," \
  "nothing lost, nothing left; seed $SEED"
