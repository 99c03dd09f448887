#include "http/retry_after.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "base/duration_text.h"

namespace llm_proxy {
namespace {

using std::chrono::milliseconds;

TEST(DurationText, reads_what_providers_write) {
  struct Case {
    std::string_view text;
    std::optional<milliseconds> expected;
  };
  for (const auto& [text, expected] : {
           Case{"2", milliseconds(2'000)}, Case{"0", milliseconds(0)},
           Case{"1.5", milliseconds(1'500)}, Case{"48s", milliseconds(48'000)},
           Case{"34.074824224s\"", milliseconds(34'075)}, Case{"20ms", milliseconds(20)},
           Case{"6m0s", milliseconds(360'000)}, Case{"4h51m33.9s.", milliseconds(17'493'900)},
           Case{"1d2h", milliseconds(93'600'000)}, Case{"", std::nullopt},
           Case{"soon", std::nullopt}, Case{"-5", std::nullopt},
           Case{"99999999999999999999", std::nullopt},
           Case{"1e9s", milliseconds(1'000)},  // as far as it makes sense
       }) {
    EXPECT_EQ(parse_duration_text(text), expected) << text;
  }
}

TEST(RetryAfter, is_understood_in_every_spelling) {
  // 2026-11-21T04:00:00Z
  constexpr std::int64_t kNow = 1'795'233'600'000;
  struct Case {
    std::vector<std::pair<std::string_view, std::string_view>> fields;
    std::optional<milliseconds> expected;
    int status = 429;
  };
  const Case cases[] = {
      {{{"retry-after", "2"}}, milliseconds(2'000)},
      {{{"Retry-After", "2.5"}}, milliseconds(2'500)},
      {{{"retry-after-ms", "2000"}}, milliseconds(2'000)},
      {{{"retry-after", "9"}, {"retry-after-ms", "250.5"}}, milliseconds(250)},
      {{{"retry-after", "Sat, 21 Nov 2026 04:00:04 GMT"}}, milliseconds(4'000)},
      {{{"retry-after", "Saturday, 21-Nov-26 04:00:04 GMT"}}, milliseconds(4'000)},
      {{{"retry-after", "Sat Nov 21 04:00:04 2026"}}, milliseconds(4'000)},
      {{{"retry-after", "Sat, 21 Nov 2026 03:00:00 GMT"}}, milliseconds(0)},
      {{{"retry-after", "1m30s"}}, milliseconds(90'000)},
      {{{"retry-after", "later"}}, std::nullopt},
      {{{"retry-after", "5"}}, milliseconds(5'000), 503},
      {{{"retry-after", "5"}}, std::nullopt, 200},
      {{{"x-ratelimit-remaining-tokens", "0"}, {"x-ratelimit-reset-tokens", "6m0s"}},
       milliseconds(360'000)},
      {{{"x-ratelimit-remaining-tokens", "10"}, {"x-ratelimit-reset-tokens", "6m0s"}},
       std::nullopt},
      {{{"x-ratelimit-remaining", "0"}, {"x-ratelimit-reset", "1795233607"}}, milliseconds(7'000)},
      {{{"x-ratelimit-remaining", "0"}, {"x-ratelimit-reset", "1795233607500"}},
       milliseconds(7'500)},
      {{{"x-ratelimit-remaining", "0"}, {"x-ratelimit-reset", "12"}}, milliseconds(12'000)},
      {{{"anthropic-ratelimit-requests-remaining", "0"},
        {"anthropic-ratelimit-requests-reset", "2026-11-21T04:00:30Z"}},
       milliseconds(30'000)},
      {{{"x-ratelimit-remaining", "0"}, {"x-ratelimit-reset", "12"}}, std::nullopt, 500},
      {{}, std::nullopt},
  };
  for (const auto& each : cases) {
    Fields fields;
    for (const auto& [name, value] : each.fields) fields.add(name, value);
    EXPECT_EQ(parse_retry_after(fields, each.status, kNow), each.expected)
        << (each.fields.empty() ? "none" : each.fields.back().second);
  }
}

}  // namespace
}  // namespace llm_proxy
