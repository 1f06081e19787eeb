#!/bin/bash
# Every kind of bad input through targetcli, clonectl and the kernel's attributes: refused in one sentence
# (printed by targetcli or clonectl, kept in `clonectl list`, or in the log), nothing written, the daemon alive
# and the other LUN at work.
set -eu
# shellcheck source-path=SCRIPTDIR source=../lab/lib.sh
. "$(dirname "$0")/../lab/lib.sh"
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

dir=/mnt/clone
lun=() what=() words=() config=() # One element a case.
refuse() { # NAME WHAT WORDS CONFIG: WORDS is an extended regular expression that the sentence matches
  lun+=("$1") what+=("$2") words+=("$3") config+=("$4")
}

lab_disk /dev/ubda $dir ext4
head -c 8M /dev/urandom >$dir/origin
head -c 8M /dev/urandom >$dir/full
head -c 1M /dev/urandom >$dir/garbage
: >$dir/empty
mkdir $dir/folder
cp $dir/origin $dir/grows
runner_start
runner=$RUNNER_PID

### LUNs that are fine: one stays at work; the others leave state behind that the cases abuse

{
  lines_create good 8M "origin=$dir/origin;dest=$dir/good.img;meta=$dir/good.meta"
  lines_loopback good
  for name in gone_meta gone_dest changed; do
    origin=$dir/origin
    [ $name != changed ] || origin=$dir/grows
    lines_create $name 8M "origin=$origin;dest=$dir/$name.img;meta=$dir/$name.meta;hydration=off"
  done
  for name in gone_meta gone_dest changed; do echo "/backstores/user:clone delete $name"; done
} | targetcli_run "$LAB_LOG/good.log"
lun_loopback_device good || fail "$(cat "$LAB_LOG/good.log")"
for name in gone_meta gone_dest changed; do [ -s $dir/$name.meta ] || fail "$name: $(cat "$LAB_LOG/good.log")"; done
cp $dir/changed.meta $dir/foreign.meta
rm $dir/gone_meta.meta $dir/gone_dest.img
head -c 1M /dev/urandom >>$dir/grows
wait_for 30 clone_reached good 100

### the config string

free="dest=$dir/new.img;meta=$dir/new.meta"
refuse bad1 "an unknown key" "colour" "origin=$dir/origin;$free;colour=red"
refuse bad2 "a bad region size" "region_size" "origin=$dir/origin;$free;region_size=3000"
refuse bad3 "a size that is no number" "region_size" "origin=$dir/origin;$free;region_size=many"
refuse bad4 "a second value for a key" "dest" "origin=$dir/origin;$free;dest=$dir/other.img"
refuse bad5 "no origin" "origin" "$free"
refuse bad6 "no destination" "dest" "origin=$dir/origin;meta=$dir/new.meta"
refuse bad7 "a bad escape" "%" "origin=$dir/origin%ZZ;$free"
refuse bad8 "a colon" ":|%3A|conf" "origin=nbd://127.0.0.1/;$free"
refuse bad9 "a switch that is neither on nor off" "hydration" "origin=$dir/origin;$free;hydration=maybe"
refuse bad10 "255 bytes" "25[45]|long" "origin=$dir/origin;$free;conf=$(printf %0250d 0)"
refuse bad11 "an unknown kind of origin" "gopher|origin" "origin=gopher%3A//x/y;$free"

### origin, destination, metadata

