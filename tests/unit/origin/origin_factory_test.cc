#include "origin/origin_factory.h"

#include <gtest/gtest.h>

#include "origin/file_origin.h"
#include "origin/http_origin.h"
#include "origin/nbd_origin.h"
#include "support/run_on_reactor.h"

namespace clonedev {
namespace {

class OriginFactoryTest : public testing::Test {
 protected:
  template <class Kind>
  bool makes(const std::string& spec) {
    auto factory = origin_factory(spec, *reactor_, {});
    if (!factory) return false;
    const auto origin = (*factory)();
    return dynamic_cast<Kind*>(origin.get()) != nullptr;
  }
  std::string refusal(const std::string& spec) {
    auto factory = origin_factory(spec, *reactor_, {});
    return factory ? "" : factory.error().message();
  }
  std::unique_ptr<Reactor> reactor_ = new_reactor();
};

TEST_F(OriginFactoryTest, knows_paths_and_nbd_uris) {
  EXPECT_TRUE(makes<FileOrigin>("/dev/vg/golden"));
  EXPECT_TRUE(makes<FileOrigin>("/dev/disk/by-path/pci-0000:00:1f.2"));
  EXPECT_TRUE(makes<FileOrigin>("file:/images/golden.img"));
  EXPECT_TRUE(makes<FileOrigin>("file:///images/golden.img"));
  EXPECT_TRUE(makes<NbdOrigin>("nbd://host/export"));
  EXPECT_TRUE(makes<NbdOrigin>("nbds://host:10809/"));
  EXPECT_TRUE(makes<NbdOrigin>("nbd+unix:///?socket=/run/nbd.sock"));
}

TEST_F(OriginFactoryTest, knows_http_urls) {
  EXPECT_TRUE(makes<HttpOrigin>("http://host/disk.img"));
  EXPECT_TRUE(makes<HttpOrigin>("https://u:p@host:8443/disk.img?signature=x"));
  EXPECT_NE(refusal("http:host"), "");
  EXPECT_EQ(refusal("https://u:sesame@[::1/x?sesame").find("sesame"), std::string::npos);
}

TEST_F(OriginFactoryTest, refuses_everything_else_with_one_sentence) {
  EXPECT_NE(refusal("ftp://user:pw@host/x").find("'ftp:' is no kind of origin"), std::string::npos);
  EXPECT_EQ(refusal("ftp://user:pw@host/x").find("pw"), std::string::npos);
  EXPECT_NE(refusal("images/golden.img").find("not an absolute path"), std::string::npos);
  EXPECT_NE(refusal("file:golden.img").find("not an absolute path"), std::string::npos);
  EXPECT_NE(refusal(""), "");
  EXPECT_NE(refusal("nbd:host"), "");
}

TEST_F(OriginFactoryTest, what_is_no_uri_is_found_out_by_open) {
  auto factory = origin_factory("nbd+unix:///?sock=/oops", *reactor_, {});
  ASSERT_TRUE(factory);
  const auto origin = (*factory)();
  const auto opened = run_on(*reactor_, [&] { return origin->open(); });
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Errc::bad_config) << opened.error().message();
  run_on(*reactor_, [&] { return origin->close(); });
}

}  // namespace
}  // namespace clonedev
