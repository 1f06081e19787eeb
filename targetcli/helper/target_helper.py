#!/usr/bin/python3 -sE
"""Sets LUNs up in the kernel's targets and takes them down, for clonectl.

One request a line of JSON on the standard input, one reply a line on the standard output:
    {"do": "backstore", ...}    ->    {"ok": true, "result": {...}}
                                or    {"ok": false, "error": "what: why: what to do"}
Whatever was made is undone, the last thing first, when the input ends without a commit: also when clonectl
is killed. What cannot be undone is told in one more reply.

    prepare    name, export               everything that an export needs but the LUN itself
    backstore  name, size, config         the LUN; the kernel waits in here for the daemon to open it
    export     name, export, serial       gives it its serial number and shows it; where: a disk, a number
    in_use     name, export               why taking it down would hurt somebody, or null
    remove     name, export               takes it down everywhere; what was there
    commit     name                       keeps what was done and saves it for the next boot
An export is null or {"fabric": "loopback" | "iscsi" | "nvme", "target": ..., "address": ..., "port": ...,
"allow": [...], "made": bool}; prepare answers it with what was made besides, for remove: "loopback" (a target),
"port_made", "hosts_made". With the word nvme-up or nvme-down instead of requests: all NVMe exports, for
the start and the stop of the system, since the kernel's nvmet has nothing that remembers them.
"""
import glob
import json
import os
import signal
import sys

sys.dont_write_bytecode = True

CONF_DIR = os.environ.get("TCMU_CLONE_CONF_DIR") or "/etc/tcmu/clone.d"


class Undo:
    """What to do to take back what was done."""

    def __init__(self):
        self.steps = []

    def add(self, what, step):
        self.steps.append((what, step))

    def run(self):
        """All of it; the sentences of what failed."""
        failures = []
        while self.steps:
            what, step = self.steps.pop()
            try:
                step()
            except Exception as error:  # The others are still to be taken back.
                failures.append(f"{what}: {error}")
        return failures


class Session:
    """The requests of one clonectl."""

    def __init__(self):
        import lio
        import nvmet
        import saved
        self.undo = Undo()
        self.lio = lio
        self.saved = saved
        self.nvmet = nvmet.Nvmet()
        self.shown, self.portal = None, None  # Of the LUN that was made: (fabric, target), (address, port)
        self.removed = None  # Of the LUN that was removed: [(fabric, target)] made for it

    def answer(self, request):
        return getattr(self, "do_" + request.pop("do"))(**request)

    def do_prepare(self, name, export):
        if self.lio.find(name):
            raise ValueError(f"{name}: a backstore of this name is there: delete it, or choose another name")
        self.saved.refuse_another_handlers(name)
        self.lio.start()
        if export and export["fabric"] == "iscsi":
            export = self.lio.prepare_iscsi(export, self.undo)
        elif export:
            if export["fabric"] == "nvme":
                export = self.nvmet.prepare(export, self.undo)
            export["loopback"] = self.lio.prepare_loopback(self.undo)
        return {"export": export and inherited(export)}

    def do_backstore(self, name, size, config):
        self.lio.create(name, size, config, self.undo)

    def do_export(self, name, export, serial):
        self.lio.set_serial(name, serial)
        if not export:
            return {}
        if export["fabric"] == "iscsi":
            self.shown = ("iscsi", export["target"])
            self.portal = self.lio.portal_of(export) if export["address"] else None
            return {"lun": self.lio.export_iscsi(name, export, self.undo)}
        self.shown = ("loopback", export["loopback"])
        disk = self.lio.export_loopback(name, export["loopback"], self.undo)
        if export["fabric"] == "nvme":
            self.nvmet.show(export, disk, serial, self.undo)
        return {"disk": disk}

    def do_in_use(self, name, export):
        disks = self.lio.disks_of(self.lio.find(name))
        nvme = export and export["fabric"] == "nvme" and self.nvmet.is_of(export, disks)
        nqn = export["target"] if nvme else None
        why = self.nvmet.in_use(nqn) if nqn else None
        return {"why": why or self.lio.in_use(name, self.nvmet.disks(but=nqn))}

    def do_remove(self, name, export):
        self.saved.refuse_another_handlers(name)
        made = made_for(export or {})
        disks = self.lio.disks_of(self.lio.find(name))
        there = bool(export and export["fabric"] == "nvme" and self.nvmet.take_down(export, disks))
        there |= self.lio.remove(name, made)
        self.removed = made
        return {"removed": there}

    def do_commit(self, name):
        self.saved.refuse_another_handlers(name)
        if self.removed is None:
            changed = self.lio.save(name, self.shown, self.portal)
        else:
            changed = self.saved.drop(name, self.removed)
        self.undo = Undo()
        return {"saved": changed}


