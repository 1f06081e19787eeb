#!/usr/bin/python3
"""Take a disk through its dm-log-writes log, and stop at places where a power cut may have been.

  replay_points.py LOG DISK AFTER_MARK POINTS -- COMMAND...

Boundaries are the FLUSHes, FUAs and marks after the mark AFTER_MARK; POINTS of them, evenly spread and always
with the last one, are visited (0: all). There DISK holds what the log says, and COMMAND is run with
two words more: the number of the entry, and the latest mark. Ends with 1 when COMMAND fails.
"""

import os
import subprocess
import sys

from log_writes import Log

LAST = "dm-log-writes-end"  # The kernel's own mark, when the device goes.


def boundaries(log, after):
    """Numbers of the entries at which to stop, with the latest mark at each."""
    mark, found = None, []
    for number, entry in enumerate(log.entries()):
        mark = entry.mark if entry.mark not in (None, LAST) else mark
        if entry.mark == after or (found and entry.is_boundary()):
            found.append((number, mark))
    return found


def sample(found, points):
    if points == 0 or points >= len(found):
        return dict(found)
    return dict(found[(i + 1) * len(found) // points - 1] for i in range(points))


def main():
    log_path, disk_path, after, points = sys.argv[1:5]
    command = sys.argv[6:]
    log = Log(log_path)
    found = boundaries(log, after)
    if not found:
        sys.exit(f"replay_points: no mark {after} among {log.count} entries")
    chosen = sample(found, int(points))
    disk = os.open(disk_path, os.O_WRONLY)
    for number, entry in enumerate(log.entries()):
        log.apply(entry, disk)
        if number in chosen:
            os.fsync(disk)
            if subprocess.run([*command, str(number), chosen[number]], check=False).returncode != 0:
                sys.exit(f"replay_points: failed at entry {number} of {log.count}, "
                         f"after mark {chosen[number]}")
    print(f"{len(chosen)} of {len(found)} boundaries visited, {log.count} entries in the log")


main()