refuse bad12 "a missing origin" "no-such|origin" "origin=$dir/no-such;$free"
refuse bad13 "an empty origin" "empty|origin" "origin=$dir/empty;$free"
refuse bad14 "an origin that cannot be read" "folder|origin" "origin=$dir/folder;$free"
refuse bad15 "a missing folder for the destination" "no-such|dest" "origin=$dir/origin;dest=$dir/no-such/x;meta=$dir/new.meta"
refuse bad16 "a missing folder for the metadata" "no-such|meta" "origin=$dir/origin;dest=$dir/new.img;meta=$dir/no-such/x"
refuse bad17 "a folder as destination" "folder|dest" "origin=$dir/origin;dest=$dir/folder;meta=$dir/new.meta"
refuse bad18 "a folder as metadata" "folder|meta" "origin=$dir/origin;dest=$dir/new.img;meta=$dir/folder"
refuse bad19 "a destination that holds data" "full|init=overwrite" "origin=$dir/origin;dest=$dir/full;meta=$dir/new.meta"
refuse bad20 "metadata that is something else" "garbage|meta" "origin=$dir/origin;dest=$dir/new.img;meta=$dir/garbage"
refuse bad21 "the destination of another LUN" "good|dest|use|lock" "origin=$dir/origin;dest=$dir/good.img;meta=$dir/new.meta"
refuse bad22 "the metadata of another LUN at work" "good|meta|use|lock" "origin=$dir/origin;dest=$dir/new.img;meta=$dir/good.meta"
refuse bad23 "the metadata of another clone" "foreign|meta|changed" "origin=$dir/origin;dest=$dir/new.img;meta=$dir/foreign.meta"
refuse bad24 "origin and destination the same file" "same|origin|dest" "origin=$dir/full;dest=$dir/full;meta=$dir/new.meta"
refuse bad25 "destination and metadata the same file" "same|dest|meta" "origin=$dir/origin;dest=$dir/new.img;meta=$dir/new.img"

### what an earlier LUN of the same name left

refuse gone_meta "a known name whose metadata is lost" "meta" "origin=$dir/origin;dest=$dir/gone_meta.img;meta=$dir/gone_meta.meta"
refuse gone_dest "a known name whose destination is lost" "dest" "origin=$dir/origin;dest=$dir/gone_dest.img;meta=$dir/gone_dest.meta"
refuse changed "an origin that has changed" "origin" "origin=$dir/grows;dest=$dir/changed.img;meta=$dir/changed.meta"

every_file() { find $dir -type f -print0 | sort -z | xargs -0 sha256sum; }
every_file >/run/before

# All of them in one session of targetcli, with a mark after each.
for n in "${!lun[@]}"; do
  [ "$n" != 0 ] || echo "ls /mark--1-"
  echo "/backstores/user:clone create name=${lun[n]} size=8M cfgstring=${config[n]}"
  echo "ls /mark-$n-"
done | targetcli_run "$LAB_LOG/cases.log"
"$CLONECTL" list --json >/run/list.json

# What targetcli says on stdin, without its greeting, its prompt and its empty complaint.
spoken() {
  sed 's|^/> ||' | grep -v -e mark- -e '^$' -e 'creation failed' -e '^targetcli' -e '^Copyright' \
    -e '^For help' -e '^Warning: Could not load' || true
}

bad=0
wrong() { # WHAT HOW
  echo "FAILED: $1: $2" >&2
  bad=$((bad + 1))
}
for i in "${!lun[@]}"; do
  said=$(sed "1,/mark-$((i - 1))-/{/mark-$((i - 1))-/!d}; /mark-$i-/,\$d" "$LAB_LOG/cases.log" | spoken)
  kept=$(jq -rM --arg name "${lun[i]}" '.[] | select(.name == $name) | .reason // empty' /run/list.json)
  if lun_enabled "${lun[i]}"; then
    wrong "${what[i]}" "the LUN was made"
  elif [ -n "$said" ] && grep -qE -- "${words[i]}" <<<"$said"; then
    echo "ok   ${what[i]}: $(tail -n 1 <<<"$said")"
  elif [ -n "$kept" ] && grep -qE -- "${words[i]}" <<<"$kept"; then
    echo "ok   ${what[i]}: $kept"
  else
    wrong "${what[i]}" "no sentence matches '${words[i]}': targetcli: '$said'; clonectl list: '$kept'"
  fi
done

### messages and settings of a LUN at work; these too are told in one sentence, and change nothing

good_status() { clone_status good '[.hydration.enabled, .hydration.threshold, .hydration.batch, .region_bytes, .size_bytes] | @text'; }
good_before=$(good_status)