def made_for(export):
    """The targets, (fabric, wwn), to go with their last LUN."""
    made = [("iscsi", export["target"])] if export.get("fabric") == "iscsi" and export["made"] else []
    return made + ([("loopback", export["loopback"])] if export.get("loopback") else [])


def inherited(export):
    """What an earlier create made and others now use, too, goes with the last of them, whichever that is."""
    others = [other for _, other in exports(export["fabric"])[0]]
    if export["fabric"] == "iscsi":
        export["made"] |= any(other.get("target") == export["target"] and other.get("made") for other in others)
    if export["fabric"] == "nvme":
        export["port_made"] |= any(other.get("port_made") and all(
            other.get(key) == export[key] for key in ("address", "port")) for other in others)
        known = {host for other in others for host in other.get("hosts_made", [])}
        export["hosts_made"] = [host for host in export["allow"] if host in known.union(export["hosts_made"])]
    return export


def text_of(error):
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'the kernel'}: {error.strerror}"
    return str(error) or type(error).__name__


def finish_whatever_comes():
    """A session that ends, or a system that goes down, means clonectl; here is what takes back, and must not stop."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def serve():
    def reply(**members):
        print(json.dumps(members), flush=True)

    try:
        session = Session()
    except ImportError as error:
        reply(ok=False, error=f"{error}: install python3-rtslib-fb (Debian) or python3-rtslib")
        return
    try:
        for line in sys.stdin:
            try:
                reply(ok=True, result=session.answer(json.loads(line)))
            except Exception as error:  # Of rtslib come many kinds.
                reply(ok=False, error=text_of(error))
    finally:
        failures = session.undo.run()
        if failures:
            reply(ok=False, error="; ".join(failures))


def exports(fabric):
    """[(name, export)] of all LUNs that clonectl has exported this way, and the sentences of what cannot be read."""
    found, failures = [], []
    for path in sorted(glob.glob(f"{CONF_DIR}/*.export")):
        try:
            with open(path, encoding="utf-8") as file:
                export = json.load(file)
            if export["fabric"] == fabric:
                found.append((os.path.basename(path)[: -len(".export")], export))
        except (OSError, ValueError, LookupError, TypeError) as error:
            failures.append(f"{path}: is not what clonectl create wrote: {text_of(error)}: delete that LUN's export, "
                            "or mend it")
    return found, failures


def bring_up(session, name, export):
    """One NVMe export again, whole or not at all. Its disk first: what takes long is not for the initiators."""
    disk, serial = session.lio.loopback_disk(name), session.lio.serial(name)
    try:
        session.nvmet.prepare(export, session.undo)
        session.nvmet.show(export, disk, serial, session.undo)
        session.undo = Undo()
    finally:
        session.undo.run()


def nvme(up):
    shown, failures = exports("nvme")
    session = Session() if shown else None
    for name, export in shown:
        try:
            disks = session.lio.disks_of(session.lio.find(name))
            if up and session.nvmet.is_up(export, disks):
                continue
            session.nvmet.take_down(export, disks)
            if up:
                bring_up(session, name, export)
        except Exception as error:  # The others are to be served all the same.
            failures.append(f"{name}: {text_of(error)}")
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


def main(words):
    finish_whatever_comes()
    if words in (["nvme-up"], ["nvme-down"]):
        return nvme(words == ["nvme-up"])
    return serve()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
