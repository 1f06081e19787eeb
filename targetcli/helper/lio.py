"""Backstores, loopback and iSCSI targets of LIO, through rtslib.

What can be undone is handed to `undo` as soon as it is done. Errors: exceptions, with a sentence.
"""
import contextlib
import os
import time

import disks
import saved
from rtslib_fb import FabricModule, LUN, MappedLUN, NetworkPortal, NodeACL, RTSRoot, TPG, Target
from rtslib_fb import UserBackedStorageObject
from rtslib_fb.tcm import StorageObject, bs_params

CORE = "/sys/kernel/config/target/core"
# The kernel's 64 KiB a command halves the throughput, and cannot be changed once the LUN is there.
HW_MAX_SECTORS = 2048
# Address space for a full queue, 128 commands of 1 MiB. The kernel's 1024 is more than many LUNs get.
MAX_DATA_AREA_MB = 128
DISK_PATIENCE = 15  # Seconds until a loopback disk has its node.


def find(name):
    """The user backstore of this name, or None."""
    with contextlib.suppress(FileNotFoundError):
        for hba in os.listdir(CORE):
            if hba.startswith("user_") and os.path.isdir(f"{CORE}/{hba}/{name}"):
                return StorageObject.so_from_path(f"{CORE}/{hba}/{name}")
    return None


def must_find(name):
    backstore = find(name)
    if backstore is None:
        raise ValueError(f"{name}: its backstore is gone: somebody else took it down")
    return backstore


class Backstore(UserBackedStorageObject):
    def _enable(self):
        """Once. The buffered write of rtslib is repeated when its file goes, and a LUN that was refused would be
        opened a second time, with nobody looking at the outcome."""
        fd = os.open(f"{self.path}/enable", os.O_WRONLY)
        try:
            os.write(fd, b"1")
        finally:
            os.close(fd)


bs_params[Backstore] = bs_params[UserBackedStorageObject]


def start():
    RTSRoot()  # Mounts configfs, loads the module and sets LIO's folder, which must precede all else.


def create(name, size, config, undo):
    backstore = Backstore(name, config, size, hw_max_sectors=HW_MAX_SECTORS,
                                        control=f"max_data_area_mb={MAX_DATA_AREA_MB}")
    undo.add(f"backstore {name}", backstore.delete)


def serial(name):
    return must_find(name).wwn


def set_serial(name, number):
    must_find(name).wwn = number


### loopback


def prepare_loopback(undo):
    """A target of its own, its wwn."""
    target = Target(FabricModule("loopback"))
    undo.add(f"loopback target {target.wwn}", target.delete)
    return target.wwn


def export_loopback(name, wwn, undo):
    """The disk."""
    lun = LUN(TPG(find_target("loopback", wwn), 1), 0, must_find(name))
    undo.add(f"LUN of {wwn}", lun.delete)
    return loopback_disk(name)


def loopback_disk(name):
    end = time.monotonic() + DISK_PATIENCE
    while time.monotonic() < end:
        for disk in disks_of(must_find(name)):
            if os.path.exists(disk):
                return disk
        time.sleep(0.05)
    raise ValueError(f"{name}: its loopback disk did not appear in {DISK_PATIENCE} s: see dmesg")


def disks_of(backstore):
    """Its nodes, over loopback; `backstore` may be None."""
    if backstore is None or not backstore.is_configured():
        return []
    return [disk for lun in backstore.attached_luns for disk in nodes_of(lun)]


def nodes_of(lun):
    """Of a loopback LUN, whose port knows its SCSI address but for the LUN."""
    try:
        with open(f"{lun.parent_tpg.path}/address", encoding="ascii") as file:
            address = file.read().strip()
        return [f"/dev/{disk}" for disk in os.listdir(f"/sys/bus/scsi/devices/{address}:{lun.lun}/block")]
    except FileNotFoundError:
        return []


### iSCSI


def find_target(fabric, wwn):
    return next((target for target in FabricModule(fabric).targets if target.wwn == wwn), None)


def prepare_iscsi(export, undo):
    """The target, its portal and who may log in; one that is there keeps what it has."""
    fabric = FabricModule("iscsi")
    wwn, _ = fabric.to_normalized_wwn(export["target"])
    target = find_target("iscsi", wwn)
    made = target is None
    if made and saved.find_target(saved.load(), "iscsi", wwn):
        raise ValueError(f"{wwn}: this target is saved for the next boot, but not there now: bring it back with "
                         "targetctl restore, or choose another IQN")
    if made and not export["allow"]:
        raise ValueError(f"{wwn}: nobody may log in to a new target: name who may with --allow IQN, or give "
                         "--allow any")
    if made:
        target = Target(fabric, wwn, "create")
        undo.add(f"iSCSI target {wwn}", target.delete)
    tpg = next(iter(target.tpgs), None) or TPG(target, 1)
    if made:
        set_up_new(tpg, everybody=export["allow"] == ["any"])
    else:
        check_takes(tpg, export["allow"])
    add_portal(tpg, export, made, undo)
    for initiator in export["allow"]:
        if initiator != "any":
            add_acl(tpg, initiator, undo)
    return {**export, "target": wwn, "made": made, "portals": portals_of(tpg)}


def set_up_new(tpg, everybody):
    tpg.set_attribute("authentication", 0)  # CHAP is the admin's to set up; else nobody could log in.
    for attribute in ("generate_node_acls", "cache_dynamic_acls"):
        tpg.set_attribute(attribute, int(everybody))
    tpg.set_attribute("demo_mode_write_protect", int(not everybody))


