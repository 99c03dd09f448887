#include "net/proxy_rules.h"

#include <gtest/gtest.h>

#include "net/upstream_environment.h"

namespace llm_proxy {
namespace {

TEST(ProxyRules, except_what_no_proxy_names) {
  UpstreamOptions options;
  options.http_proxy = "http://plain:3128";
  options.https_proxy = "http://tunnel:3129";
  options.no_proxy = "example.com, .internal ,*.corp,10.0.0.0/8,192.168.1.1,h:8443,fd00::/8";
  const auto made = ProxyRules::make(options);
  ASSERT_TRUE(made);
  const ProxyRules& rules = **made;
  struct Case {
    const char* host;
    int port;
    bool proxied;
  };
  for (const Case& each : {
           Case{"api.openai.com", 443, true},
           Case{"example.com", 443, false},
           Case{"a.EXAMPLE.com", 443, false},
           Case{"notexample.com", 443, true},
           Case{"a.internal", 443, false},
           Case{"internal", 443, true},
           Case{"a.corp", 443, false},
           Case{"10.1.2.3", 443, false},
           Case{"11.1.2.3", 443, true},
           Case{"192.168.1.1", 443, false},
           Case{"192.168.1.2", 443, true},
           Case{"h", 8443, false},
           Case{"h", 443, true},
           Case{"fd00::1", 443, false},
           Case{"fe00::1", 443, true},
           Case{"localhost", 443, false},
           Case{"127.0.0.1", 443, false},
           Case{"::1", 443, false},
       }) {
    const ProxyHop* hop = rules.hop_to({true, each.host, static_cast<std::uint16_t>(each.port)});
    EXPECT_EQ(hop != nullptr, each.proxied) << each.host;
    if (hop != nullptr) {
      EXPECT_EQ(hop->endpoint.key, "http://tunnel:3129");
    }
  }
  EXPECT_EQ(rules.hop_to({false, "api.openai.com", 80})->endpoint.key, "http://plain:3128");
}

TEST(ProxyRules, star_means_no_proxy_at_all) {
  UpstreamOptions options;
  options.https_proxy = "http://tunnel:3129";
  options.no_proxy = "*";
  EXPECT_EQ((*ProxyRules::make(options))->hop_to({true, "api.openai.com", 443}), nullptr);
}

TEST(ProxyRules, all_proxy_stands_in_for_the_one_that_is_not_named) {
  UpstreamOptions options;
  options.http_proxy = "plain:3128";
  options.all_proxy = "socks5h://user:p%40ss@out";
  const auto rules = *ProxyRules::make(options);
  EXPECT_EQ(rules->hop_to({false, "api.openai.com", 80})->endpoint.key, "http://plain:3128");
  const ProxyHop* hop = rules->hop_to({true, "api.openai.com", 443});
  ASSERT_NE(hop, nullptr);
  EXPECT_EQ(hop->kind, ProxyHop::Kind::socks5h);
  EXPECT_EQ(hop->endpoint.authority(), "out:1080");
  EXPECT_EQ(hop->user, "user");
  EXPECT_EQ(hop->password, "p@ss");
}

TEST(ProxyRules, the_default_port_is_the_schemes) {
  struct Case {
    const char* url;
    const char* place;
  };
  for (const Case& each : {
           Case{"http://out", "out:80"},
           Case{"http://u:p@out", "out:80"},
           Case{"http://[fd00::1]", "[fd00::1]:80"},
           Case{"socks5://[fd00::1]", "[fd00::1]:1080"},
           Case{"socks5://[fd00::1]:9", "[fd00::1]:9"},
           Case{"SOCKS5://u:p@out/", "out:1080"},
       }) {
    UpstreamOptions options;
    options.all_proxy = each.url;
    const auto rules = ProxyRules::make(options);
    ASSERT_TRUE(rules) << each.url << ": " << rules.error().message;
    const ProxyHop* hop = (*rules)->hop_to({true, "api.openai.com", 443});
    EXPECT_EQ(hop->endpoint.authority(), each.place) << each.url;
  }
}

TEST(ProxyRules, names_the_setting_and_no_password_when_an_url_is_none) {
  for (const std::string url : {"https://u:secret@h:1", "ftp://u:secret@h", "http://u:secret@h:x",
                                "socks5://u:secret@", "socks4://u:secret@h"}) {
    UpstreamOptions options;
    options.all_proxy = url;
    const auto rules = ProxyRules::make(options);
    ASSERT_FALSE(rules) << url;
    EXPECT_NE(rules.error().message.find("ALL_PROXY"), std::string::npos) << url;
    EXPECT_EQ(rules.error().message.find("secret"), std::string::npos) << rules.error().message;
  }
}

TEST(ProxyRules, loopback_goes_through_a_proxy_only_when_told) {
  UpstreamOptions options;
  options.all_proxy = "http://out:1";
  const auto told = [&](const char* host) {
    return (*ProxyRules::make(options))->hop_to({false, host, 80}) != nullptr;
  };
  const auto names = {"localhost", "LOCALHOST", "a.localhost",     "127.0.0.1",
                      "127.9.9.9", "::1",       "::ffff:127.0.0.1"};
  for (const char* host : names) EXPECT_FALSE(told(host)) << host;
  options.proxy_loopback = true;
  for (const char* host : names) EXPECT_TRUE(told(host)) << host;
  options.no_proxy = "localhost,127.0.0.1,[::1]:80";
  for (const char* host : {"localhost", "127.0.0.1", "::1"}) EXPECT_FALSE(told(host)) << host;
}

TEST(ProxyRules, none_means_directly) {
  EXPECT_EQ((*ProxyRules::make({}))->hop_to({true, "api.openai.com", 443}), nullptr);
}

}  // namespace
}  // namespace llm_proxy
