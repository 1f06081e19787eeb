#!/usr/bin/python3
"""The helper's NVMe part in a folder that behaves like nvmet's configfs, what it asks LIO, and what it saves of it.

usage: target_helper_test.py HELPER_FOLDER
"""
import contextlib
import copy
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import types
import unittest
from unittest import mock

sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv.pop(1))

import lio
import nvmet
import saved
import target_helper

NQN = "nqn.2026-01.com.example:vm1"
HOST = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555"
IQN = "iqn.2026-01.com.example:vm"
UUID = "01234567-89ab-cdef-0123-456789abcdef"
real_mkdir, real_rmdir, real_symlink = os.mkdir, os.rmdir, os.symlink

# What the kernel puts into a fresh folder, by the folder above it.
ATTRIBUTES = {"subsystems": ["attr_allow_any_host", "attr_serial"], "hosts": [],
              "ports": ["addr_trtype", "addr_adrfam", "addr_traddr", "addr_trsvcid"],
              "namespaces": ["device_path", "device_uuid", "enable"]}
GROUPS = {"subsystems": ["namespaces", "allowed_hosts"], "ports": ["subsystems"]}


def links_to(root, path):
    return [os.path.join(at, name) for at, folders, files in os.walk(root) for name in folders + files
            if os.path.islink(os.path.join(at, name)) and os.readlink(os.path.join(at, name)) == path]


class Configfs:
    """mkdir, rmdir and symlink as configfs has them: attributes come and go with their folder; what is linked to,
    or holds something that somebody made, stays. `fails_at`: the how-manieth of them is refused."""

    def __init__(self, root):
        self.root, self.done, self.fails_at, self.steps = root, 0, None, []

    def step(self, path):
        self.done += 1
        self.steps.append(os.path.relpath(path, self.root))
        if self.done == self.fails_at:
            raise OSError(98, os.strerror(98), "scratch")

    def mkdir(self, path):
        self.step(path)
        real_mkdir(path)
        kind = os.path.basename(os.path.dirname(path))
        for group in GROUPS.get(kind, []):
            real_mkdir(f"{path}/{group}")
        for attribute in ATTRIBUTES[kind]:
            open(f"{path}/{attribute}", "w", encoding="ascii").close()

    def rmdir(self, path):
        kind = os.path.basename(os.path.dirname(path))
        if links_to(self.root, path) or any(os.listdir(f"{path}/{group}") for group in GROUPS.get(kind, [])):
            raise OSError(16, os.strerror(16), path)
        for entry in os.scandir(path):
            (real_rmdir if entry.is_dir() else os.unlink)(entry.path)
        real_rmdir(path)

    def symlink(self, target, path):
        self.step(path)
        real_symlink(target, path)


