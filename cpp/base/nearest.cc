#include "base/nearest.h"

#include <algorithm>
#include <array>
#include <cstddef>

#include "base/ascii.h"

namespace llm_proxy {
namespace {

constexpr std::size_t kMaxTyped = 100;

// The optimal string alignment distance of `a` and `b`, of at most kMaxTyped bytes each.
std::size_t distance(std::string_view a, std::string_view b) {
  using Row = std::array<std::size_t, kMaxTyped + 1>;
  Row before_last{};
  Row last{};
  Row row{};
  const auto same = [](char x, char y) { return ascii_lower(x) == ascii_lower(y); };
  for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min(
          {last[j] + 1, row[j - 1] + 1, last[j - 1] + (same(a[i - 1], b[j - 1]) ? 0U : 1U)});
      if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1])) {
        row[j] = std::min(row[j], before_last[j - 2] + 1);
      }
    }
    before_last = last;
    last = row;
  }
  return last[b.size()];
}

}  // namespace

std::string_view nearest(std::string_view typed, const std::vector<std::string_view>& names) {
  std::string_view best;
  if (typed.size() > kMaxTyped) return best;
  auto best_distance = kMaxTyped;
  for (const auto name : names) {
    const auto bound = std::max(typed.size(), name.size()) / 3;
    const auto longer = std::max(typed.size(), name.size()) - std::min(typed.size(), name.size());
    if (name.size() > kMaxTyped || longer > bound || longer >= best_distance) continue;
    if (const auto found = distance(typed, name); found <= bound && found < best_distance) {
      best = name;
      best_distance = found;
    }
  }
  return best;
}

std::string did_you_mean(std::string_view typed, const std::vector<std::string_view>& names) {
  const auto name = nearest(typed, names);
  return name.empty() ? std::string() : ": did you mean '" + std::string(name) + "'?";
}

}  // namespace llm_proxy
