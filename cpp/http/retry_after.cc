#include "http/retry_after.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <ctime>
#include <string>

#include "base/duration_text.h"

namespace llm_proxy {
namespace {

using std::chrono::milliseconds;

// RFC 9110's three forms of a date, and RFC 3339's, which Anthropic's reset fields have.
constexpr std::array kDateForms{"%a, %d %b %Y %H:%M:%S", "%A, %d-%b-%y %H:%M:%S",
                                "%a %b %d %H:%M:%S %Y", "%Y-%m-%dT%H:%M:%S"};

milliseconds until(std::int64_t moment_millis, std::int64_t now_millis) {
  return milliseconds(std::clamp<std::int64_t>(moment_millis - now_millis, 0, 30 * 86'400'000ll));
}

std::optional<milliseconds> parse_date(std::string_view value, std::int64_t now) {
  const std::string text(value);
  for (const auto* form : kDateForms) {
    std::tm parts{};
    if (strptime(text.c_str(), form, &parts) != nullptr) {
      return until(static_cast<std::int64_t>(timegm(&parts)) * 1000, now);
    }
  }
  return std::nullopt;
}

// A reset is a duration, a date or a moment of Unix time in seconds or milliseconds.
std::optional<milliseconds> parse_reset(std::string_view value, std::int64_t now) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error == std::errc() && (end == value.data() + value.size() || *end == '.')) {
    if (number > 1'000'000'000'000) return until(number, now);
    if (number > 1'000'000'000) return until(number * 1000, now);
  }
  if (auto date = parse_date(value, now)) return date;
  return parse_duration_text(value);
}

struct Limit {
  std::string_view remaining, reset;
};
constexpr std::array kLimits{
    Limit{"x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"},
    Limit{"x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"},
    Limit{"anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"},
    Limit{"anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"},
    Limit{"anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"},
    Limit{"anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"},
    Limit{"x-ratelimit-remaining", "x-ratelimit-reset"},
    Limit{"ratelimit-remaining", "ratelimit-reset"},
};

}  // namespace

std::optional<milliseconds> parse_retry_after(const Fields& fields, int status,
                                              std::int64_t unix_millis) {
  if (status < 400) return std::nullopt;
  if (const auto value = fields.value("retry-after-ms"); !value.empty()) {
    if (const auto thousandfold = parse_duration_text(value)) return *thousandfold / 1000;
  }
  if (const auto value = fields.value("retry-after"); !value.empty()) {
    if (const auto time = parse_duration_text(value)) return time;
    if (const auto date = parse_date(value, unix_millis)) return date;
  }
  std::optional<milliseconds> longest;
  if (status != 429) return longest;
  for (const auto& [remaining, reset] : kLimits) {
    if (fields.value(remaining) != "0") continue;
    if (const auto time = parse_reset(fields.value(reset), unix_millis)) {
      longest = std::max(longest.value_or(milliseconds(0)), *time);
    }
  }
  return longest;
}

}  // namespace llm_proxy