class NvmetTest(unittest.TestCase):
    def setUp(self):
        self.root, self.conf = tempfile.mkdtemp(), tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.root)
        self.addCleanup(shutil.rmtree, self.conf)
        for group in ("subsystems", "hosts", "ports"):
            real_mkdir(f"{self.root}/{group}")
        self.configfs = Configfs(self.root)
        self.modules = []
        for patch in (mock.patch("os.mkdir", self.configfs.mkdir), mock.patch("os.rmdir", self.configfs.rmdir),
                      mock.patch("os.symlink", self.configfs.symlink),
                      mock.patch("nvmet.load", self.modules.append)):
            patch.start()
            self.addCleanup(patch.stop)
        self.nvmet = nvmet.Nvmet(self.root)
        self.undo = target_helper.Undo()

    def read(self, path):
        with open(f"{self.root}/{path}", encoding="ascii") as file:
            return file.read()

    def tree(self):
        return sorted(os.path.relpath(os.path.join(at, name), self.root)
                      for at, folders, files in os.walk(self.root) for name in folders + files)

    @staticmethod
    def export(nqn=NQN, allow=("any",), address="0.0.0.0", port=4420):
        return {"fabric": "nvme", "target": nqn, "allow": list(allow), "address": address, "port": port}

    def set_up(self, export):
        export = self.nvmet.prepare(export, self.undo)
        self.nvmet.show(export, "/dev/sdx", UUID, self.undo)
        return export

    def take_down(self, export):
        return self.nvmet.take_down(export, ["/dev/sdx"])

    def test_exports_the_disk_under_the_clones_uuid(self):
        self.set_up(self.export())
        namespace = f"subsystems/{NQN}/namespaces/1"
        self.assertEqual([self.read(f"{namespace}/{a}") for a in ("device_path", "device_uuid", "enable")],
                         ["/dev/sdx", UUID, "1"])
        self.assertEqual(self.read(f"subsystems/{NQN}/attr_allow_any_host"), "1")
        self.assertEqual(self.read(f"subsystems/{NQN}/attr_serial"), "0123456789abcdef0123")
        self.assertEqual([self.read(f"ports/1/addr_{a}") for a in ("trtype", "adrfam", "traddr", "trsvcid")],
                         ["tcp", "ipv4", "0.0.0.0", "4420"])
        self.assertTrue(os.path.islink(f"{self.root}/ports/1/subsystems/{NQN}"))
        self.assertEqual(self.nvmet.disks(), {"/dev/sdx": f"the NVMe subsystem {NQN} exports it: remove that first"})
        self.assertEqual(self.nvmet.disks(but=NQN), {})

    def test_nobody_but_the_named_hosts_may_connect(self):
        self.set_up(self.export(allow=[HOST]))
        self.assertEqual(self.read(f"subsystems/{NQN}/attr_allow_any_host"), "0")
        self.assertEqual(os.listdir(f"{self.root}/subsystems/{NQN}/allowed_hosts"), [HOST])

    def test_initiators_that_wait_find_the_disk_at_once(self):
        self.set_up(self.export(allow=[HOST]))
        self.assertEqual(self.configfs.steps[-1], f"ports/1/subsystems/{NQN}")
        self.assertIn(f"subsystems/{NQN}/namespaces/1", self.configfs.steps[:-1])
        self.assertIn(f"subsystems/{NQN}/allowed_hosts/{HOST}", self.configfs.steps[:-1])

    def test_nothing_is_touched_before_the_disk_is_there(self):
        session = types.SimpleNamespace(nvmet=self.nvmet, undo=self.undo)
        session.lio = types.SimpleNamespace(loopback_disk=mock.Mock(side_effect=ValueError("no disk")),
                                            serial=lambda name: UUID)
        with self.assertRaisesRegex(ValueError, "no disk"):
            target_helper.bring_up(session, "vm1", self.export())
        self.assertEqual(self.configfs.steps, [])

    def test_a_port_is_shared_by_all_that_have_its_address_and_goes_with_the_last(self):
        mine, other = self.export(), self.export(nqn="nqn.2026-01.com.example:vm2")
        with mock.patch("target_helper.CONF_DIR", self.conf):
            mine = target_helper.inherited(self.set_up(mine))
            with open(f"{self.conf}/vm1.export", "w", encoding="utf-8") as file:
                json.dump(mine, file)
            other = target_helper.inherited(self.set_up(other))
        self.set_up(self.export(nqn=NQN + "6", address="[::1]"))
        self.assertEqual(sorted(os.listdir(f"{self.root}/ports")), ["1", "2"])
        self.assertEqual(self.read("ports/2/addr_adrfam") + self.read("ports/2/addr_traddr"), "ipv6::1")
        self.assertTrue(self.take_down(mine))
        self.assertEqual(sorted(os.listdir(f"{self.root}/ports")), ["1", "2"])
        self.take_down(other)
        self.assertEqual(os.listdir(f"{self.root}/ports"), ["2"])

    def test_ports_and_hosts_of_the_admins_stay(self):
        admin = target_helper.Undo()
        self.nvmet.make_port(self.export(), admin)
        nvmet.make(f"{self.root}/hosts/{HOST}", admin)
        before = self.tree()
        export = self.set_up(self.export(allow=[HOST]))
        self.assertEqual((export["port_made"], export["hosts_made"]), (False, []))
        self.assertTrue(self.take_down(export))
        self.assertEqual(self.tree(), before)

    def test_a_subsystem_that_shows_another_disk_stays(self):
        export = self.set_up(self.export())
        with tempfile.NamedTemporaryFile() as disk:
            nvmet.write(f"{self.root}/subsystems/{NQN}/namespaces/1/device_path", disk.name)
            before = self.tree()
            self.assertFalse(self.take_down(export))
            self.assertEqual(self.tree(), before)
            self.assertTrue(self.nvmet.take_down(export, [disk.name]))

    def test_is_up_with_its_disk_and_a_port_alone(self):
        with tempfile.NamedTemporaryFile(dir=self.conf) as disk:
            export = self.nvmet.prepare(self.export(), self.undo)
            self.assertFalse(self.nvmet.is_up(export, [disk.name]))
            self.nvmet.show(export, disk.name, UUID, self.undo)
            self.assertTrue(self.nvmet.is_up(export, [disk.name]))
            self.assertFalse(self.nvmet.is_up(export, ["/dev/sdy"]))
            os.unlink(f"{self.root}/ports/1/subsystems/{NQN}")
            self.assertFalse(self.nvmet.is_up(export, [disk.name]))
            os.symlink(self.nvmet.subsystem(NQN), f"{self.root}/ports/1/subsystems/{NQN}")
        self.assertFalse(self.nvmet.is_up(export, [disk.name]), "its disk is gone")

    def test_takes_everything_down_and_is_content_when_nothing_is_there(self):
        before = self.tree()
        export = self.set_up(self.export(allow=[HOST]))
        self.assertTrue(self.take_down(export))
        self.assertEqual(self.tree(), before)
        self.assertFalse(self.take_down(export))

    def test_takes_half_made_ones_down(self):
        before = self.tree()
        export = self.set_up(self.export(allow=[HOST]))
        steps = self.configfs.done
        self.take_down(export)
        for step in range(2, steps + 1):
            self.configfs.done, self.configfs.fails_at = 0, step
            with self.assertRaises(Exception):
                self.set_up(self.export(allow=[HOST]))
            self.assertTrue(self.take_down(export))
            self.assertEqual(self.tree(), before, f"step {step}")
            self.undo = target_helper.Undo()

    def test_whatever_step_fails_is_taken_back(self):
        before = self.tree()
        self.set_up(self.export(allow=[HOST]))
        steps = self.configfs.done
        self.assertEqual(self.undo.run(), [])
        self.assertEqual(self.tree(), before)
        for step in range(1, steps + 1):
            self.configfs.done, self.configfs.fails_at = 0, step
            with self.assertRaises(Exception):
                self.set_up(self.export(allow=[HOST]))
            self.assertEqual(self.undo.run(), [], f"step {step}")
            self.assertEqual(self.tree(), before, f"step {step}")
        print(f"{steps} steps failed in turn", file=sys.stderr)

    def test_a_subsystem_that_is_there_is_not_touched(self):
        self.set_up(self.export())
        before = self.tree()
        with self.assertRaisesRegex(ValueError, "choose another NQN"):
            self.nvmet.prepare(self.export(), target_helper.Undo())
        self.assertEqual(self.tree(), before)

    def test_tells_of_connections_and_when_it_cannot_tell_whose_they_are(self):
        self.set_up(self.export())
        with mock.patch("nvmet.connected", lambda port: port == 4420):
            self.assertRegex(self.nvmet.in_use(NQN), "connected to port 4420: nvme disconnect -n [^ ]* there first$")
            self.set_up(self.export(nqn=NQN + "b"))
            self.assertRegex(self.nvmet.in_use(NQN), "--force")
        with mock.patch("nvmet.connected", lambda port: False):
            self.assertIsNone(self.nvmet.in_use(NQN))


