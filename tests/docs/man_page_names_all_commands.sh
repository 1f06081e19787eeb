#!/bin/sh
# usage: man_page_names_all_commands.sh CLONECTL DOCS_FOLDER
# clonectl(8) and clonectl --help name the same commands and the same options of each.
set -eu
clonectl=$1
page=$2/clonectl.8
status=0

same() {
  if [ "$2" != "$3" ]; then
    printf '%s:\n  man page: %s\n  --help:   %s\n' "$1" "$(echo $2)" "$(echo $3)"
    status=1
  fi
}

# "COMMAND OPTION..." a line: the tagged paragraphs of the section, not those nested deeper.
described() {
  sed 's/\\-/-/g' "$page" | awk -v section="$1" '
    /^\.SH/ { inside = ($0 == ".SH " section); depth = 0; next }
    /^\.RS/ { depth++ }
    /^\.RE/ { depth-- }
    inside && tagged && depth == 0 { print }
    { tagged = /^\.TP/ }'
}

# Long and short ones.
options_of() { grep -oE -- '(^|[^A-Za-z-])--?[a-z][a-z-]*' | sed -E 's/^[^-]//' | sort -u; }

commands=$("$clonectl" --help | sed -n '/^Subcommands:/,$p' | awk '/^  [a-z]/ { print $1 }' | sort)
in_page=$(described COMMANDS | awk '{ print $2 }' | sort)
[ -n "$commands" ] || { echo "clonectl --help names no command"; exit 1; }
same commands "$in_page" "$commands"

same "global options" "$(described OPTIONS | options_of)" "$("$clonectl" --help | options_of)"
for command in $commands; do
  same "options of $command" "$(described COMMANDS | grep "^\.BR* $command\b" | options_of || true)" \
    "$("$clonectl" "$command" --help | options_of | grep -vxE -- '-h|--help' || true)"
done

# Messages are words of the daemon: the page and the help of the command must agree on them.
messages=$("$clonectl" message --help | tr ', ' '\n\n' | grep -E '^[a-z]+_[a-z_]+$' | sort -u)
in_page=$(sed 's/\\-/-/g' "$page" | sed -n '/^\.RS/,/^\.RE/p' | awk '/^\.BI* [a-z_]+/ { print $2 }' |
  grep _ | sort -u)
same messages "$in_page" "$messages"
exit $status
