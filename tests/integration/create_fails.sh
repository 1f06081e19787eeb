#!/bin/bash
# clonectl create when something is wrong: what cannot be is refused before anything is touched, and when a
# step fails, is interrupted or killed, all that was made is taken back: nothing is left in configfs, in files,
# in the daemon's list, in the saved configuration. And delete of what is only half there. ROUNDS (4): how often
# it is interrupted, and how often killed.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$here/../lab/lib.sh"
# shellcheck source-path=SCRIPTDIR source=create.sh
. "$here/create.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

readonly iqn=iqn.2026-01.com.example:vm
seed=${SEED:-$(date +%s)}

# fails PATTERN WHAT NAME OPTION...: with 1, and nothing is left.
fails() {
  expect 1 "$1" create "$3" --origin nbd://127.0.0.1/ --dest "$dir/$3.img" "${@:4}"
  nothing_is_left "$2"
}
misuse() { expect 2 "$1" create vm1 --origin $dir/origin "${@:2}"; } # PATTERN OPTION...

is_saved() { jq -e --arg name "$1" 'any(.storage_objects[]; .name == $name)' $saved >/dev/null; }

prepare /dev/ubda
runner_stop 30
before_daemon=$(find $lab_configfs -type d | sort | md5sum)
expect 1 "is tcmu-runner running" create vm1 --origin $dir/origin --dest $dir/vm1.img --loopback
[ "$(find $lab_configfs -type d | sort | md5sum)" = "$before_daemon" ] || fail "touched configfs without the daemon"
runner_start
"$CLONECTL" list >/dev/null

### Refused beforehand

before
for name in 'a b' 'a/b' '..' '.hidden' '-x' 'a;b' 'a:b' 'a,b' 'a%41' 'ä' "$(printf 'x%.0s' {1..128})"; do
  expect 2 . create "--origin=$dir/origin" "--dest=$dir/x" --loopback -- "$name"
done
misuse "did you mean region_size" --dest $dir/x --set regionsize=8k
misuse "is given twice" --dest $dir/x --set dest=/y
misuse "same path" --dest $dir/origin
misuse "cannot name another one" --dest $dir/x --set conf=y
misuse "absolute path" --dest x
misuse "newline" --dest $'/x\ninit = overwrite'
misuse "is not a size" --dest $dir/x --size 1000
misuse "not ADDRESS" --dest $dir/x --iscsi $iqn --listen 127.0.0.1:70000
misuse "nobody may connect" --dest $dir/x --nvme nqn.2026-01.com.example:vm
misuse . --dest $dir/x --loopback --iscsi $iqn
misuse "belong to --iscsi" --dest $dir/x --allow any
nothing_is_left "names, keys, sizes and options that cannot be"
expect 1 "there is no such file" create vm1 --origin $dir/missing --dest $dir/x
expect 1 "refused" create vm1 --origin nbd://127.0.0.1:10999/ --dest $dir/x
nothing_is_left "an origin that is not there"

### Each step

expect 1 "No such file" create vm1 --origin nbd://127.0.0.1/ --dest $dir/no/vm1.img --loopback
nothing_is_left "a destination that cannot be made"
[ "$(grep -c 'open failed: destination .*/no/vm1.img' "$LAB_LOG/tcmu-runner.log")" = 1 ] || fail "opened more than once"
expect 1 "origin nbd" create vm1 --origin nbd://127.0.0.1:10999/ --dest $dir/vm1.img --size 64m --loopback
nothing_is_left "an origin that is away when the LUN opens"
head -c 1M /dev/urandom >$dir/full.img
before
fails "holds data" "a destination that holds data" full --loopback
fails "IQN|iqn|WWN|wwn" "an IQN that is none" vm1 --iscsi nonsense --allow any
fails "Choose another with --listen" "a port that is taken" vm1 --iscsi $iqn --allow any --listen 127.0.0.1:10809
fails "nvmet" "a kernel without NVMe" vm1 --nvme nqn.2026-01.com.example:vm --allow any