class BootTest(unittest.TestCase):
    """nvme-up and nvme-down with a session of no kernel."""

    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.up = {}  # NQN: ports
        self.brought = []
        session = types.SimpleNamespace(
            nvmet=types.SimpleNamespace(is_up=lambda export, disks: bool(self.up.get(export["target"])),
                                        take_down=lambda export, disks: self.up.pop(export["target"], None)),
            lio=types.SimpleNamespace(find=lambda name: None, disks_of=lambda backstore: []))
        for patch in (mock.patch("target_helper.CONF_DIR", self.folder),
                      mock.patch("target_helper.Session", lambda: session),
                      mock.patch("target_helper.bring_up", lambda _, name, export: self.brought.append(name))):
            patch.start()
            self.addCleanup(patch.stop)

    def spill(self, name, text):
        with open(f"{self.folder}/{name}.export", "w", encoding="utf-8") as file:
            file.write(text)

    def nvme(self, up):
        with contextlib.redirect_stderr(io.StringIO()) as said:
            status = target_helper.nvme(up)
        return status, said.getvalue()

    def test_one_bad_file_leaves_the_others_served(self):
        for name, text in (("a", ""), ("b", "[1]"), ("c", "{}"), ("d", "null"), ("e", "\xff")):
            self.spill(name, text)
        os.mkdir(f"{self.folder}/f.export")
        self.spill("vm1", json.dumps({"fabric": "nvme", "target": NQN}))
        status, said = self.nvme(up=True)
        self.assertEqual((status, self.brought), (1, ["vm1"]))
        self.assertEqual(said.count("is not what clonectl create wrote"), 6, said)
        self.up = {NQN: ["port"]}
        self.nvme(up=False)
        self.assertEqual(self.up, {})

    def test_what_is_up_stays_and_what_is_half_made_is_made_again(self):
        self.spill("vm1", json.dumps({"fabric": "nvme", "target": NQN}))
        self.up = {NQN: ["port"]}
        self.assertEqual((self.nvme(up=True), self.brought), ((0, ""), []))
        self.up = {NQN: []}
        self.assertEqual((self.nvme(up=True), self.brought), ((0, ""), ["vm1"]))
        self.assertEqual(self.up, {})

    def test_a_bad_file_does_not_stop_a_create(self):
        self.spill("a", json.dumps({"fabric": "iscsi"}))
        self.spill("b", json.dumps({"fabric": "nvme", "port_made": True}))
        self.assertFalse(target_helper.inherited({"fabric": "iscsi", "target": IQN, "made": False})["made"])
        export = {**NvmetTest.export(), "port_made": False, "hosts_made": []}
        self.assertFalse(target_helper.inherited(export)["port_made"])


