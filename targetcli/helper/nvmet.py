"""NVMe over TCP: subsystems of the kernel's nvmet, through configfs.

One subsystem a LUN, with its loopback disk as the only namespace; ports are shared. What can be undone is
handed to `undo` as soon as it is done. Errors: exceptions, with a sentence.
"""
import contextlib
import glob
import os
import subprocess

ESTABLISHED = "01"


class Nvmet:
    def __init__(self, root=None):
        configfs = os.environ.get("TCMU_CLONE_CONFIGFS") or "/sys/kernel/config"
        self.root = root or f"{configfs}/nvmet"

    def subsystem(self, nqn):
        return f"{self.root}/subsystems/{nqn}"

    def exists(self, nqn):
        return os.path.isdir(self.subsystem(nqn))

    def disks(self, but=None):
        """{disk: sentence} of what is exported, without the subsystem `but`."""
        exported = {}
        for path in glob.glob(f"{self.root}/subsystems/*/namespaces/*/device_path"):
            nqn = path.split("/")[-4]
            if nqn != but:
                exported[os.path.realpath(read(path))] = f"the NVMe subsystem {nqn} exports it: remove that first"
        return exported

    ### setting up

    def prepare(self, export, undo):
        """The subsystem, which nobody can see yet, who may connect, and its port. The export, with what was made."""
        nqn = export["target"]
        if not os.path.isdir(self.root):
            load("nvmet")
        if self.exists(nqn):
            raise ValueError(f"{nqn}: there is such a subsystem already: choose another NQN")
        subsystem = self.subsystem(nqn)
        make(subsystem, undo)
        write(f"{subsystem}/attr_allow_any_host", int(export["allow"] == ["any"]))
        hosts = [host for host in export["allow"] if host != "any"]
        made = [host for host in hosts if self.allow(subsystem, host, undo)]
        port_made = self.find_port(export) is None
        if port_made:
            self.make_port(export, undo)
        return {**export, "hosts_made": made, "port_made": port_made}

    def allow(self, subsystem, host, undo):
        """Whether the host was not known yet."""
        made = not os.path.isdir(f"{self.root}/hosts/{host}")
        if made:
            make(f"{self.root}/hosts/{host}", undo)
        link(f"{self.root}/hosts/{host}", f"{subsystem}/allowed_hosts/{host}", undo)
        return made

    def find_port(self, export):
        """The one with this address, or None."""
        for port in sorted(glob.glob(f"{self.root}/ports/*")):
            if all(read(f"{port}/addr_{key}") == value for key, value in address_of(export).items()):
                return port
        return None

    def make_port(self, export, undo):
        load("nvmet-tcp")
        taken = {int(os.path.basename(port)) for port in glob.glob(f"{self.root}/ports/*")}
        port = f"{self.root}/ports/{next(n for n in range(1, 65536) if n not in taken)}"
        make(port, undo)
        for key, value in address_of(export).items():
            write(f"{port}/addr_{key}", value)

    def show(self, export, disk, serial, undo):
        """The port last: an initiator that waits for the subsystem drops its disk when it finds this without.
        `serial`: a UUID; initiators know the disk by it wherever it is exported from."""
        nqn = export["target"]
        subsystem = self.subsystem(nqn)
        write(f"{subsystem}/attr_serial", serial.replace("-", "")[:20])
        namespace = f"{subsystem}/namespaces/1"
        make(namespace, undo)
        write(f"{namespace}/device_path", disk)
        write(f"{namespace}/device_uuid", serial)
        write(f"{namespace}/enable", 1)
        try:
            link(subsystem, f"{self.find_port(export)}/subsystems/{nqn}", undo)
        except OSError as error:
            raise ValueError(f"port {export['address']}:{export['port']}: cannot be opened: {error.strerror}: "
                             "something else has it, or it is not this host's. Choose another with --listen") from error

    ### taking down

    def ports_of(self, nqn):
        return [os.path.dirname(os.path.dirname(path)) for path in glob.glob(f"{self.root}/ports/*/subsystems/*")
                if os.path.basename(path) == nqn]

    def in_use(self, nqn):
        """A sentence on who is connected; None: nobody. Kernels from 6.11 on tell in debugfs; before, only the
        connections of a port are to be seen."""
        if not self.exists(nqn):
            return None
        known = f"/sys/kernel/debug/nvmet/{nqn}"
        if os.path.isdir(known):
            return (f"{nqn}: an initiator is connected: nvme disconnect -n {nqn} there first"
                    if glob.glob(f"{known}/ctrl*") else None)
        for port in self.ports_of(nqn):
            number = int(read(f"{port}/addr_trsvcid"))
            if not connected(number):
                continue
            others = len(os.listdir(f"{port}/subsystems")) > 1
            return (f"{nqn}: initiators are connected to port {number}: nvme disconnect -n {nqn} there first"
                    + (", and, as this kernel does not tell to which of the port's subsystems they are, add --force"
                       if others else ""))
        return None

    def shown(self, nqn):
        return [os.path.realpath(read(path)) for path in glob.glob(f"{self.subsystem(nqn)}/namespaces/*/device_path")
                if os.path.exists(read(path))]

    def is_of(self, export, disks):
        """Whether the subsystem is there and shows one of these disks, or nothing, as a half-made one does. Not an
        admin's that took the name over."""
        return self.exists(export["target"]) and set(self.shown(export["target"])) <= set(disks)

    def is_up(self, export, disks):
        """Whole, and with a disk that is there: not what is left of LUNs that were cleared."""
        return bool(self.is_of(export, disks) and self.shown(export["target"]) and self.ports_of(export["target"]))

    def take_down(self, export, disks):
        """Everything of it, also of a half-made one, and what was made for it and serves nobody else. Whether there
        was something."""
        if not self.is_of(export, disks):
            return False
        nqn = export["target"]
        subsystem = self.subsystem(nqn)
        for port in self.ports_of(nqn):
            os.unlink(f"{port}/subsystems/{nqn}")  # Initiators lose their connections here, and wait.
        for namespace in glob.glob(f"{subsystem}/namespaces/*"):
            os.rmdir(namespace)
        for host in glob.glob(f"{subsystem}/allowed_hosts/*"):
            os.unlink(host)
        os.rmdir(subsystem)
        for host in export.get("hosts_made", []):
            with contextlib.suppress(OSError):  # Another subsystem's too.
                os.rmdir(f"{self.root}/hosts/{host}")
        port = self.find_port(export) if export.get("port_made") else None
        if port and not os.listdir(f"{port}/subsystems"):
            os.rmdir(port)
        return True


def address_of(export):
    return {"trtype": "tcp", "adrfam": "ipv6" if "[" in export["address"] else "ipv4",
            "traddr": export["address"].strip("[]"), "trsvcid": str(export["port"])}


def connected(port):
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError):
            with open(table, encoding="ascii") as lines:
                for line in lines:
                    fields = line.split()
                    if fields[3] == ESTABLISHED and int(fields[1].rsplit(":")[-1], 16) == port:
                        return True
    return False


def load(module):
    done = subprocess.run(["modprobe", module], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"kernel module {module}: cannot be loaded: {done.stderr.strip() or 'modprobe failed'}: "
                         "install a kernel that has it")


def make(path, undo):
    os.mkdir(path)
    undo.add(path, lambda: os.rmdir(path))


def link(target, path, undo):
    os.symlink(target, path)
    undo.add(path, lambda: os.unlink(path))


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


def write(path, value):
    with open(path, "w", encoding="utf-8") as file:
        file.write(str(value))