# The last step, when the LUN is open, exported and hydrating: everything is there to be taken back.
truncate -s 8M $dir/short.img
mkdir -p $saved.clonectl # Where the new one is written first.
before
for how in --loopback "--iscsi $iqn --allow any"; do
  for name in vm1 short; do
    # shellcheck disable=SC2086
    expect 1 "saveconfig.json.clonectl: Is a directory" create $name --origin nbd://127.0.0.1/ --dest $dir/$name.img $how
    nothing_is_left "$name $how that cannot be saved, after everything else"
  done
done
rmdir $saved.clonectl
[ "$(stat -c '%b %s' $dir/short.img)" = "0 $((8 << 20))" ] || fail "the destination is not as it was: $(stat $dir/short.img)"
cp $saved /run/saved 2>/dev/null || : >/run/saved
echo "not JSON" >$saved
expect 1 "is not what LIO saved" create vm1 --origin nbd://127.0.0.1/ --dest $dir/vm1.img --loopback
[ "$(cat $saved)" = "not JSON" ] || fail "the saved configuration was written over"
rm $saved
[ ! -s /run/saved ] || cp /run/saved $saved
nothing_is_left "a saved configuration that cannot be read"
echo "ok   every step that fails takes back what was done before it"

### At once, and without the daemon

before
creates=()
for name in vm1 vm2 vm3; do
  "$CLONECTL" create $name --origin nbd://127.0.0.1/ --dest $dir/$name.img --iscsi $iqn --allow any >/run/said.$name 2>&1 &
  creates+=($!)
done
for pid in "${creates[@]}"; do wait "$pid" || fail "three at once: $(cat /run/said.*)"; done
[ "$(cat /run/said.* | grep -Eo "^LUN [0-9]" | sort | tr '\n' ' ')" = "LUN 0 LUN 1 LUN 2 " ] || fail "$(cat /run/said.*)"
runner_stop 30
expect 1 "is tcmu-runner running" delete vm1
runner_start
"$CLONECTL" list >/dev/null
for name in vm1 vm2 vm3; do expect 0 "removed: destination" delete $name --purge; done
nothing_is_left "three at once, a delete without the daemon"
echo "ok   three at once are made one after the other; without the daemon delete touches nothing"

### Interrupted and killed

before
RANDOM=$seed whole=0 taken_back=0
for ((round = 0; round < ${ROUNDS:-4}; round++)); do
  "$CLONECTL" create vm1 --origin nbd://127.0.0.1/ --dest $dir/vm1.img --iscsi $iqn --allow any >/run/said 2>&1 &
  sleep "$((RANDOM % 3)).$((RANDOM % 10))"
  kill -INT $! 2>/dev/null || true
  if wait $!; then
    whole=$((whole + 1))
    expect 0 . delete vm1 --purge
  else
    taken_back=$((taken_back + 1))
    grep -q "interrupted: nothing was changed" /run/said || fail "interrupted, it says: $(cat /run/said)"
  fi
  nothing_is_left "interruption $round" >/dev/null
done
echo "ok   interrupted at random (seed $seed): $whole ended whole, $taken_back taken back"

killed=0
for ((round = 0; round < ${ROUNDS:-4}; round++)); do
  "$CLONECTL" create vm1 --origin nbd://127.0.0.1/ --dest $dir/vm1.img --iscsi $iqn --allow any >/run/said 2>&1 &
  sleep "$((RANDOM % 3)).$((RANDOM % 10))"
  kill -KILL $! 2>/dev/null || true
  wait $! 2>/dev/null && status=0 || status=$?
  [ $status = 0 ] || killed=$((killed + 1))
  # The helper takes back what is the kernel's, unless all of it was done; the files are for delete.
  wait_for 20 no_helper
  ! lun_exists vm1 || is_saved vm1 || fail "half a LUN is there after the death of clonectl"
  "$CLONECTL" delete vm1 --purge >/run/said 2>&1 || grep -q "there is no such LUN" /run/said || fail "$(cat /run/said)"
  nothing_is_left "kill $round" >/dev/null
done
echo "ok   killed at random: $killed of ${ROUNDS:-4}, delete --purge leaves nothing"