class SignalTest(unittest.TestCase):
    PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import target_helper
class Session:
    def __init__(self): self.undo = target_helper.Undo()
    def answer(self, request): self.undo.add("it", lambda: open(sys.argv[2], "w").close())
target_helper.Session = Session
target_helper.main([])
"""

    def test_takes_back_whatever_signal_comes(self):
        with tempfile.TemporaryDirectory() as folder:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                undone = f"{folder}/{number}"
                with subprocess.Popen([sys.executable, "-c", self.PROGRAM, sys.path[0], undone], text=True,
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE) as helper:
                    helper.stdin.write("{}\n")
                    helper.stdin.flush()
                    self.assertIn("true", helper.stdout.readline())
                    helper.send_signal(number)
                    helper.stdin.close()
                    self.assertEqual(helper.wait(30), 0, number)
                self.assertTrue(os.path.exists(undone), f"{number}: nothing was taken back")


class IscsiTest(unittest.TestCase):
    """Which targets that are there a LUN is put into; who uses a LUN."""

    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.attributes = {"generate_node_acls": "0", "demo_mode_write_protect": "0"}
        self.target = types.SimpleNamespace(wwn=IQN)
        self.target.tpgs = [types.SimpleNamespace(tag=1, parent_target=self.target, network_portals=[], node_acls=[],
                                                  luns=[], get_attribute=lambda key: self.attributes[key])]
        fabric = types.SimpleNamespace(to_normalized_wwn=lambda wwn: (wwn, "iqn"))
        for patch in (mock.patch("saved.default_save_file", f"{self.folder}/saveconfig.json"),
                      mock.patch("lio.FabricModule", lambda name: fabric),
                      mock.patch("lio.find_target", lambda fabric, wwn: self.target),
                      mock.patch("lio.add_acl", mock.Mock())):
            patch.start()
            self.addCleanup(patch.stop)

    @staticmethod
    def prepare(*allow):
        return lio.prepare_iscsi({"target": IQN, "allow": list(allow), "address": "", "port": 0}, target_helper.Undo())

    def test_a_target_that_takes_everybody_gets_no_lun_unless_that_is_said(self):
        self.attributes["generate_node_acls"] = "1"
        for allow in ([], ["iqn.x:host"]):
            with self.assertRaisesRegex(ValueError, "takes everybody"):
                self.prepare(*allow)
        lio.add_acl.assert_not_called()
        self.assertFalse(self.prepare("any")["made"])

    def test_any_is_refused_where_only_named_ones_may_or_everybody_only_reads(self):
        with self.assertRaisesRegex(ValueError, "does not take everybody"):
            self.prepare("any")
        self.attributes = {"generate_node_acls": "1", "demo_mode_write_protect": "1"}
        with self.assertRaisesRegex(ValueError, "demo_mode_write_protect"):
            self.prepare("any")

    def test_named_ones_get_into_a_target_of_named_ones(self):
        self.attributes["demo_mode_write_protect"] = "1"
        self.prepare()
        self.prepare("iqn.x:host")
        lio.add_acl.assert_called_once()

    def test_a_target_that_is_saved_but_not_there_is_not_made_anew(self):
        self.target = None
        with open(f"{self.folder}/saveconfig.json", "w", encoding="utf-8") as file:
            json.dump({"targets": [{"fabric": "iscsi", "wwn": IQN, "tpgs": []}]}, file)
        with self.assertRaisesRegex(ValueError, "targetctl restore"):
            self.prepare("iqn.x:host")

    def test_numbers_of_luns_that_did_not_come_up_stay_theirs(self):
        with open(f"{self.folder}/saveconfig.json", "w", encoding="utf-8") as file:
            json.dump({"targets": [target_with({0: "vm3"}, {"iqn.x:host": {1: 0}})]}, file)
        tpg = self.target.tpgs[0]
        tpg.luns = [types.SimpleNamespace(lun=1)]
        tpg.node_acls = [types.SimpleNamespace(node_wwn="iqn.x:host",
                                               mapped_luns=[types.SimpleNamespace(mapped_lun=2)])]
        tpg.parent_target = types.SimpleNamespace(wwn=IQN, fabric_module=lio.FabricModule("iscsi"))
        mapped = mock.Mock()
        mapped.MAX_LUN = 255
        lun = mock.Mock(side_effect=lambda tpg, number, so: types.SimpleNamespace(lun=number, delete=None))
        lun.MAX_TARGET_LUN = 65535
        with mock.patch("lio.LUN", lun), mock.patch("lio.MappedLUN", mapped), \
                mock.patch("lio.must_find", lambda name: None):
            export = {"target": IQN, "allow": [], "made": False}
            self.assertEqual(lio.export_iscsi("vm1", export, target_helper.Undo()), 2)
        self.assertEqual(mapped.call_args.args[1], 0)

    def test_a_fabric_that_does_not_tell_who_uses_the_lun_keeps_it(self):
        for fabric in ("vhost", "qla2xxx", "srpt"):
            target = types.SimpleNamespace(wwn="naa.5", fabric_module=types.SimpleNamespace(name=fabric))
            lun = types.SimpleNamespace(parent_tpg=types.SimpleNamespace(parent_target=target, path="/nowhere"))
            backstore = types.SimpleNamespace(is_configured=lambda: True, attached_luns=[lun])
            with mock.patch("lio.find", lambda name: backstore):
                self.assertRegex(lio.in_use("vm1", {}) or "", f"vm1: exported over {fabric} by naa.5, .*--force")

    def test_a_target_that_a_saved_lun_needs_stays(self):
        with open(f"{self.folder}/saveconfig.json", "w", encoding="utf-8") as file:
            json.dump({"targets": [target_with({0: "vm1", 1: "vm3"}, {})]}, file)
        self.target.delete = mock.Mock()
        with mock.patch("lio.find", lambda name: None):
            self.assertFalse(lio.remove("vm1", [("iscsi", IQN)]))
            self.target.delete.assert_not_called()
            saved.drop("vm1", [("iscsi", IQN)])
            lio.remove("vm3", [("iscsi", IQN)])
            self.target.delete.assert_called_once()


def target_with(luns, acls, **members):
    """As rtslib dumps it. `luns`: {index: name}; `acls`: {initiator: {index: index of the LUN}}."""
    tpg = {"tag": 1, "portals": [{"ip_address": "0.0.0.0", "port": 3260}],
           "luns": [{"index": index, "storage_object": f"/backstores/user/{name}"} for index, name in luns.items()],
           "node_acls": [{"node_wwn": wwn, "mapped_luns": [{"index": index, "tpg_lun": lun}
                                                          for index, lun in mapped.items()]}
                         for wwn, mapped in acls.items()]}
    return {"fabric": "iscsi", "wwn": IQN, "tpgs": [{**tpg, **members}]}


def object_of(name, handler="clone"):
    return {"plugin": "user", "name": name, "config": f"{handler}/conf={name}"}


class SaveTest(unittest.TestCase):
    """vm1 is ours. vm3 failed at boot: it, and how it is exported, is in the saved configuration alone."""

    def setUp(self):
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        self.path = f"{folder}/etc/saveconfig.json"
        self.backstore, self.target = None, None
        for patch in (mock.patch("saved.default_save_file", self.path),
                      mock.patch("lio.find", lambda name: self.backstore),
                      mock.patch("lio.find_target", lambda fabric, wwn: self.target),
                      mock.patch("lio.start", lambda: None)):
            patch.start()
            self.addCleanup(patch.stop)
        self.session = target_helper.Session()

    @staticmethod
    def dumping(members):
        return types.SimpleNamespace(dump=lambda: copy.deepcopy(members), is_configured=lambda: False,
                                     delete=lambda: None)

    def saved(self):
        with open(self.path, encoding="utf-8") as file:
            return json.load(file)

    def spill(self, config):
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        with open(self.path, "w", encoding="utf-8") as file:
            json.dump(config, file)

    def answer(self, what, **members):
        return self.session.answer({"do": what, "name": "vm1", **members})

    def commit(self):
        return self.answer("commit")["saved"]

    def others(self):
        return {"storage_objects": [object_of("vm3"), object_of("x", "rbd"), {"plugin": "block", "name": "vm1"}],
                "targets": [{"fabric": "iscsi", "wwn": "other", "tpgs": []},
                            target_with({1: "vm3"}, {"iqn.x:a": {4: 1}, "iqn.x:b": {0: 1}}, chap_userid="me")],
                "fabric_modules": [{"name": "iscsi"}]}

    def make(self):
        """vm1 in the target of vm3, for one initiator of vm3's and a new one, and through a new portal."""
        self.backstore = self.dumping(object_of("vm1"))
        shown = target_with({0: "vm1", 7: "unsaved"}, {"iqn.x:a": {0: 0}, "iqn.x:new": {0: 0, 7: 7}, "iqn.x:c": {7: 7}})
        shown["tpgs"][0]["portals"] += [{"ip_address": "[::1]", "port": 9}, {"ip_address": "1.2.3.4", "port": 9}]
        self.target = self.dumping(shown)
        self.session.shown, self.session.portal = ("iscsi", IQN), ("::1", 9)

    def test_adds_this_lun_and_nothing_else_to_what_is_saved(self):
        self.spill(self.others())
        self.make()
        self.assertTrue(self.commit())
        config = self.saved()
        self.assertEqual(config["storage_objects"], self.others()["storage_objects"] + [object_of("vm1")])
        wanted = target_with({1: "vm3", 0: "vm1"}, {"iqn.x:a": {4: 1, 0: 0}, "iqn.x:b": {0: 1}, "iqn.x:new": {0: 0}},
                             chap_userid="me")
        wanted["tpgs"][0]["portals"].append({"ip_address": "[::1]", "port": 9})
        self.assertEqual(config["targets"], [self.others()["targets"][0], wanted])

    def test_a_target_that_is_not_saved_yet_is_with_its_portals_and_this_lun(self):
        self.make()
        self.assertTrue(self.commit())
        wanted = target_with({0: "vm1"}, {"iqn.x:a": {0: 0}, "iqn.x:new": {0: 0}})
        wanted["tpgs"][0]["portals"] += [{"ip_address": "[::1]", "port": 9}, {"ip_address": "1.2.3.4", "port": 9}]
        self.assertEqual(self.saved()["targets"], [wanted])

    def test_a_delete_takes_out_this_lun_alone(self):
        self.spill(self.others())
        self.make()
        self.commit()
        self.target = None  # As after targetctl clear.
        export = {"fabric": "iscsi", "target": IQN, "made": True, "allow": []}
        self.answer("remove", export=export)
        self.assertTrue(self.commit())
        wanted = self.others()
        added = self.saved()["targets"][1]["tpgs"][0]
        self.assertEqual(added["node_acls"].pop(), {"node_wwn": "iqn.x:new", "mapped_luns": []})
        self.assertEqual(added["portals"].pop(), {"ip_address": "[::1]", "port": 9})
        config = self.saved()
        config["targets"][1]["tpgs"][0] = added
        self.assertEqual(config, wanted)

    def test_a_target_made_by_create_goes_with_the_last_lun_that_is_saved(self):
        self.spill({"storage_objects": [object_of("vm1")], "targets": [target_with({0: "vm1"}, {"iqn.x:a": {0: 0}})]})
        for made in (False, True):
            self.answer("remove", export={"fabric": "iscsi", "target": IQN, "made": made, "allow": []})
            self.assertTrue(self.commit())
            self.assertEqual(self.saved()["targets"], [] if made else [target_with({}, {"iqn.x:a": {}})])

    def test_a_loopback_target_goes_when_create_made_it(self):
        for export, left in (({"fabric": "loopback", "loopback": "naa.1"}, 0), ({"fabric": "loopback"}, 1), (None, 1)):
            target = {**target_with({0: "vm1"}, {}), "fabric": "loopback", "wwn": "naa.1"}
            self.spill({"storage_objects": [object_of("vm1")], "targets": [target]})
            self.answer("remove", export=export)
            self.assertTrue(self.commit())
            self.assertEqual(len(self.saved()["targets"]), left, export)

    def test_set_touches_the_lun_alone(self):
        config = self.others()
        config["storage_objects"].insert(0, object_of("vm1"))
        config["targets"].append({**target_with({0: "vm1"}, {}), "wwn": "changed since, and not saved"})
        self.spill(config)
        self.target = self.dumping(target_with({0: "vm1", 1: "unsaved"}, {"iqn.x:a": {0: 0}}))
        self.backstore = self.dumping({**object_of("vm1"), "config": "clone/conf=vm1;hydration=off"})
        self.assertTrue(self.commit())
        config["storage_objects"][0]["config"] = "clone/conf=vm1;hydration=off"
        self.assertEqual(self.saved(), config)
        self.assertFalse(self.commit())
        self.backstore = None
        with self.assertRaisesRegex(ValueError, "its backstore is gone"):
            self.commit()
        self.assertEqual(self.saved(), config)

    def test_a_saved_lun_of_another_handler_is_not_touched(self):
        config = {**self.others(), "storage_objects": [object_of("vm1", "rbd")]}
        self.spill(config)
        for request in ({"what": "prepare", "export": None}, {"what": "remove", "export": None}, {"what": "commit"}):
            with self.assertRaisesRegex(ValueError, r"another handler \(rbd\)"):
                self.answer(**request)
        self.assertEqual(self.saved(), config)

    def test_does_not_write_over_what_it_cannot_read(self):
        self.backstore = self.dumping(object_of("vm1"))
        for text in ("not JSON", ""):
            self.spill({})
            with open(self.path, "w", encoding="utf-8") as file:
                file.write(text)
            for request in ({"what": "remove", "export": None}, {"what": "commit"}):
                with self.assertRaisesRegex(ValueError, "is not what LIO saved"):
                    self.answer(**request)
            with open(self.path, encoding="utf-8") as file:
                self.assertEqual(file.read(), text)

    def test_nobody_else_may_read_what_is_saved_in_a_folder_that_is_made(self):
        self.backstore = self.dumping(object_of("vm1"))
        self.assertFalse(os.path.exists(os.path.dirname(self.path)))
        self.commit()
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o600)
        self.assertEqual(os.stat(os.path.dirname(self.path)).st_mode & 0o777, 0o700)

    def test_a_symbolic_link_to_what_is_saved_stays_one(self):
        self.spill({})
        os.rename(self.path, f"{self.path}.elsewhere")
        os.symlink("saveconfig.json.elsewhere", self.path)
        self.backstore = self.dumping(object_of("vm1"))
        self.commit()
        self.assertTrue(os.path.islink(self.path))
        self.assertEqual(self.saved()["storage_objects"], [object_of("vm1")])


if __name__ == "__main__":
    unittest.main()
