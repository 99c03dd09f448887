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

TEST(ProxyRules, none_means_directly) {
  EXPECT_EQ((*ProxyRules::make({}))->hop_to({true, "api.openai.com", 443}), nullptr);
}

}  // namespace
}  // namespace llm_proxy
