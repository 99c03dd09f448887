#include "base/duration_text.h"

#include <array>
#include <charconv>

#include "base/ascii.h"

namespace llm_proxy {
namespace {

struct Unit {
  std::string_view name;
  double seconds;
};

// A longer name before the one it begins with.
constexpr std::array kUnits{
    Unit{"ms", 0.001}, Unit{"milliseconds", 0.001},
    Unit{"d", 86'400}, Unit{"h", 3'600},
    Unit{"m", 60},     Unit{"s", 1},
};

constexpr double kLongest = 30 * 86'400;

}  // namespace

std::optional<std::chrono::milliseconds> parse_duration_text(std::string_view text) {
  double total = 0;
  bool any = false;
  while (!text.empty() && is_digit(text.front())) {
    double value = 0;
    const auto [end, error] =
        std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
    if (error != std::errc()) break;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    const Unit* unit = nullptr;
    for (const auto& candidate : kUnits) {
      if (text.starts_with(candidate.name)) {
        unit = &candidate;
        break;
      }
    }
    if (unit == nullptr) {
      if (!any)
        return value <= kLongest ? std::optional(std::chrono::milliseconds(
                                       static_cast<std::int64_t>(value * 1000 + 0.5)))
                                 : std::nullopt;
      break;
    }
    text.remove_prefix(unit->name.size());
    total += value * unit->seconds;
    any = true;
  }
  if (!any || total > kLongest) return std::nullopt;
  return std::chrono::milliseconds(static_cast<std::int64_t>(total * 1000 + 0.5));
}

}  // namespace llm_proxy