def check_takes(tpg, allow):
    """Nobody but who is allowed, and these as they are used to."""
    wwn = tpg.parent_target.wwn
    takes_everybody = tpg.get_attribute("generate_node_acls") == "1"
    if takes_everybody and allow != ["any"]:
        raise ValueError(f"{wwn}: this target is there and takes everybody: give --allow any if all may use the "
                         "LUN, or choose another target")
    if allow == ["any"] and not takes_everybody:
        raise ValueError(f"{wwn}: this target is there and does not take everybody: name who may log in")
    if takes_everybody and tpg.get_attribute("demo_mode_write_protect") == "1":
        raise ValueError(f"{wwn}: this target lets everybody read, but not write: set its attribute "
                         "demo_mode_write_protect to 0, or choose another target")


def add_portal(tpg, export, made, undo):
    if not made and not export["address"]:
        return
    address, port = export["address"] or "0.0.0.0", export["port"] or 3260
    if portal_of(export) in [(p["address"].strip("[]"), p["port"]) for p in portals_of(tpg)]:
        return
    try:
        portal = NetworkPortal(tpg, address, port, "create")
    except Exception as error:
        raise ValueError(f"portal {address}:{port}: cannot be made: {error}: something else has it, or dmesg "
                         "says why. Choose another with --listen") from error
    undo.add(f"portal {address}:{port}", portal.delete)


def portals_of(tpg):
    return [{"address": portal.ip_address, "port": portal.port} for portal in tpg.network_portals]


def add_acl(tpg, initiator, undo):
    wwn, _ = tpg.parent_target.fabric_module.to_normalized_wwn(initiator)
    if all(acl.node_wwn != wwn for acl in tpg.node_acls):
        undo.add(f"ACL {wwn}", NodeACL(tpg, wwn, "create").delete)


def export_iscsi(name, export, undo):
    tpg = next(iter(find_target("iscsi", export["target"]).tpgs))
    taken, seen = saved.numbers("iscsi", export["target"], tpg.tag)  # Of LUNs that did not come up, too.
    lun = LUN(tpg, free_number(taken | {other.lun for other in tpg.luns}, 0, LUN.MAX_TARGET_LUN), must_find(name))
    undo.add(f"LUN {lun.lun} of {export['target']}", lun.delete)
    named = {tpg.parent_target.fabric_module.to_normalized_wwn(i)[0] for i in export["allow"] if i != "any"}
    for acl in tpg.node_acls:
        if not named or acl.node_wwn in named:
            taken = {mapped.mapped_lun for mapped in acl.mapped_luns} | seen.get(acl.node_wwn, set())
            MappedLUN(acl, free_number(taken, lun.lun, MappedLUN.MAX_LUN), lun)
    if export["made"]:
        tpg.enable = True
    return lun.lun


def free_number(taken, wanted, last):
    return next(n for n in (wanted, *range(last + 1)) if n not in taken)


def portal_of(export):
    """(address, port) of the one that the export asked for, as rtslib names it."""
    return (export["address"] or "0.0.0.0").strip("[]"), export["port"] or 3260


### taking down


def in_use(name, exported_disks):
    """Who would lose the LUN, as a sentence; None: nobody. `exported_disks`: {disk: by whom}."""
    backstore = find(name)
    if backstore is None or not backstore.is_configured():
        return None
    for lun in backstore.attached_luns:
        why = users_of(lun, exported_disks)
        if why:
            return f"{name}: {why}"
    return None


def users_of(lun, exported_disks):
    target = lun.parent_tpg.parent_target
    fabric = target.fabric_module.name
    if fabric == "iscsi":
        initiators = logged_in(lun)
        return (f"in use by {', '.join(initiators)}, logged in to {target.wwn}: log out there first"
                if initiators else None)
    if fabric != "loopback":
        return (f"exported over {fabric} by {target.wwn}, which does not tell who uses it: take that export down "
                "first, or add --force")
    for disk in nodes_of(lun):
        why = exported_disks.get(disk) or disks.in_use(disk)
        if why:
            return f"its disk {disk} is in use: {why}"
    return None


def logged_in(lun):
    tpg = lun.parent_tpg
    mapped = {m.parent_nodeacl.node_wwn for m in lun.mapped_luns}
    initiators = [acl.node_wwn for acl in tpg.node_acls if acl.session and acl.node_wwn in mapped]
    with contextlib.suppress(FileNotFoundError):
        with open(f"{tpg.path}/dynamic_sessions", encoding="utf-8") as file:
            initiators += file.read().replace("\0", "\n").split()
    return initiators


def remove(name, made):
    """Whether there was such a backstore. `made`: the targets, (fabric, wwn), to go with their last LUN; one that
    did not come up at boot still counts."""
    backstore = find(name)
    if backstore is not None:
        for lun in list(backstore.attached_luns) if backstore.is_configured() else []:
            lun.delete()
        backstore.delete()
    for fabric, wwn in made:
        target = find_target(fabric, wwn)
        if target and not any(True for tpg in target.tpgs for _ in tpg.luns) and not (
                saved.needed_by_others(fabric, wwn, name)):
            target.delete()
    return backstore is not None


### what comes back at boot


def save(name, shown, portal):
    """`shown`: the target that shows it since now, (fabric, wwn), or None."""
    target = shown and find_target(*shown)
    return saved.put(name, must_find(name).dump(), target and target.dump(), portal)
