#!/bin/sh
# usage: man_pages_name_all_keys.sh PRINT_CONFIG_HELP DOCS_FOLDER
# The help of targetcli, tcmu-clone(7) and tcmu-clone.conf(5) name the same keys.
set -eu
keys=$("$1" | sed -nE 's/^  ([a-z_]+)(=[^ ]+)? .*/\1/p' | sort -u)
docs=$2
status=0
[ -n "$keys" ] || { echo "the help names no key"; exit 1; }

same() {
  if [ "$2" != "$3" ]; then
    printf '%s:\n  page: %s\n  help: %s\n' "$1" "$(echo $2)" "$(echo $3)"
    status=1
  fi
}

# Tags such as ".BI dest= PATH", and the bare words, which the text names.
in_7=$(awk '/^\.SH/ { inside = ($2 == "KEYS") }
            inside && tagged && match($2, /^[a-z_]+=/) { print substr($2, 1, RLENGTH - 1) }
            inside && $1 ~ /^\.B/ && $2 ~ /^no_[a-z_]+$/ { print $2 }
            { tagged = /^\.TP/ }' "$docs/tcmu-clone.7" | sort -u)
same "tcmu-clone(7)" "$in_7" "$keys"

in_5=$(awk '/^\.SH/ { inside = ($2 == "FORMAT") }
            inside && (tagged || $2 ~ /^no_/) && $1 ~ /^\.BR?$/ { print }
            { tagged = /^\.TP/ }' "$docs/tcmu-clone.conf.5" | tr ' ",' '\n\n\n' |
  grep -E '^[a-z_]+$' | grep -vx and | sort -u)
same "tcmu-clone.conf(5)" "$in_5" "$(printf '%s\n' "$keys" | grep -vx conf)"
exit $status