# refuse_message WORDS WORD...: clonectl ends with 2 and one sentence, which matches WORDS.
refuse_message() {
  local said status=0
  said=$("$CLONECTL" message good -- "${@:2}" 2>&1) || status=$?
  if [ "$status" = 2 ] && [ "$(wc -l <<<"$said")" = 1 ] && grep -qE -- "$1" <<<"$said"; then
    echo "ok   message ${*:2}: $said"
  else
    wrong "message ${*:2}" "clonectl ended with $status and said '$said'"
  fi
}
refuse_message "unknown.*enable_hydration" hydrate
refuse_message "unknown" "enable hydration"
refuse_message "no further word" disable_hydration now
refuse_message "1 or more" hydration_threshold
refuse_message "1 or more" hydration_threshold many
refuse_message "1 or more" hydration_threshold -1
refuse_message "1 or more.*disable_hydration" hydration_threshold 0
refuse_message "1 or more" hydration_threshold 4294967296
refuse_message "1 or more" hydration_threshold 1 2
refuse_message "1 or more" hydration_batch_size 1k
refuse_message "1 or more" hydration_batch_size 0x10

# refuse_setting WORDS ATTRIBUTE VALUE: the kernel refuses the write, and the log has a sentence that matches WORDS.
refuse_setting() {
  local lines said
  lines=$(wc -l <"$LAB_LOG/tcmu-runner.log")
  if echo -n "$3" 2>/dev/null >"$(echo "$lab_configfs"/core/user_*/good/attrib/"$2")"; then
    wrong "$2=$3" "it was taken"
  fi
  said=$(tail -n +$((lines + 1)) "$LAB_LOG/tcmu-runner.log" | grep ERROR | sed 's/.*clone:0: //' | head -n 1)
  if grep -qE -- "$1" <<<"$said"; then
    echo "ok   $2: $said"
  else
    wrong "$2=$3" "no sentence matches '$1': '$said'"
  fi
}
string="clone/origin=$dir/origin;dest=$dir/good.img;meta=$dir/good.meta"
refuse_setting "origin: cannot change" dev_config "clone/origin=$dir/full;dest=$dir/good.img;meta=$dir/good.meta"
refuse_setting "dest: cannot change" dev_config "clone/origin=$dir/origin;dest=$dir/full;meta=$dir/good.meta"
refuse_setting "meta: cannot change" dev_config "clone/origin=$dir/origin;dest=$dir/good.img;meta=$dir/garbage"
refuse_setting "region_size: cannot change" dev_config "$string;region_size=64k"
refuse_setting "region_size.*power of two" dev_config "$string;region_size=3000"
refuse_setting "write_cache: cannot change" dev_config "$string;write_cache=off"
refuse_setting "hydration_threshold" dev_config "$string;hydration_threshold=0"
refuse_setting "hydration_batch_size" dev_config "$string;hydration_batch_size=1.5"
refuse_setting "hydration:.*on.*off" dev_config "$string;hydration=maybe"
refuse_setting "colour" dev_config "$string;colour=red"
refuse_setting "size" dev_size $((4 << 20))
refuse_setting "size" dev_size $(((8 << 20) - 512))
[ "$(good_status)" = "$good_before" ] || wrong "nothing changed" "the status was $good_before and is $(good_status)"

every_file >/run/after
diff /run/before /run/after >/run/diff || wrong "nothing written" "files were written, made or removed: $(cat /run/diff)"
kill -0 "$runner" 2>/dev/null || fail "tcmu-runner died"
head -c 64k /dev/urandom >/run/data
dd if=/run/data of="$LUN_DEV" bs=64k seek=3 oflag=direct conv=fsync status=none
cmp <(dd if="$LUN_DEV" bs=64k skip=3 count=1 iflag=direct status=none) /run/data
cmp -n 131072 "$LUN_DEV" $dir/origin
[ "$bad" = 0 ] || fail "$bad kinds of bad input"
echo "ok   ${#lun[@]} LUNs refused, no file touched, tcmu-runner alive, the other LUN at work"
