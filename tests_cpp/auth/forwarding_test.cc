#include "auth/forwarding.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "auth/web_origin.h"

namespace llm_proxy {
namespace {

using Lines = std::vector<std::pair<std::string_view, std::string_view>>;

Fields fields_of(const Lines& lines) {
  Fields fields;
  for (const auto& [name, value] : lines) fields.add(name, value);
  return fields;
}

TEST(Forwarding, TheRightmostAddressThatIsNoProxysIsTheClient) {
  const auto proxies = TrustedAddresses::build("trusted_proxies", {"10.0.0.0/8", "::1"});
  const std::pair<Lines, std::string_view> cases[] = {
      {{}, "10.0.0.1"},
      {{{"x-forwarded-for", "203.0.113.7"}}, "203.0.113.7"},
      {{{"x-forwarded-for", "1.1.1.1, 203.0.113.7, 10.0.0.9"}}, "203.0.113.7"},
      {{{"x-forwarded-for", "1.1.1.1"}, {"X-Forwarded-For", "203.0.113.7"}}, "203.0.113.7"},
      {{{"x-forwarded-for", "203.0.113.7:4711"}}, "203.0.113.7"},
      {{{"x-forwarded-for", "[2001:db8::7]:4711"}}, "2001:db8::7"},
      {{{"x-forwarded-for", "2001:db8::7"}}, "2001:db8::7"},
      {{{"x-forwarded-for", "::ffff:203.0.113.7"}}, "203.0.113.7"},
      {{{"x-forwarded-for", "10.0.0.8, 10.0.0.9"}}, "10.0.0.8"},
      {{{"forwarded", "for=1.1.1.1, for=\"[2001:db8::7]:1\";proto=https"}}, "2001:db8::7"},
      {{{"forwarded", "proto=https; FOR=203.0.113.7"}}, "203.0.113.7"},
      {{{"x-real-ip", "203.0.113.7"}}, "203.0.113.7"},
      {{{"x-real-ip", "203.0.113.7"}, {"x-forwarded-for", "1.1.1.1, 203.0.113.7"}}, "203.0.113.7"},
      // The outer of two proxies is what the inner one sees.
      {{{"x-real-ip", "10.0.0.9"}, {"x-forwarded-for", "203.0.113.7, 10.0.0.9"}}, "203.0.113.7"},
      {{{"x-real-ip", "203.0.113.7"}, {"x-forwarded-for", "1.1.1.1"}}, kUnknownAddress},
      {{{"forwarded", "for=1.1.1.1"}, {"x-forwarded-for", "203.0.113.7"}}, kUnknownAddress},
      {{{"x-forwarded-for", "203.0.113.7, unknown"}}, kUnknownAddress},
      {{{"x-forwarded-for", "203.0.113.7,"}}, kUnknownAddress},
      {{{"x-forwarded-for", "203.0.113.7, 10.0.0.9.evil.example"}}, kUnknownAddress},
      {{{"forwarded", "by=203.0.113.7"}}, kUnknownAddress},
      {{{"via", "1.1 nginx"}}, kUnknownAddress},
  };
  for (const auto& [lines, client] : cases) {
    EXPECT_EQ(client_address(fields_of(lines), "10.0.0.1", *proxies), client)
        << (lines.empty() ? "" : lines.front().second);
  }
}

TEST(Forwarding, EveryFieldOfAProxySaysSo) {
  for (const auto* name : {"X-Forwarded-For", "x-forwarded-proto", "x_forwarded_host", "Forwarded",
                           "VIA", "X-Real-IP", "x_real_ip", "CF-Connecting-IP"}) {
    EXPECT_TRUE(is_forwarded(fields_of({{name, ""}}))) << name;
  }
  EXPECT_FALSE(is_forwarded(fields_of({{"x-forward", "1"}, {"viable", "1"}, {"accept", "*/*"}})));
}

TEST(KnownHost, IsNoNameThatSomebodyElseCanPointHere) {
  const auto known = [](std::string_view host, std::string_view authority = {}) {
    RequestHead head;
    head.host = host;
    head.authority = authority;
    return is_known_host(head, {"Proxy.Example"});
  };
  for (const auto* host :
       {"localhost", "LOCALHOST:1", "localhost.", "a.localhost", "127.0.0.1:8000", "10.1.2.3",
        "[::1]:80", "[fe80::1]", "proxy.example", "proxy.EXAMPLE.:9", "",
        "host.docker.internal:8000", "proxy", "x:8000"}) {
    EXPECT_TRUE(known(host)) << host;
  }
  for (const auto* host :
       {"evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "127.1", "0x7f.0.0.1",
        "x.proxy.example", "proxy.example.evil", "localhost:1:2", "localhost:", "user@localhost",
        "[localhost]", "[::1"}) {
    EXPECT_FALSE(known(host)) << host;
    EXPECT_FALSE(known("localhost", host)) << host;
  }
  EXPECT_FALSE(known("evil.example", "localhost"));
}

}  // namespace
}  // namespace llm_proxy
