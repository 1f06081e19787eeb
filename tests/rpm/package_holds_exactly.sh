#!/bin/bash
# usage: package_holds_exactly.sh SOURCE_FOLDER WORK_FOLDER PROJECT_VERSION
# Builds the package from the tree as it is, uncommitted files included, installs it into a scratch
# root and compares names and modes with the list below.
set -euo pipefail
source_folder=$1
work=$2
version=$3

for tool in rpmbuild rpm nm tar; do
  command -v "$tool" >/dev/null || { echo "skipped: needs $tool (packages rpm, binutils)"; exit 77; }
done

fail() {
  echo "FAILED: $*"
  exit 1
}

same() { diff -u --label "expected: $1" --label "found: $1" <(echo "$2") <(echo "$3") || fail "$1"; }

# Tracked and new files, without what is ignored and what was deleted.
list_tree() {
  cd "$source_folder"
  if git -c safe.directory='*' rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    git -c safe.directory='*' ls-files -co --exclude-standard
  else
    find . -path ./build -prune -o -type f -printf '%P\n'
  fi | sort -u | while IFS= read -r file; do
    if [ -e "$file" ]; then printf '%s\n' "$file"; fi
  done
}

build_package() {
  rm -rf "$work"
  mkdir -p "$work/SOURCES"
  list_tree >"$work/files"
  tar -C "$source_folder" -czf "$work/SOURCES/tcmu-clone-$version.tar.gz" \
    --transform "s,^,tcmu-clone-$version/,S" -T "$work/files"
  # The package's contents do not depend on the optimisation, and without it the build is short.
  if ! rpmbuild -bb --nodeps --define "_topdir $work" --define 'debug_package %{nil}' \
    --define '_build_id_links none' --define 'optflags -O0' "$source_folder/rpm/tcmu-clone.spec" >"$work/log" 2>&1; then
    tail -n 40 "$work/log"
    fail "rpmbuild, see $work/log"
  fi
}

# PATH MODE of everything in the scratch root that is ours, without what rpm of one distribution or
# another adds: the compression of man pages, the version in the folders of %doc and %license.
installed() {
  (cd "$root" && find . \( -type f -o -type l -o -type d \( -name 'clone.d' -o -name '*.service.d' \
    -o -path '*/lib/tcmu-clone' \) \) -not -path './scratch-db/*' -printf '/%P %m\n') |
    sed -E "s/\.(gz|zst|xz|bz2) / /; s,/(doc|licenses)/tcmu-clone-$version/,/\1/tcmu-clone/," | sort
}

spec_version=$(sed -n 's/^Version: *//p' "$source_folder/rpm/tcmu-clone.spec")
same "version of the spec" "$version" "$spec_version"

build_package
packages=("$work"/RPMS/*/*.rpm)
[ "${#packages[@]}" -eq 1 ] || fail "one package expected, found: ${packages[*]}"
package=${packages[0]}
libdir=$(rpm -E '%{_libdir}')
libexec=$(rpm -E '%{_libexecdir}')/tcmu-clone

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(unshare --map-root-user)
root=$work/root
mkdir -p "$root"
"${as_root[@]}" rpm --root "$root" --dbpath /scratch-db -i --nodeps --noscripts "$package"

expected=$(sort <<LIST
/etc/tcmu/clone.d 700
/usr/bin/clonectl 755
$libdir/tcmu-runner/handler_clone.so 755
/usr/lib/systemd/system/rtslib-fb-targetctl.service.d 755
/usr/lib/systemd/system/rtslib-fb-targetctl.service.d/tcmu-clone.conf 644
/usr/lib/systemd/system/target.service.d 755
/usr/lib/systemd/system/target.service.d/tcmu-clone.conf 644
/usr/lib/systemd/system/tcmu-clone-nvmet.service 644
/usr/lib/systemd/system/tcmu-runner.service.d 755
/usr/lib/systemd/system/tcmu-runner.service.d/tcmu-clone.conf 644
$libexec/disks.py 644
$libexec/lio.py 644
$libexec/nvmet.py 644
$libexec/saved.py 644
$libexec/target_helper.py 755
/usr/share/doc/tcmu-clone/README.md 644
/usr/share/licenses/tcmu-clone/LICENSE 644
/usr/share/man/man5/tcmu-clone.conf.5 644
/usr/share/man/man7/tcmu-clone.7 644
/usr/share/man/man8/clonectl.8 644
/var/lib/tcmu-clone 700
LIST
)
same "installed files" "$expected" "$(installed)"

handler=$root$libdir/tcmu-runner/handler_clone.so
same "exported symbols" "handler_init" "$(nm -D --defined-only "$handler" | awk '{ print $3 }')"
same "owner of the files" "root root" \
  "$(rpm -qp --qf '[%{FILEUSERNAME} %{FILEGROUPNAME}\n]' "$package" | sort -u)"
same "provided names" "tcmu-clone" "$(rpm -qp --provides "$package" | sed 's/[ (].*//' | sort -u)"
rpm -qp --requires "$package" | grep -qx 'tcmu-runner >= 1.5.4' || fail "requires no tcmu-runner"
rpm -qp --requires "$package" | grep -qx python3-rtslib || fail "requires no python3-rtslib"
same "programs of the units" "$libexec/target_helper.py nvme-down $libexec/target_helper.py nvme-up" \
  "$(sed -n 's/^Exec[A-Za-z]*=//p' "$root/usr/lib/systemd/system/tcmu-clone-nvmet.service" | sort | tr '\n' ' ' | sed 's/ $//')"
[ "$(strings "$root/usr/bin/clonectl" | grep -cx "$libexec/target_helper.py")" = 1 ] || fail "clonectl looks elsewhere for its helper"
rpm -qp --recommends "$package" | grep -qx targetcli || fail "recommends no targetcli"
# The NVMe exports are stopped when the package goes, by what goes with it; nothing else is touched.
same "units that scriptlets touch" "systemctl stop tcmu-clone-nvmet.service" \
  "$(rpm -qp --scripts "$package" | grep -oE 'ldconfig|systemctl [a-z-]+ [a-z.-]+')"
same "when the NVMe exports are stopped" preuninstall \
  "$(rpm -qp --scripts "$package" | awk '/^[a-z]+ scriptlet/ { at = $1 } /systemctl stop/ { print at }')"
unit=$root/usr/lib/systemd/system/tcmu-clone-nvmet.service
grep -qx 'Wants=network-online.target' "$unit" || fail "the NVMe exports do not want the network"
grep -qx 'After=.* network-online.target' "$unit" || fail "the NVMe exports do not wait for the network"
grep -qx 'Restart=on-failure' "$unit" || fail "the NVMe exports are not tried again"
for unit in target rtslib-fb-targetctl; do
  dropin=$root/usr/lib/systemd/system/$unit.service.d/tcmu-clone.conf
  same "order of $unit" $'After=tcmu-runner.service\nWants=tcmu-runner.service tcmu-clone-nvmet.service' \
    "$(grep '=' "$dropin" | sort)"
done
# An option that gives the daemon its own mounts would lose the live maps' tmpfs at every restart.
same "hardening of tcmu-runner" $'[Service]\nNoNewPrivileges=yes' \
  "$(grep -v '^#' "$root/usr/lib/systemd/system/tcmu-runner.service.d/tcmu-clone.conf")"
same "clonectl --version" "$version" "$("$root/usr/bin/clonectl" --version)"
echo "$(basename "$package"): $(installed | wc -l) entries, exactly those expected"
