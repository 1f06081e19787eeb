"""The saved configuration of LIO (saveconfig.json): what the next boot brings back.

It is edited, never replaced by what the kernel has: a LUN that could not be opened at boot, and how it was
exported, are to be found there alone. Targets and LUNs are what rtslib dumps. Errors: exceptions, with a sentence.
"""
import contextlib
import fcntl
import json
import os

from rtslib_fb.root import default_save_file


def load():
    try:
        with open(default_save_file, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return {"storage_objects": [], "targets": [], "fabric_modules": []}
    except ValueError as error:
        raise ValueError(f"{default_save_file}: is not what LIO saved: {error}: mend it, or move it away") from error


def refuse_another_handlers(name):
    """One that failed at boot is seen nowhere else."""
    for saved in load().get("storage_objects", []):
        handler = saved.get("config", "").split("/")[0]
        if is_it(saved, name) and handler != "clone":
            raise ValueError(f"{name}: belongs to another handler ({handler}) in {default_save_file}: take it down "
                             "with targetcli")


def is_it(saved, name):
    return (saved.get("plugin"), saved.get("name")) == ("user", name)


def find_target(config, fabric, wwn):
    return next((t for t in config.get("targets", []) if (t.get("fabric"), t.get("wwn")) == (fabric, wwn)), None)


def luns_of(target):
    return [lun for tpg in target.get("tpgs", []) for lun in tpg.get("luns", [])] if target else []


def needed_by_others(fabric, wwn, name):
    """Whether a saved LUN other than this one is shown by the target."""
    return any(not shows(lun, name) for lun in luns_of(find_target(load(), fabric, wwn)))


def shows(lun, name):
    return lun.get("storage_object") == f"/backstores/user/{name}"


def numbers(fabric, wwn, tag):
    """Those in use in a saved TPG: of its LUNs, and {initiator: of what it sees}."""
    tpg = find_tpg(find_target(load(), fabric, wwn) or {}, tag) or {}
    return ({lun["index"] for lun in tpg.get("luns", [])},
            {acl["node_wwn"]: {mapped["index"] for mapped in acl.get("mapped_luns", [])}
             for acl in tpg.get("node_acls", [])})


def find_tpg(target, tag):
    return next((tpg for tpg in target.get("tpgs", []) if tpg.get("tag") == tag), None)


### changes; whether there was one


def put(name, backstore, target, portal):
    """This LUN and, unless `target` is None, how that one shows it, with the portal (address, port)."""
    with editing() as config:
        objects = config.setdefault("storage_objects", [])
        place = next((i for i, saved in enumerate(objects) if is_it(saved, name)), len(objects))
        objects[place:place + 1] = [backstore]
        if target:
            put_export(config, name, target, portal)
    return config.changed


def drop(name, made):
    """This LUN everywhere. `made`: the targets, (fabric, wwn), to go with their last LUN."""
    with editing() as config:
        config["storage_objects"] = [saved for saved in config.get("storage_objects", []) if not is_it(saved, name)]
        for target in config.get("targets", []):
            for tpg in target.get("tpgs", []):
                drop_lun(tpg, name)
        config["targets"] = [target for target in config.get("targets", [])
                             if luns_of(target) or (target.get("fabric"), target.get("wwn")) not in made]
    return config.changed


def put_export(config, name, fresh, portal):
    target = find_target(config, fresh["fabric"], fresh["wwn"])
    if target is None:
        target = {**fresh, "tpgs": []}
        config.setdefault("targets", []).append(target)
    for tpg in fresh["tpgs"]:
        if any(shows(lun, name) for lun in tpg["luns"]):
            put_lun(target, name, tpg, portal)


def put_lun(target, name, fresh, portal):
    tpg = find_tpg(target, fresh["tag"])
    if tpg is None:
        tpg = {**fresh, "luns": [], "node_acls": []}
        target["tpgs"].append(tpg)
    drop_lun(tpg, name)
    luns = [lun for lun in fresh["luns"] if shows(lun, name)]
    tpg.setdefault("luns", []).extend(luns)
    for acl in fresh["node_acls"]:
        mapped = [mapped for mapped in acl["mapped_luns"] if mapped["tpg_lun"] in {lun["index"] for lun in luns}]
        if mapped:
            put_mapped(tpg.setdefault("node_acls", []), acl, mapped)
    there = [address_of(saved) for saved in tpg.get("portals", [])]
    for open_one in fresh["portals"]:
        if address_of(open_one) == portal and portal not in there:
            tpg.setdefault("portals", []).append(open_one)


def put_mapped(acls, fresh, mapped):
    acl = next((acl for acl in acls if acl["node_wwn"] == fresh["node_wwn"]), None)
    if acl is None:
        acl = {**fresh, "mapped_luns": []}
        acls.append(acl)
    acl.setdefault("mapped_luns", []).extend(mapped)


def address_of(portal):
    return portal["ip_address"].strip("[]"), portal["port"]


def drop_lun(tpg, name):
    gone = {lun["index"] for lun in tpg.get("luns", []) if shows(lun, name)}
    if not gone:
        return
    tpg["luns"] = [lun for lun in tpg["luns"] if not shows(lun, name)]
    for acl in tpg.get("node_acls", []):
        acl["mapped_luns"] = [mapped for mapped in acl.get("mapped_luns", []) if mapped["tpg_lun"] not in gone]


### the file


class Edited(dict):
    changed = False


@contextlib.contextmanager
def editing():
    """The configuration; it is written when it was changed."""
    with locked(os.path.dirname(default_save_file)):
        config = Edited(load())
        before = json.dumps(config, sort_keys=True)
        yield config
        config.changed = json.dumps(config, sort_keys=True) != before
        if config.changed:
            write(default_save_file, json.dumps(config, sort_keys=True, indent=2) + "\n")


@contextlib.contextmanager
def locked(folder):
    os.makedirs(folder, mode=0o700, exist_ok=True)
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def write(path, text):
    """Whole and durable, or not at all. It may hold passwords of CHAP. A symbolic link stays one."""
    path = os.path.realpath(path)
    fresh = f"{path}.clonectl"
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.rename(fresh, path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
