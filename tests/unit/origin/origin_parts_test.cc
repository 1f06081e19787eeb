#include <gtest/gtest.h>
#include <sys/sysmacros.h>

#include <filesystem>
#include <fstream>

#include "io/block_identity.h"
#include "origin/origin_name.h"
#include "origin/origin_samples.h"
#include "origin/read_coverage.h"

namespace clonedev {
namespace {

TEST(OriginSamples, are_16_disjoint_blocks_with_the_first_and_the_last_among_them) {
  for (const std::uint64_t size : {std::uint64_t{1} << 20, std::uint64_t{1} << 40,
                                   (std::uint64_t{1} << 62) + 512, std::uint64_t{17 * 4096 + 1}}) {
    const auto samples = sample_extents(size);
    ASSERT_EQ(samples.size(), 16u);
    EXPECT_EQ(samples.front().offset, 0u);
    EXPECT_EQ(samples.back().end(), size);
    for (std::size_t i = 0; i + 1 < samples.size(); ++i) {
      EXPECT_EQ(samples[i].length, 4096u);
      EXPECT_EQ(samples[i].offset % 4096, 0u);
      EXPECT_LE(samples[i].end(), samples[i + 1].offset);
    }
  }
}

TEST(OriginSamples, of_a_small_disk_are_the_whole_disk) {
  EXPECT_EQ(sample_extents(1), (std::vector<Extent>{{0, 1}}));
  EXPECT_EQ(sample_extents(4096), (std::vector<Extent>{{0, 4096}}));
  EXPECT_EQ(sample_extents(9000), (std::vector<Extent>{{0, 4096}, {4096, 4096}, {8192, 808}}));
}

TEST(ReadCoverage, accepts_pieces_in_any_order) {
  ReadCoverage coverage;
  coverage.add({300, 100});
  coverage.add({100, 100});
  coverage.add({200, 100});
  coverage.add({150, 0});
  EXPECT_TRUE(coverage.exactly({100, 300}));
}

TEST(ReadCoverage, sees_gaps_repetitions_and_excess) {
  ReadCoverage gap;
  gap.add({0, 100});
  gap.add({200, 100});
  EXPECT_FALSE(gap.exactly({0, 300}));
  ReadCoverage twice;
  twice.add({0, 100});
  twice.add({0, 100});
  EXPECT_FALSE(twice.exactly({0, 200}));
  ReadCoverage excess;
  excess.add({0, 200});
  EXPECT_FALSE(excess.exactly({0, 100}));
  EXPECT_FALSE(ReadCoverage().exactly({0, 100}));
}

TEST(OriginName, leaves_the_query_of_an_http_url_out) {
  const std::string url = "https://u:p@h.example/a/b?X-Sig=sesame#f";
  EXPECT_EQ(origin_name(url), "https://h.example/a/b");
  EXPECT_EQ(origin_sentence(url, "GET " + url + ": X-Sig=sesame#f: failed"),
            "GET https://h.example/a/b: ***: failed");
  EXPECT_EQ(origin_name("nbd+unix:///?socket=/s"), "nbd+unix:///?socket=/s");
}

TEST(OriginName, leaves_user_and_password_out) {
  EXPECT_EQ(origin_name("nbds://alice:s3cret@host:10809/disk"), "nbds://host:10809/disk");
  EXPECT_EQ(origin_name("nbd://host/user@export"), "nbd://host/user@export");
  EXPECT_EQ(origin_name("/dev/disk/by-id/x@y"), "/dev/disk/by-id/x@y");
}

TEST(OriginName, keeps_secrets_out_of_the_texts_of_others) {
  const std::string spec = "nbds://alice:s3cret@host/disk";
  EXPECT_EQ(origin_sentence(spec, "unable to parse " + spec + " (alice:s3cret)\n"),
            "unable to parse nbds://host/disk (***) ");
  EXPECT_LE(origin_sentence(spec, std::string(5000, 'x')).size(), 200u);
}

class BlockIdentity : public testing::Test {
 protected:
  BlockIdentity() : sysfs_(testing::TempDir() + "clone-sysfs-" + std::to_string(::getpid())) {}
  ~BlockIdentity() override { std::filesystem::remove_all(sysfs_); }
  void put(const std::string& name, const std::string& content) {
    std::filesystem::create_directories(std::filesystem::path(sysfs_ + "/" + name).parent_path());
    std::ofstream(sysfs_ + "/" + name) << content;
  }
  const std::string sysfs_;
};

TEST_F(BlockIdentity, prefers_the_dm_uuid) {
  put("253:0/dm/uuid", "LVM-abc\n");
  EXPECT_EQ(block_identity(makedev(253, 0), sysfs_), "dm=LVM-abc");
}

TEST_F(BlockIdentity, takes_the_wwid_of_scsi_and_nvme) {
  put("8:0/device/wwid", "naa.5000c500\n");
  put("259:0/wwid", "eui.0025\n");
  EXPECT_EQ(block_identity(makedev(8, 0), sysfs_), "wwn=naa.5000c500");
  EXPECT_EQ(block_identity(makedev(259, 0), sysfs_), "wwn=eui.0025");
}

TEST_F(BlockIdentity, names_a_partition_by_its_disk_and_place) {
  put("sda/device/wwid", "naa.5000c500\n");
  put("sda/sda1/partition", "1\n");
  put("sda/sda1/start", "2048\n");
  std::filesystem::create_directory_symlink("sda/sda1", sysfs_ + "/8:1");
  EXPECT_EQ(block_identity(makedev(8, 1), sysfs_), "wwn=naa.5000c500;part=1@2048");
}

TEST_F(BlockIdentity, is_empty_when_the_kernel_knows_nothing) {
  put("7:0/size", "2048\n");
  EXPECT_EQ(block_identity(makedev(7, 0), sysfs_), "");
  put("8:0/device/wwid", "\n");
  EXPECT_EQ(block_identity(makedev(8, 0), sysfs_), "");
}

TEST_F(BlockIdentity, stays_short_and_printable_whatever_the_vendor_wrote) {
  put("8:0/device/wwid", "t10.ATA  " + std::string(250, ' ') + "x\n");
  const std::string id = block_identity(makedev(8, 0), sysfs_);
  EXPECT_LE(id.size(), 60u);
  EXPECT_TRUE(id.starts_with("wwn=xxh-")) << id;
}

}  // namespace
}  // namespace clonedev
