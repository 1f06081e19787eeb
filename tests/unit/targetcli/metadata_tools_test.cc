// check, dump, restore and repair as an admin meets them: the matrix of thin-provisioning-tools
// (help, bad options, every kind of bad file, corruption, round trips) and what each repair does.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <random>

#include "metadata_tools_fixture.h"
#include "present.h"

namespace clonedev {
namespace {

using Json = nlohmann::json;
using Words = std::vector<std::string>;

class MetadataTools : public MetadataToolsTest {
 protected:
  // Each command on that file, as somebody would type it.
  std::vector<Words> commands(const std::string& path) const {
    return {{"check", path},
            {"check", "--json", path},
            {"dump", path},
            {"dump", path, "-o", file("out.dump")},
            {"repair", path},
            {"repair", path, "--lost", "origin"},
            {"restore", "-i", path, file("new.meta")}};
  }
  std::string dumped() const {
    const Outcome outcome = run({"dump", meta()});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return outcome.out;
  }
  bool exists(const std::string& name) const { return std::filesystem::exists(file(name)); }
  // It opens as after a power loss on this machine: marks of a clean detach are not believed.
  void expect_power_loss() {
    const Superblock now = superblock();
    EXPECT_FALSE(now.clean);
    EXPECT_EQ(now.machine_id, read_host_ids()->machine);
    EXPECT_EQ(now.boot_id, Id{});
  }
  // Returns its identity.
  std::string make_destination(const std::string& name) const {
    spill(file(name), "");
    std::filesystem::resize_file(file(name), kSize);
    return clonectl::present_destination(file(name)).identity;
  }
  void unchanged_by(const Words& words, int exit_code) {
    const std::string before = slurp(meta());
    const Outcome outcome = run(words);
    EXPECT_EQ(outcome.exit_code, exit_code) << words[0] << ": " << outcome.out << outcome.err;
    EXPECT_EQ(slurp(meta()), before) << words[0];
  }
};

TEST_F(MetadataTools, have_help_and_refuse_what_they_do_not_know) {
  for (const char* command : {"check", "dump", "restore", "repair"}) {
    const Outcome help = run({command, "--help"});
    EXPECT_EQ(help.exit_code, 0);
    EXPECT_NE(help.out.find("META"), std::string::npos) << help.out;
    expect_error_line(run({command, "--colour", "red"}), 2, "--help");
    expect_error_line(run({command}), 2, "required");
  }
  EXPECT_EQ(run({"--version"}).exit_code, 0);
}

TEST_F(MetadataTools, refuse_every_kind_of_bad_file_in_one_sentence) {
  spill(file("empty"), "");
  spill(file("tiny"), "tcmuclon");
  spill(file("garbage"), std::string(300000, 'x'));
  spill(file("zeroes"), std::string(300000, '\0'));
  const std::string sound = dumped();
  spill(file("half.dump"), sound.substr(0, sound.size() / 2));
  std::filesystem::create_directory(file("folder"));
  ASSERT_EQ(::mkfifo(file("pipe").c_str(), 0600), 0);
  for (const char* name :
       {"missing", "folder", "pipe", "empty", "tiny", "garbage", "zeroes", "half.dump"}) {
    for (const Words& words : commands(file(name))) {
      const Outcome outcome = run(words);
      EXPECT_TRUE(outcome.exit_code == 1 || outcome.exit_code == 3)
          << name << " " << words[0] << ": " << outcome.exit_code << outcome.out;
      EXPECT_EQ(outcome.err.find('\n'), outcome.err.size() - 1) << outcome.err;
      EXPECT_TRUE(outcome.err.starts_with("clonectl: ")) << outcome.err;
    }
  }
  EXPECT_FALSE(exists("new.meta"));
  EXPECT_FALSE(exists("out.dump"));
}

TEST_F(MetadataTools, that_only_look_do_not_write_a_byte_and_take_read_only_files) {
  ASSERT_EQ(::chmod(meta().c_str(), 0400), 0);
  for (const Words& words :
       std::vector<Words>{{"check", meta()}, {"dump", meta()}, {"repair", meta()}}) {
    unchanged_by(words, 0);
  }
  struct stat before {};
  struct stat after {};
  ASSERT_EQ(::stat(meta().c_str(), &before), 0);
  run({"check", meta()});
  ASSERT_EQ(::stat(meta().c_str(), &after), 0);
  EXPECT_EQ(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
}

TEST_F(MetadataTools, leave_metadata_alone_that_a_daemon_has) {
  const int fd = ::open(meta().c_str(), O_RDWR | O_CLOEXEC);
  struct flock whole {};
  whole.l_type = F_WRLCK;
  ASSERT_EQ(::fcntl(fd, F_OFD_SETLK, &whole), 0);
  spill(file("good.dump"), "");
  for (const Words& words :
       std::vector<Words>{{"check", meta()}, {"dump", meta()}, {"repair", meta()}}) {
    expect_error_line(run(words), 1, "in use");
  }
  ::close(fd);
  EXPECT_EQ(run({"check", meta()}).exit_code, 0);
}

// ---- check ----

TEST_F(MetadataTools, check_tells_what_there_is) {
  const Outcome outcome = run({"check", meta()});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("state        clean\n"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("27 zero, 21 destination"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("origin       origin, 21474836480 bytes\n"), std::string::npos);
  const Json json = Json::parse(run({"check", "--json", meta()}).out);
  EXPECT_EQ(json["name"], "vm1");
  EXPECT_EQ(json["blocks"]["destination"], 21);
  EXPECT_EQ(json["clean"], true);
  EXPECT_EQ(json["origin"]["matches"], nullptr);
  EXPECT_TRUE(json["findings"].empty());
}

TEST_F(MetadataTools, check_tells_whether_these_are_origin_and_destination) {
  spill(file("origin.img"), std::string(8192, 'o'));
  spill(file("dest.img"), "cut short");
  const Words words{"check",          meta(),     "--json",          "--dest",
                    file("dest.img"), "--origin", file("origin.img")};
  const Json wrong = Json::parse(run(words).out);
  EXPECT_EQ(wrong["origin"]["matches"], false);
  EXPECT_EQ(wrong["destination"]["matches"], false);
  EXPECT_EQ(run(words).exit_code, 3);
  EXPECT_EQ(run({"check", meta(), "--origin", file("missing")}).exit_code, 1);
  EXPECT_EQ(run({"check", meta(), "--origin", "gopher://x/y"}).exit_code, 1);
}

TEST_F(MetadataTools, check_lists_each_damage_with_its_bytes) {
  flip(unit_of_page(20) * kUnitBytes + 1000);
  flip(unit_of_page(300) * kUnitBytes + 1);
  const Outcome outcome = run({"check", meta()});
  expect_error_line(outcome, 3, "repair");
  EXPECT_NE(outcome.out.find("damage: metadata: the state page for bytes 1342177280..1409286143"),
            std::string::npos)
      << outcome.out;
  const Json json = Json::parse(run({"check", "--json", meta()}).out);
  EXPECT_EQ(json["damaged"], true);
  ASSERT_EQ(json["lost"].size(), 2u);
  EXPECT_EQ(json["lost"][0]["offset"], 1342177280u);
  EXPECT_EQ(json["lost"][0]["length"], 67108864u);
  EXPECT_EQ(json["findings"].size(), 2u);
}

// ---- dump and restore ----

TEST_F(MetadataTools, dump_and_restore_come_back_bit_for_bit) {
  change([](Superblock& s) {
    s.clean = false;
    s.needs_check = true;
    s.reason = "it was cold";
    s.attach_id = id_of(1);
    s.boot_id = id_of(2);
    s.machine_id = id_of(3);
    s.region_size = 65536;
  });
  const std::string text = dumped();
  ASSERT_EQ(run({"dump", meta(), "-o", file("vm1.dump")}).exit_code, 0);
  EXPECT_EQ(slurp(file("vm1.dump")), text);
  const Outcome restored = run({"restore", "-i", file("vm1.dump"), file("new.meta")});
  EXPECT_EQ(restored.exit_code, 0) << restored.err;
  EXPECT_EQ(run({"dump", file("new.meta")}).out, text);
  EXPECT_EQ(std::filesystem::file_size(file("new.meta")), std::filesystem::file_size(meta()));
}

TEST_F(MetadataTools, dump_replaces_a_dump_only_with_a_whole_one) {
  spill(file("vm1.dump"), "yesterday's");
  flip(unit_of_page(0) * kUnitBytes);
  expect_error_line(run({"dump", meta(), "-o", file("vm1.dump")}), 3, "nothing was dumped");
  EXPECT_EQ(slurp(file("vm1.dump")), "yesterday's");
  EXPECT_FALSE(exists("vm1.dump.new"));
  EXPECT_EQ(run({"dump", meta()}).out, "");
  expect_error_line(run({"dump", meta(), "-o", file("no/such")}), 3, "nothing was dumped");
}

TEST_F(MetadataTools, dump_says_when_its_output_cannot_be_written) {
  expect_error_line(run({"dump", meta(), "-o", file("no/such")}), 1, "no/such");
}

TEST_F(MetadataTools, restore_overwrites_only_when_told_to) {
  spill(file("vm1.dump"), dumped());
  const Picture before = picture();
  unchanged_by({"restore", "-i", file("vm1.dump"), meta()}, 1);
  flip(unit_of_page(0) * kUnitBytes);
  EXPECT_EQ(run({"restore", "-i", file("vm1.dump"), meta(), "--overwrite"}).exit_code, 0);
  EXPECT_EQ(picture(), before);
}

TEST_F(MetadataTools, restore_does_not_write_over_what_it_reads_or_keeps) {
  spill(file("vm1.dump"), dumped());
  const std::string dump = slurp(file("vm1.dump"));
  ASSERT_EQ(::symlink(file("vm1.dump").c_str(), file("link").c_str()), 0);
  for (const char* name : {"vm1.dump", "link"}) {
    const Words words{"restore", "-i", file("vm1.dump"), file(name), "--overwrite"};
    expect_error_line(run(words), 1, "is " + file("vm1.dump") + " itself");
    EXPECT_EQ(slurp(file("vm1.dump")), dump);
  }
  for (const char* role : {"kernel", "origin", "dest"}) {
    for (const char* name : {"kernel", "origin", "dest"}) spill(file(name), name);
    const Words words{"restore",    "--from-dm-clone", file("kernel"), "--name",
                      "vm1",        "--origin",        file("origin"), "--dest",
                      file("dest"), file(role),        "--overwrite"};
    expect_error_line(run(words), 1, "itself");
    EXPECT_EQ(slurp(file(role)), role);
  }
}

TEST_F(MetadataTools, restore_judges_the_whole_dump_before_it_writes) {
  std::string text = dumped();
  char& digit = text[text.size() - 5];
  digit = digit == '0' ? '1' : '0';
  spill(file("bad.dump"), text);
  unchanged_by({"restore", "-i", file("bad.dump"), meta(), "--overwrite"}, 3);
  expect_error_line(run({"restore", "-i", file("bad.dump"), file("new.meta")}), 3, "line ");
  EXPECT_FALSE(exists("new.meta"));
}

// ---- corruption ----

// Wherever bits flip: never a crash, and never 0 when what comes out would be another map.
TEST_F(MetadataTools, never_take_a_corrupt_map_for_a_sound_one) {
  const std::string whole = slurp(meta());
  const std::string sound = dumped();
  const std::uint64_t bytes = units_in_use() * kUnitBytes;
  const std::string runs = sound.substr(sound.find("\norigin 0 "));
  std::mt19937_64 random(20261125);
  int found = 0;
  for (int i = 0; i < 30; ++i) {
    spill(meta(), whole);
    for (int n = 0; n <= i % 3; ++n) {
      // Every third time where there is something for certain.
      const std::uint64_t at =
          i % 3 == 0 ? unit_of_page(20) * kUnitBytes + random() % kUnitBytes : random() % bytes;
      flip(at, 1u << random() % 8);
    }
    for (const Words& words :
         std::vector<Words>{{"check", meta()}, {"dump", meta()}, {"repair", meta()}}) {
      const Outcome outcome = run(words);
      EXPECT_TRUE(outcome.exit_code == 0 || outcome.exit_code == 3) << outcome.err;
      found += outcome.exit_code == 3;
      if (words[0] == "dump" && outcome.exit_code == 0) {
        const std::string some = outcome.out.substr(outcome.out.find("\norigin 0 "));
        EXPECT_EQ(some.substr(0, some.find("\nend")), runs.substr(0, runs.find("\nend")))
            << "seed 20261125, round " << i;
      }
    }
  }
  EXPECT_GE(found, 30);
}

// ---- repair ----

TEST_F(MetadataTools, repair_has_nothing_to_do_on_sound_metadata) {
  unchanged_by({"repair", meta()}, 0);
  for (const char* option :
       {"--take-over", "--without-live-map", "--clear-needs-check", "--lost=origin"}) {
    unchanged_by({"repair", meta(), option}, 1);
  }
  EXPECT_FALSE(exists("vm1.meta.before-repair"));
}

TEST_F(MetadataTools, repair_says_what_is_lost_and_writes_only_what_it_is_told) {
  const Picture before = picture();
  flip(unit_of_page(20) * kUnitBytes + 1000);
  const std::string damaged = slurp(meta());
  const Outcome said = run({"repair", meta()});
  expect_error_line(said, 3, "nothing was changed");
  EXPECT_NE(said.out.find("lost: bytes 1342177280..1409286143 of the disk (64.0 MiB)"),
            std::string::npos)
      << said.out;
  EXPECT_EQ(slurp(meta()), damaged);
  for (const BlockState state : {BlockState::destination, BlockState::origin}) {
    spill(meta(), damaged);
    std::filesystem::remove(file("vm1.meta.before-repair"));
    const Outcome done = run({"repair", meta(), "--lost", std::string(name_of(state))});
    EXPECT_EQ(done.exit_code, 0) << done.err;
    EXPECT_NE(done.out.find("nothing is left to repair"), std::string::npos) << done.out;
    EXPECT_EQ(slurp(file("vm1.meta.before-repair")), damaged);
    // Nothing but the lost page is another.
    Picture wanted = before;
    const std::uint64_t base = 20 * kPerPage;
    wanted.erase(wanted.lower_bound(base), wanted.lower_bound(base + kPerPage));
    if (state == BlockState::destination) {
      wanted[base] = state;
      wanted[base + kPerPage] = BlockState::origin;
    }
    EXPECT_EQ(picture(), wanted);
    EXPECT_EQ(run({"check", meta()}).exit_code, 0);
  }
}

TEST_F(MetadataTools, repair_mends_a_node_and_what_two_references_lead_to) {
  const std::string whole = slurp(meta());
  for (const bool twice : {false, true}) {
    spill(meta(), whole);
    if (twice) {
      change([](Superblock& s) { s.roots[1] = s.roots[0]; });
    } else {
      flip(superblock().roots[0].where * kUnitBytes);
    }
    std::filesystem::remove(file("vm1.meta.before-repair"));
    EXPECT_EQ(run({"repair", meta(), "--lost", "destination"}).exit_code, 0);
    EXPECT_EQ(run({"check", meta()}).exit_code, 0);
    const Picture found = picture();
    EXPECT_EQ(found.begin()->second, BlockState::destination);
    if (twice) {
      EXPECT_EQ(found.size(), 1u) << "all of it";
    } else {
      EXPECT_EQ(std::next(found.begin())->first, 256 * kPerPage);
    }
  }
}

TEST_F(MetadataTools, repair_keeps_the_backup_it_has_made) {
  spill(file("vm1.meta.before-repair"), "precious");
  flip(unit_of_page(20) * kUnitBytes);
  unchanged_by({"repair", meta(), "--lost", "origin"}, 1);
  EXPECT_EQ(slurp(file("vm1.meta.before-repair")), "precious");
  EXPECT_EQ(run({"repair", meta(), "--lost", "origin", "--backup", file("other")}).exit_code, 0);
}

TEST_F(MetadataTools, repair_cannot_help_without_a_superblock) {
  flip(100);
  flip(kUnitBytes + 100);
  expect_error_line(run({"repair", meta()}), 3, "from a dump or a backup");
  unchanged_by({"repair", meta(), "--lost", "origin"}, 3);
}

TEST_F(MetadataTools, repair_takes_over_from_another_machine) {
  change([](Superblock& s) {
    s.clean = false;
    s.attach_id = s.boot_id = s.machine_id = id_of(9);
  });
  EXPECT_EQ(run({"check", meta()}).exit_code, 0);
  const Outcome said = run({"repair", meta()});
  expect_error_line(said, 3, "nothing was changed");
  EXPECT_NE(said.out.find("--take-over"), std::string::npos);
  unchanged_by({"repair", meta(), "--without-live-map"}, 1);
  EXPECT_EQ(run({"repair", meta(), "--take-over"}).exit_code, 0);
  expect_power_loss();
}

// Without the live map of this boot, and with it.
TEST_F(MetadataTools, repair_gives_the_live_map_up_only_when_it_is_gone) {
  flip(unit_of_page(20) * kUnitBytes);
  const auto host = read_host_ids();
  ASSERT_TRUE(host);
  change([&](Superblock& s) {
    s.clean = false;
    s.attach_id = id_of(9);
    s.boot_id = host->boot;
    s.machine_id = host->machine;
    s.destination_identity = make_destination("dest.img");
  });
  std::string dir = folder_;
  auto live = LiveMap::create(dir, id_of(7), id_of(9), kSize / kBlockSize);
  ASSERT_TRUE(live);
  unchanged_by({"repair", meta(), "--without-live-map", "--lost", "origin"}, 1);
  unchanged_by({"repair", meta(), "--lost", "destination"}, 1);
  EXPECT_NE(run({"repair", meta()}).out.find("--lost live --dest PATH loses nothing"),
            std::string::npos);
  const std::string damaged = slurp(meta());
  unchanged_by({"repair", meta(), "--lost", "live"}, 2);
  make_destination("other.img");
  unchanged_by({"repair", meta(), "--lost", "live", "--dest", file("other.img")}, 1);
  const std::string before = slurp(meta());
  change([](Superblock& s) { s.needs_check = true; });
  Words cleared{"repair", meta(), "--lost", "live", "--dest", file("dest.img")};
  cleared.push_back("--clear-needs-check");
  unchanged_by(cleared, 1);
  spill(meta(), before);
  const Words live_states{"repair", meta(), "--lost", "live", "--dest", file("dest.img")};
  EXPECT_EQ(run(live_states).exit_code, 0);
  EXPECT_FALSE(superblock().clean) << "the live map has the last word";
  EXPECT_EQ(superblock().attach_id, id_of(9));

  (*live)->remove();
  spill(meta(), damaged);
  unchanged_by(live_states, 1);
  const Outcome said = run({"repair", meta()});
  EXPECT_NE(said.out.find("acknowledged and not flushed"), std::string::npos) << said.out;
  EXPECT_EQ(run({"repair", meta(), "--lost", "origin", "--backup", file("b2")}).exit_code, 3)
      << "the live map is still missing";
  EXPECT_EQ(run({"repair", meta(), "--without-live-map", "--backup", file("b3")}).exit_code, 0);
  expect_power_loss();
}

// The states that only the live map had are durable afterwards: the machine may lose power before
// the clone is opened again.
TEST_F(MetadataTools, repair_makes_what_the_live_map_knows_durable) {
  const auto host = read_host_ids();
  ASSERT_TRUE(host);
  change([&](Superblock& s) { s.destination_identity = make_destination("dest.img"); });
  MemoryDevice device = load();
  const auto attach_to = [&](MemoryDevice& to, const HostIds& ids, std::string live_dir) {
    auto found = sim_.run(read_superblock(to));
    auto store = sim_.run(MetadataStore::attach(to, **found, std::move(live_dir), ids));
    EXPECT_TRUE(store) << store.error().message();
    return store ? std::move(*store) : nullptr;
  };
  Picture wanted;
  {
    const auto store = attach_to(device, *host, folder_);  // And dies.
    ASSERT_TRUE(store);
    ASSERT_TRUE(set(*store, 20 * kPerPage + 50, 3));
    wanted = picture_of(store->map());
  }
  save(device);
  flip(unit_of_page(20) * kUnitBytes + 1000);
  const Outcome done = run({"repair", meta(), "--lost", "live", "--dest", file("dest.img")});
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_EQ(run({"check", meta()}).exit_code, 0);
  MemoryDevice repaired = load();
  {
    MemoryDevice copy = repaired;
    const ScratchDir nothing;
    const auto store = attach_to(copy, {id_of(0xb1), host->machine}, nothing.path());
    ASSERT_TRUE(store);
    EXPECT_EQ(picture_of(store->map()), wanted) << "after a power loss";
  }
  const auto store = attach_to(repaired, *host, folder_);
  ASSERT_TRUE(store);
  EXPECT_EQ(picture_of(store->map()), wanted) << "in the same boot";
}

TEST_F(MetadataTools, repair_clears_needs_check_only_when_asked_and_nothing_is_lost) {
  change([](Superblock& s) {
    s.needs_check = true;
    s.reason = "a flush failed";
  });
  EXPECT_EQ(run({"check", meta()}).exit_code, 3);
  EXPECT_NE(run({"repair", meta()}).out.find("needs_check: a flush failed"), std::string::npos);
  flip(unit_of_page(20) * kUnitBytes);
  unchanged_by({"repair", meta(), "--clear-needs-check"}, 1);
  EXPECT_EQ(run({"repair", meta(), "--clear-needs-check", "--lost", "origin"}).exit_code, 0);
  EXPECT_FALSE(superblock().needs_check);
  EXPECT_EQ(superblock().reason, "");
  EXPECT_EQ(run({"check", meta()}).exit_code, 0);
}

TEST_F(MetadataTools, repair_rebinds_to_what_is_named_and_large_enough) {
  spill(file("dest.img"), "");
  ASSERT_EQ(::truncate(file("dest.img").c_str(), kSize - 512), 0);
  ASSERT_EQ(::symlink(file("dest.img").c_str(), file("origin.img").c_str()), 0);
  expect_error_line(run({"repair", meta(), "--rebind"}), 2, "--origin");
  expect_error_line(run({"repair", meta(), "--dest", file("dest.img")}), 2, "--rebind");
  unchanged_by({"repair", meta(), "--rebind", "--dest", file("dest.img")}, 1);
  unchanged_by({"repair", meta(), "--rebind", "--origin", file("origin.img")}, 1);
  ASSERT_EQ(::truncate(file("dest.img").c_str(), kSize), 0);
  const Words check{"check", meta(), "--dest", file("dest.img"), "--origin", file("origin.img")};
  EXPECT_EQ(run(check).exit_code, 3);
  const Outcome done = run(
      {"repair", meta(), "--rebind", "--origin", file("origin.img"), "--dest", file("dest.img")});
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_EQ(run(check).exit_code, 0) << run(check).out;
}

}  // namespace
}  // namespace clonedev
