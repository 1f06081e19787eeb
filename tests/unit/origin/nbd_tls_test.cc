// nbds:// with certificates: verified against the CA and the host's name, with no word from the
// user, and never silently without TLS.

#include <gtest/gtest.h>

#include <filesystem>
#include <thread>

#include "origin/nbd_dial.h"
#include "origin/nbd_origin.h"
#include "support/authority.h"
#include "support/hostile_nbd_server.h"
#include "support/nbd_server.h"
#include "support/run_on_reactor.h"

namespace clonedev {
namespace {

using namespace std::chrono_literals;

class NbdTlsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!NbdServer::available()) GTEST_SKIP() << "nbdkit is not installed";
    if (!Authority::possible()) GTEST_SKIP() << "certtool (gnutls-bin) is not installed";
    server_ = std::make_unique<NbdServer>(
        std::vector<std::string>{"--tls=require", "--tls-certificates={folder}/good", "pattern",
                                 "1M"},
        true);
  }
  Result<> connect(const std::filesystem::path& certificates) {
    const std::string address = server_->uri().substr(std::string("nbd://").size());
    const std::string uri = "nbds://" + address + "/?tls-certificates=" + certificates.string();
    NbdOrigin origin(*reactor_, uri, 10s, 1U);
    const auto opened = run_on(*reactor_, [&] { return origin.open(); });
    run_on(*reactor_, [&] { return origin.close(); });
    return opened;
  }

  std::unique_ptr<Reactor> reactor_ = new_reactor();
  std::unique_ptr<NbdServer> server_;
};

TEST_F(NbdTlsTest, server_whose_certificate_is_of_the_known_authority_is_believed) {
  const Authority good(server_->file("good"), "ip_address = \"127.0.0.1\"");
  const Authority other(server_->file("other"), "ip_address = \"127.0.0.1\"");
  server_->start();
  const auto opened = connect(good.folder());
  EXPECT_TRUE(opened) << opened.error().message();
  EXPECT_FALSE(connect(other.folder())) << "a certificate of another authority was believed";
}

// libnbd of Debian 12 believes any server then (CVE-2024-7383).
TEST_F(NbdTlsTest, without_an_authority_to_ask_nobody_is_believed) {
  const Authority good(server_->file("good"), "ip_address = \"127.0.0.1\"");
  server_->start();
  const auto nowhere = connect(server_->file("nowhere"));
  ASSERT_FALSE(nowhere);
  EXPECT_NE(nowhere.error().message().find("ca-cert.pem"), std::string::npos)
      << nowhere.error().message();
  EXPECT_FALSE(connect("")) << "the words are there, the folder is not";
}

TEST_F(NbdTlsTest, certificate_of_another_host_is_refused) {
  const Authority good(server_->file("good"), "dns_name = \"elsewhere.example\"");
  server_->start();
  EXPECT_FALSE(connect(good.folder()));
}

TEST_F(NbdTlsTest, certificate_that_has_expired_is_refused_and_the_sentence_says_so) {
  const Authority good(server_->file("good"),
                       "ip_address = \"127.0.0.1\"\nactivation_date = \"2020-01-01 00:00:00 UTC\"\n"
                       "expiration_date = \"2021-01-01 00:00:00 UTC\"");
  server_->start();
  const auto opened = connect(good.folder());
  ASSERT_FALSE(opened);
  EXPECT_NE(opened.error().message().find("it has expired"), std::string::npos)
      << opened.error().message();
}

TEST_F(NbdTlsTest, server_without_tls_is_refused) {
  const Authority good(server_->file("good"), "ip_address = \"127.0.0.1\"");
  server_ = std::make_unique<NbdServer>(std::vector<std::string>{"pattern", "1M"}, true);
  server_->start();
  EXPECT_FALSE(connect(good.folder()));
}

// GnuTLS waits 40 s for the server's next word, in poll(2), whatever the socket's flags are.
TEST_F(NbdTlsTest, handshake_that_stalls_holds_up_nobody_else) {
  const Authority good(server_->file("good"), "ip_address = \"127.0.0.1\"");
  HostileNbdServer stalled([](HostilePeer& peer) {
    HostilePeer::Option start_tls;
    constexpr std::uint32_t kAck = 1;
    if (peer.greet() && peer.next(start_tls)) peer.option_reply(start_tls.code, kAck, {});
    peer.wait_for_hangup();  // For 10 s.
  });
  const std::string uri = "nbds" + stalled.uri().substr(std::string("nbd").size()) +
                          "&tls-certificates=" + good.folder().string();
  const auto begin = std::chrono::steady_clock::now();
  NbdOrigin origin(*reactor_, uri, 500ms, 1U);
  const auto opened = run_on(*reactor_, [&] { return origin.open(); });
  run_on(*reactor_, [&] { return origin.close(); });
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 3s) << "the reactor stood still";
  ASSERT_FALSE(opened);
  EXPECT_NE(opened.error().message().find("no answer for 0.500 s"), std::string::npos)
      << opened.error().message();
  for (int i = 0; i < 300 && NbdDial::under_way() > 0; ++i) std::this_thread::sleep_for(10ms);
  EXPECT_EQ(NbdDial::under_way(), 0U) << "the thread that has dialled still waits";
}

}  // namespace
}  // namespace clonedev
