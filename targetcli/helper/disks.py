"""Who uses a disk of this machine."""
import contextlib
import glob
import os
import stat
import time

# udev and the like look at disks for a moment.
PATIENCE = 2.0


def in_use(disk):
    """A sentence on who has it: mounts, other devices on top, processes; None: nobody."""
    end = time.monotonic() + PATIENCE
    while True:
        why = mounted(disk) or held(disk) or opened(disk)
        if not why or time.monotonic() >= end:
            return why
        time.sleep(0.2)


def numbers(disk):
    """Device numbers of the disk and its partitions."""
    names = [disk] + [f"/dev/{os.path.basename(part)}" for part in
                      glob.glob(f"/sys/block/{os.path.basename(disk)}/{os.path.basename(disk)}*")]
    found = set()
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            found.add(os.stat(name).st_rdev)
    return found


def mounted(disk):
    wanted = numbers(disk)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
        for line in mounts:
            fields = line.split()
            major, minor = map(int, fields[2].split(":"))
            if os.makedev(major, minor) in wanted:
                return f"mounted on {fields[4]}: unmount it first"
    return None


def held(disk):
    """By LVM, multipath, MD, swap: whoever claims a device, the kernel tells O_EXCL."""
    name = os.path.basename(disk)
    holders = glob.glob(f"/sys/block/{name}/holders/*") + glob.glob(f"/sys/block/{name}/{name}*/holders/*")
    if holders:
        return f"held by {', '.join(os.path.basename(holder) for holder in holders)}: take that down first"
    try:
        os.close(os.open(disk, os.O_RDONLY | os.O_EXCL))
    except OSError:
        return "claimed by the kernel, as swap is, or a file system in another mount namespace: find out with lsblk"
    return None


def opened(disk):
    wanted = numbers(disk)
    for link in glob.glob("/proc/[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            info = os.stat(link)
            if stat.S_ISBLK(info.st_mode) and info.st_rdev in wanted:
                pid = link.split("/")[2]
                with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as comm:
                    return f"opened by {comm.read().strip()} (process {pid}): end that first"
    return None
