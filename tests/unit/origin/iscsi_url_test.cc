#include "core/iscsi_url.h"

#include <gtest/gtest.h>

#include "origin/origin_name.h"

namespace clonedev {
namespace {

TEST(IscsiUrl, is_taken_apart) {
  const auto url = parse_iscsi_url(
      "iscsi://alice%s3c:r%t@storage.example:13260/iqn.2003-01.org%3Adisk/12"
      "?target_user=bob&target_password=p%w&initiator=iqn.2026-01.me:x&header_digest=crc32c");
  ASSERT_TRUE(url) << url.error().message();
  EXPECT_EQ(url->user, "alice");
  EXPECT_EQ(url->secret, "s3c:r%t");
  EXPECT_EQ(url->host, "storage.example");
  EXPECT_EQ(url->port, 13260);
  EXPECT_EQ(url->target, "iqn.2003-01.org:disk");
  EXPECT_EQ(url->lun, 12);
  EXPECT_EQ(url->target_user, "bob");
  EXPECT_EQ(url->target_secret, "p%w");
  EXPECT_EQ(url->initiator, "iqn.2026-01.me:x");
  EXPECT_TRUE(url->header_digest);
  const auto plain = parse_iscsi_url("iscsi://[fd00::1]/iqn.2003-01.org:disk/0");
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->host, "fd00::1");
  EXPECT_EQ(plain->port, 3260);
  EXPECT_EQ(plain->user, "");
  EXPECT_EQ(parse_iscsi_url("iscsi://[::1]:99/eui.0123456789abcdef/1")->port, 99);
}

TEST(IscsiUrl, whatever_is_accepted_has_no_secret_in_its_name) {
  for (const std::string before : {"alice%SECRET@", "alice:SECRET@", "a@b%SECRET@", "SECRET%x@"}) {
    const std::string url = "iscsi://" + before + "host/iqn.2003-01.org:disk/1";
    for (const std::string after : {"", "?target_user=u&target_password=SECRET"}) {
      ASSERT_TRUE(parse_iscsi_url(url + after)) << url;
      EXPECT_EQ(origin_name(url + after), "iscsi://host/iqn.2003-01.org:disk/1");
    }
  }
}

TEST(IscsiUrl, refuses_the_rest_without_showing_it) {
  for (const std::string url : {"iscsi://",
                                "iscsi:///iqn.a:b/1",
                                "iscsi://host",
                                "iscsi://host/iqn.a:b",
                                "iscsi://host/iqn.a:b/",
                                "iscsi://host/iqn.a:b/1x",
                                "iscsi://host/iqn.a:b/16384",
                                "iscsi://host/disk/1",
                                "iscsi://host:0/iqn.a:b/1",
                                "iscsi://host:99999/iqn.a:b/1",
                                "iscsi://host:/iqn.a:b/1",
                                "iscsi://[::1/iqn.a:b/1",
                                "iscsi://alice@host/iqn.a:b/1",
                                "iscsi://u%SECRET/x@host/iqn.a:b/1",
                                "iscsi://u%SECRET#x@host/iqn.a:b/1",
                                "iscsi://u%SECRET?x@host/iqn.a:b/1",
                                "iscsi://u%/iqn.SECRET@host/1",
                                "iscsi://host/iqn.a:b/1?SECRET",
                                "iscsi://host/iqn.a:b/1?header_digest",
                                "iscsi://host/iqn.a:b/1?target_user=u&target_password=SECRET",
                                "iscsi://u%s@host/iqn.a:b/1?target_user=u",
                                "nbd://host/iqn.a:b/1"}) {
    const auto parsed = parse_iscsi_url(url);
    ASSERT_FALSE(parsed) << url;
    EXPECT_EQ(parsed.error().code, Errc::bad_config);
    EXPECT_EQ(parsed.error().message().find("SECRET"), std::string::npos);
  }
}

}  // namespace
}  // namespace clonedev
