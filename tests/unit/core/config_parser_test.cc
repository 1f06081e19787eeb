#include "core/config_parser.h"

#include <gtest/gtest.h>

#include <iterator>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "clonedev/options.h"
#include "core/config_keys.h"

namespace clonedev {
namespace {

const std::string kBase = "clone/origin=/srv/golden.img;dest=/dev/vg/vm1";

std::string verdict(const std::string& config) {
  const auto options = parse_config(config);
  if (options) {
    return "accepted";
  }
  EXPECT_EQ(options.error().code, make_error_code(Errc::bad_config)) << config;
  return options.error().message();
}

struct Refusal {
  std::string config;
  std::vector<std::string> words;  // All of them are in the message.
};

void expect_refused(const Refusal& refusal) {
  const std::string text = verdict(refusal.config);
  EXPECT_NE(text, "accepted") << refusal.config;
  EXPECT_EQ(text.find('\n'), std::string::npos) << text;
  for (const auto& word : refusal.words) {
    EXPECT_NE(text.find(word), std::string::npos) << refusal.config << "\n -> " << text;
  }
}

TEST(ConfigParser, fills_in_the_defaults) {
  const auto options = parse_config(kBase);
  ASSERT_TRUE(options);
  EXPECT_EQ(options->origin, "/srv/golden.img");
  EXPECT_EQ(options->dest, "/dev/vg/vm1");
  EXPECT_EQ(options->meta, "");
  EXPECT_EQ(options->conf, "");
  EXPECT_EQ(options->region_size, 4096U);
  EXPECT_TRUE(options->write_cache);
  EXPECT_FALSE(options->read_only);
  EXPECT_FALSE(options->init_overwrite);
  EXPECT_TRUE(options->hydration);
  EXPECT_EQ(options->hydration_threshold, 0U);
  EXPECT_EQ(options->hydration_batch_size, 0U);
  EXPECT_EQ(options->rate_limit, 0U);
  EXPECT_EQ(options->min_rate, 0U);
  EXPECT_TRUE(options->copy_on_read);
  EXPECT_TRUE(options->discard_passdown);
  EXPECT_EQ(options->origin_timeout_ms, 20'000U);
  EXPECT_EQ(options->on_origin_loss, OriginLoss::busy);
  EXPECT_TRUE(options->warnings.empty());
}

TEST(ConfigParser, reads_every_key) {
  // More than one config string has room for: a conf file.
  const auto options = parse_conf_text(
      "origin=/a\ndest=/b\nmeta=/m\nregion_size=64K\nwrite_cache=off\nro=on\ninit=overwrite\n"
      "hydration=off\nhydration_threshold=7\nhydration_batch_size=9\nrate_limit=20m\n"
      "min_rate=64K\ncopy_on_read=off\ndiscard_passdown=off\norigin_timeout=1500ms\n"
      "on_origin_loss=error\n",
      "f", "clone/conf=f");
  ASSERT_TRUE(options) << options.error().message();
  EXPECT_EQ(options->meta, "/m");
  EXPECT_EQ(options->region_size, 65536U);
  EXPECT_FALSE(options->write_cache);
  EXPECT_TRUE(options->read_only);
  EXPECT_TRUE(options->init_overwrite);
  EXPECT_FALSE(options->hydration);
  EXPECT_EQ(options->hydration_threshold, 7U);
  EXPECT_EQ(options->hydration_batch_size, 9U);
  EXPECT_EQ(options->rate_limit, 20U << 20);
  EXPECT_EQ(options->min_rate, 64U << 10);
  EXPECT_FALSE(options->copy_on_read);
  EXPECT_FALSE(options->discard_passdown);
  EXPECT_EQ(options->origin_timeout_ms, 1500U);
  EXPECT_EQ(options->on_origin_loss, OriginLoss::error);
}

TEST(ConfigParser, knows_the_bare_words_of_dm_clone) {
  const auto options = parse_config(kBase + ";no_hydration;no_discard_passdown");
  ASSERT_TRUE(options);
  EXPECT_FALSE(options->hydration);
  EXPECT_FALSE(options->discard_passdown);
}

TEST(ConfigParser, accepts_every_kind_of_origin_of_this_version) {
  for (const std::string origin :
       {"/srv/a", "file%3A/srv/a", "file%3A///srv/a", "nbd%3A//server", "NBD%3A//server%3A10809/x",
        "nbds%3A//server/export", "nbd+unix%3A///export?socket=/run/nbd.sock",
        "http%3A//server/disk.img", "HTTPS%3A//server%3A8443/a/b%2520c"}) {
    EXPECT_EQ(verdict("clone/origin=" + origin + ";dest=/d"), "accepted") << origin;
  }
}

TEST(ConfigParser, takes_one_alternate_of_any_kind) {
  const auto options = parse_config(kBase + ";alternate=NBD%3A//second/disk");
  ASSERT_TRUE(options);
  EXPECT_EQ(options->alternates, std::vector<std::string>{"nbd://second/disk"});
  EXPECT_TRUE(options->first_static_difference(*parse_config(kBase)));
}

TEST(ConfigParser, authorities_may_be_those_of_an_alternate) {
  EXPECT_EQ(verdict(kBase + ";alternate=https%3A//second/disk;origin_ca=/ca.pem"), "accepted");
  EXPECT_NE(verdict(kBase + ";alternate=/x;origin_ca=/ca.pem"), "accepted");
}

TEST(ConfigParser, decodes_values_once_after_splitting_and_leaves_plus_alone) {
  const auto options =
      parse_config("clone/origin=nbd%3a//h/a%253B+b;dest=/d%3Bhydration%3doff%2c%20x=y");
  ASSERT_TRUE(options);
  EXPECT_EQ(options->origin, "nbd://h/a%3B+b");
  EXPECT_EQ(options->dest, "/d;hydration=off, x=y");
  EXPECT_TRUE(options->hydration);
}

TEST(ConfigParser, forgives_a_trailing_newline_and_a_trailing_semicolon) {
  EXPECT_EQ(verdict(kBase + "\n"), "accepted");
  EXPECT_EQ(verdict(kBase + ";"), "accepted");
  EXPECT_EQ(verdict(kBase + " \r\n"), "accepted");
}

TEST(ConfigParser, counts_bytes_up_to_what_the_kernel_takes) {
  const std::string exact = kBase + std::string(254 - kBase.size(), 'x');
  EXPECT_EQ(verdict(exact), "accepted");
  EXPECT_EQ(verdict(exact + "\n"), "accepted");
  expect_refused({exact + "x", {"255 bytes", "254", "conf=NAME"}});
}

TEST(ConfigParser, refuses_in_one_sentence_that_names_the_key) {
  const std::vector<Refusal> refusals = {
      {"", {"clone/"}},
      {"clone", {"clone/"}},
      {"rbd/origin=/a;dest=/b", {"clone/"}},
      {"clone/", {"origin", "missing"}},
      {"clone/dest=/b", {"origin", "missing"}},
      {"clone/origin=/a", {"dest", "missing"}},
      {"clone/origin=nbd://h;dest=/b", {"':'", "%3A", "conf=NAME"}},
      {"clone/origin=/a b;dest=/b", {"blank", "%20"}},
      {"clone/origin=/a,b;dest=/b", {"comma", "%2C"}},
      {"clone/origin=/a;dest=/b\x01", {"control character"}},
      {"clone/origin=/a;dest=/b%00c", {"dest", "control character"}},
      {"clone/origin=/a;dest=/b%0ac", {"dest", "control character"}},
      {"clone/origin=/a;;dest=/b", {"empty setting", "';'"}},
      {"clone/origin=/a;dest=/b%", {"dest", "escape", "%25"}},
      {"clone/origin=/a;dest=/b%4", {"dest", "escape"}},
      {"clone/origin=/a;dest=/b%zz", {"dest", "escape"}},
      {"clone/origin=/a;dest=/b%+1", {"dest", "escape"}},
      {kBase + ";hydration_treshold=4", {"hydration_treshold", "mean hydration_threshold?"}},
      {kBase + ";nohydration", {"nohydration", "mean no_hydration?"}},
      {kBase + ";Hydration=on", {"Hydration", "mean hydration?"}},
      {kBase + ";speed_limit=1m", {"speed_limit", "unknown key", "tcmu-clone(7)"}},
      {kBase + ";prefetch=on", {"prefetch", "unknown key"}},
      {kBase + ";rw=on", {"rw", "unknown key"}},
      {kBase + ";alternate=/x;alternate=/y", {"alternate", "twice"}},
      {kBase + ";alternate=x", {"alternate", "absolute path"}},
      {kBase + ";alternate=/dev/vg/vm1", {"alternate and dest", "same path"}},
      {kBase + ";alternate=file%3A/m;meta=/m", {"alternate and meta", "same path"}},
      {kBase + ";alternate=nbd%3A//alice%40server", {"alternate", "conf file of mode 0600"}},
      {kBase + ";on_origin_loss=wait", {"on_origin_loss", "\"wait\"", "busy nor error"}},
      {kBase + ";=x", {"unknown key"}},
      {kBase + ";dest=/c", {"dest", "twice"}},
      {kBase + ";hydration=on;no_hydration", {"hydration", "twice"}},
      {kBase + ";no_hydration=on", {"no_hydration", "takes no value"}},
      {kBase + ";hydration", {"hydration", "no value"}},
      {kBase + ";meta=", {"meta", "no value"}},
      {kBase + ";hydration=yes", {"hydration", "\"yes\"", "on nor off"}},
      {kBase + ";write_cache=ON", {"write_cache", "on nor off"}},
      {kBase + ";hydration_threshold=0", {"hydration_threshold", "auto", "from 1"}},
      {kBase + ";hydration_threshold=-1", {"hydration_threshold"}},
      {kBase + ";hydration_batch_size=4294967296", {"hydration_batch_size", "4294967295"}},
      {kBase + ";hydration_batch_size=4k", {"hydration_batch_size"}},
      {kBase + ";rate_limit=auto", {"rate_limit", "\"auto\"", "none"}},
      {kBase + ";rate_limit=0", {"rate_limit", "4k", "hydration=off"}},
      {kBase + ";min_rate=4095", {"min_rate", "auto", "4k"}},
      {kBase + ";copy_on_read=maybe", {"copy_on_read", "on nor off"}},
      {kBase + ";min_rate=2m;rate_limit=1m", {"min_rate", "2097152", "rate_limit=1048576"}},
      {"clone/conf=vm1;rate_limit=1m;min_rate=2m", {"min_rate", "rate_limit"}},
      {kBase + ";region_size=5k", {"region_size", "\"5k\"", "power of two"}},
      {kBase + ";region_size=2k", {"region_size", "power of two"}},
      {kBase + ";region_size=2g", {"region_size", "power of two"}},
      {kBase + ";region_size=4kb", {"region_size", "not a size"}},
      {kBase + ";region_size=16777216t", {"region_size", "too large"}},
      {kBase + ";init=yes", {"init", "overwrite"}},
      {kBase + ";origin_timeout=20", {"origin_timeout", "20s"}},
      {kBase + ";origin_timeout=s", {"origin_timeout"}},
      {kBase + ";origin_timeout=30s", {"origin_timeout", "29s"}},
      {kBase + ";origin_timeout=99ms", {"origin_timeout", "100ms"}},
      {kBase + ";origin_timeout=18446744073709551615s", {"origin_timeout", "29s"}},
      {"clone/origin=a;dest=/b", {"origin", "absolute path"}},
      {"clone/origin=/a;dest=b", {"dest", "\"b\"", "absolute"}},
      {kBase + ";meta=m", {"meta", "absolute"}},
      {"clone/origin=http%3A///x;dest=/b", {"http", "server"}},
      {"clone/origin=https%3Ah/x;dest=/b", {"https", "//"}},
      {"clone/origin=http%3A//h%3Ax/y;dest=/b", {"port"}},
      {"clone/origin=iscsi%3A//h/x;dest=/b", {"iscsi", "no target's name follows"}},
      {"clone/origin=ftp%3A//h/x;dest=/b", {"origin", "scheme is not known"}},
      {"clone/origin=file%3A//host/x;dest=/b", {"origin", "absolute path"}},
      {"clone/origin=file%3Ax;dest=/b", {"origin", "absolute path"}},
      {"clone/origin=nbd%3A//;dest=/b", {"origin", "server"}},
      {"clone/origin=nbd%3Ahost;dest=/b", {"origin", "//"}},
      {"clone/origin=nbd+unix%3A///x;dest=/b", {"origin", "socket="}},
      {"clone/origin=/a;dest=/a", {"origin and dest", "same"}},
      {"clone/origin=file%3A///a;dest=/a", {"origin and dest", "same"}},
      {"clone/origin=/a;dest=/b;meta=/a", {"origin and meta", "same"}},
      {"clone/origin=/a;dest=/b;meta=/b", {"dest and meta", "same"}},
      {"clone/conf=", {"conf", "no value"}},
      {"clone/conf=../x", {"conf", "file name"}},
      {"clone/conf=.x", {"conf", "leading dot"}},
      {"clone/conf=a%2Fb", {"conf", "file name"}},
      {"clone/conf=vm1;dest=/b", {"dest", "conf file"}},
      {"clone/region_size=4k;conf=vm1", {"region_size", "conf file"}},
      {kBase + ";tcmur_cmd_time_out=3;hydration=on", {"tcmur_cmd_time_out", "last"}},
  };
  for (const Refusal& refusal : refusals) {
    expect_refused(refusal);
  }
}

TEST(ConfigParser, never_shows_what_may_be_a_secret) {
  for (const std::string config : {
           "clone/origin=nbd%3A//user%3Asesame@h;dest=b",
           "clone/origin=http%3A//user%3Asesame@h;dest=/b",
           "clone/origin=xyz%3A//user%3Asesame@h;dest=/b",
           "clone/origin=sesame%zz;dest=/b",
           "clone/origin=user%3Ases;ame@h;dest=/b",
           "clone/origin=sesame;dest=/b",
           "clone/origin=nbd+unix%3A//u%3Asesame@/x;dest=/b",
           "clone/origin=iscsi%3A//u%25sesame@h/x/1;dest=/b",
           "clone/origin=iscsi%3A//u%25ses/ame@h/iqn.a%3Ab/1;dest=/b",
           "clone/origin=nbd://user:sesame@h;dest=/b",
       }) {
    const std::string text = verdict(config);
    EXPECT_NE(text, "accepted") << config;
    EXPECT_EQ(text.find("sesame"), std::string::npos) << text;
    EXPECT_EQ(text.find("\"ame"), std::string::npos) << text;
  }
}

TEST(ConfigParser, keeps_messages_printable_whatever_the_string_holds) {
  for (int byte = 1; byte < 256; ++byte) {
    const std::string odd(1, static_cast<char>(byte));
    for (const std::string& config :
         {kBase + ";x" + odd + "=1", kBase + ";hydration=" + odd, "clone/" + odd}) {
      for (const char c : verdict(config)) {
        EXPECT_TRUE(c >= 0x20 && c < 0x7f) << byte;
      }
    }
  }
}

TEST(ConfigParser, refuses_credentials_in_a_string_everybody_can_read) {
  for (const std::string setting :
       {"origin=nbds%3A//user%3Asesame@h/x", "origin=https%3A//user%3Asesame@h/x",
        "origin=https%3A//h/x?X-Signature=sesame", "origin=https%3A//h/x;origin_token=sesame"}) {
    const std::string text = verdict("clone/" + setting + ";dest=/b");
    EXPECT_NE(text.find("conf file of mode 0600"), std::string::npos) << text;
    EXPECT_EQ(text.find("sesame"), std::string::npos) << text;
  }
}

TEST(ConfigParser, takes_the_keys_of_http_origins_for_these_only) {
  const auto options = parse_conf_text(
      "origin=https://u:p@h/x?y\ndest=/b\norigin_token=a.b-c_d~e+f/g==\norigin_ca=/ca.pem\n", "f",
      "clone/conf=f");
  ASSERT_TRUE(options) << options.error().message();
  EXPECT_EQ(options->origin_token, "a.b-c_d~e+f/g==");
  EXPECT_EQ(options->origin_ca, "/ca.pem");
  for (const std::string line : {"origin_token=a", "origin_ca=/ca.pem"}) {
    EXPECT_FALSE(parse_conf_text("origin=/a\ndest=/b\n" + line, "f", "clone/conf=f")) << line;
  }
  const auto odd =
      parse_conf_text("origin=http://h/x\ndest=/b\norigin_token=se same\n", "f", "clone/conf=f");
  ASSERT_FALSE(odd);
  EXPECT_EQ(odd.error().message().find("same"), std::string::npos);
}

TEST(ConfigParser, tolerates_the_watchdog_of_the_runner_with_a_warning) {
  for (const std::string tail : {";tcmur_cmd_time_out=30", ";tcmur_cmd_time_out=30;"}) {
    const auto options = parse_config(kBase + tail);
    ASSERT_TRUE(options);
    ASSERT_EQ(options->warnings.size(), 1U);
    EXPECT_NE(options->warnings[0].find("tcmur_cmd_time_out"), std::string::npos);
  }
}

TEST(ConfigParser, takes_live_keys_beside_conf) {
  const auto options = parse_config("clone/conf=vm1;hydration=off;origin_timeout=5s");
  ASSERT_TRUE(options);
  EXPECT_EQ(options->conf, "vm1");
  EXPECT_EQ(options->origin, "");
  EXPECT_FALSE(options->hydration);
  EXPECT_EQ(options->origin_timeout_ms, 5000U);
}

TEST(ConfigParser, the_words_for_no_rate_are_the_defaults) {
  const auto options = parse_config(kBase + ";rate_limit=none;min_rate=auto");
  ASSERT_TRUE(options);
  EXPECT_EQ(options->rate_limit, 0U);
  EXPECT_EQ(options->min_rate, 0U);
  EXPECT_TRUE(parse_config(kBase + ";rate_limit=1m;min_rate=1m"));
}

TEST(ConfigParser, tells_static_keys_from_live_ones) {
  const auto base = parse_config(kBase);
  ASSERT_TRUE(base);
  const auto changed = [&](const std::string& setting) {
    const auto other = parse_config(kBase + ";" + setting);
    EXPECT_TRUE(other) << setting;
    return other && base->first_static_difference(*other);
  };
  for (const std::string live :
       {"no_hydration", "hydration_threshold=2", "hydration_batch_size=2", "no_discard_passdown",
        "origin_timeout=2s", "on_origin_loss=error"}) {
    EXPECT_FALSE(changed(live)) << live;
  }
  for (const std::string fixed :
       {"meta=/m", "region_size=8k", "write_cache=off", "init=overwrite"}) {
    EXPECT_TRUE(changed(fixed)) << fixed;
  }
  // The clone has been made: that the word goes changes nothing.
  EXPECT_FALSE(parse_config(kBase + ";init=overwrite")->first_static_difference(*base));
  EXPECT_TRUE(base->first_static_difference(*parse_config("clone/origin=/x;dest=/dev/vg/vm1")));
  EXPECT_TRUE(base->first_static_difference(*parse_config("clone/origin=/srv/golden.img;dest=/x")));
  EXPECT_TRUE(parse_config("clone/conf=a")->first_static_difference(*parse_config("clone/conf=b")));
}

TEST(ConfigParser, measures_sizes_in_factors_of_1024) {
  const std::vector<std::pair<std::string, std::uint64_t>> sizes = {
      {"0", 0},         {"100", 100},     {"4k", 4096},       {"4K", 4096},
      {"3m", 3U << 20}, {"1G", 1U << 30}, {"2t", 2ULL << 40}, {"18446744073709551615", ~0ULL},
  };
  for (const auto& [text, bytes] : sizes) {
    const auto size = parse_size(text);
    ASSERT_TRUE(size) << text;
    EXPECT_EQ(*size, bytes) << text;
  }
  for (const std::string text : {"", "k", "-1", "+1", " 1", "1 ", "1.5g", "1kk", "0x10", "1e3",
                                 "18446744073709551616", "16777216t", "1p"}) {
    EXPECT_FALSE(parse_size(text)) << text;
  }
}

// Words at the start of the help's lines: KEY=VALUE or a bare word.
std::set<std::string> words_of_help() {
  std::set<std::string> words;
  const std::string help = config_help();
  const std::regex line("(^|\n)  ([a-z_]+=[^ ]+|no_[a-z_]+) ");
  for (std::sregex_iterator it(help.begin(), help.end(), line), end; it != end; ++it) {
    words.insert((*it)[2]);
  }
  return words;
}

std::string example_of(const std::string& word) {
  static const std::vector<std::pair<std::string, std::string>> kExamples = {
      {"SPEC", "/a"}, {"PATH", "/p"},          {"NAME", "vm1"},     {"SIZE", "8k"},
      {"TIME", "2s"}, {"on|off", "off"},       {"N|auto", "12"},    {"overwrite", "overwrite"},
      {"TOKEN", "t"}, {"busy|error", "error"}, {"SIZE|none", "1g"}, {"SIZE|auto", "4k"},
  };
  const auto equals = word.find('=');
  if (equals == std::string::npos) {
    return word;
  }
  for (const auto& [kind, value] : kExamples) {
    if (word.substr(equals + 1) == kind) {
      return word.substr(0, equals + 1) + value;
    }
  }
  ADD_FAILURE() << "no example for " << word;
  return word;
}

TEST(ConfigHelp, names_only_keys_that_are_accepted) {
  const auto words = words_of_help();
  EXPECT_EQ(words.size(), 22U);
  for (const std::string& word : words) {
    const std::string setting = example_of(word);
    std::string config = kBase + ";" + setting;
    if (word.starts_with("origin=")) {
      config = "clone/dest=/b;" + setting;
    } else if (word.starts_with("dest=")) {
      config = "clone/origin=/b;" + setting;
    } else if (word.starts_with("conf=")) {
      config = "clone/" + setting;
    } else if (word.starts_with("origin_ca=")) {
      config = "clone/origin=https%3A//h/x;dest=/b;" + setting;
    } else if (word.starts_with("origin_token=")) {  // In a conf file, that is.
      EXPECT_NE(verdict(config).find("write it to a conf file"), std::string::npos) << config;
      continue;
    }
    EXPECT_EQ(verdict(config), "accepted") << config;
  }
}

TEST(ConfigHelp, names_every_key_that_is_accepted) {
  std::set<std::string> helped;
  for (const std::string& word : words_of_help()) {
    helped.insert(word.substr(0, word.find('=')));
  }
  for (const std::string word :
       {"origin", "alternate", "dest", "meta", "conf", "region_size", "write_cache", "ro", "init",
        "hydration", "no_hydration", "hydration_threshold", "hydration_batch_size",
        "discard_passdown", "no_discard_passdown", "origin_timeout", "on_origin_loss",
        "origin_token", "origin_ca"}) {
    EXPECT_NE(config::find_key(word), nullptr) << word;
    EXPECT_EQ(helped.count(word), 1U) << word;
  }
}

}  // namespace
}  // namespace clonedev
