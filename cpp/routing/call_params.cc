#include "routing/call_params.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace llm_proxy {
namespace {

constexpr std::array<std::string_view, 6> kEfforts{"none", "low", "medium", "high", "xhigh", "max"};
constexpr std::array<std::string_view, 3> kVerbosities{"low", "medium", "high"};

struct Row {
  std::string_view name;
  std::string CallParams::*member;
  bool (*valid)(std::string_view value);
  std::string_view expected;
};

// A number as JSON writes it.
bool is_number(std::string_view text, double least, double most) {
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  if (text.empty() || text.size() > 20 || !digit(text.front()) || !digit(text.back())) return false;
  if (text.size() > 1 && text[0] == '0' && digit(text[1])) return false;
  if (std::count(text.begin(), text.end(), '.') > 1) return false;
  if (!std::all_of(text.begin(), text.end(), [&](char c) { return digit(c) || c == '.'; })) {
    return false;
  }
  double value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value >= least && value <= most;
}

bool is_whole(std::string_view text, std::int64_t least, std::int64_t most) {
  return text.find('.') == std::string_view::npos &&
         is_number(text, static_cast<double>(least), static_cast<double>(most));
}

template <typename Words>
bool is_one_of(const Words& words, std::string_view text) {
  return std::find(words.begin(), words.end(), text) != words.end();
}

constexpr std::array kRows{
    Row{"temperature", &CallParams::temperature,
        [](std::string_view v) { return is_number(v, 0, 2); }, "a number from 0 to 2"},
    Row{"top_p", &CallParams::top_p, [](std::string_view v) { return is_number(v, 0, 1); },
        "a number from 0 to 1"},
    Row{"top_k", &CallParams::top_k, [](std::string_view v) { return is_whole(v, 1, 1'000'000); },
        "a whole number of at least 1"},
    Row{"reasoning_effort", &CallParams::reasoning_effort,
        [](std::string_view v) { return is_one_of(kEfforts, v); },
        "none, low, medium, high, xhigh or max"},
    Row{"thinking_budget", &CallParams::thinking_budget,
        [](std::string_view v) { return is_whole(v, 128, 1'000'000); },
        "a whole number of at least 128"},
    Row{"verbosity", &CallParams::verbosity,
        [](std::string_view v) { return is_one_of(kVerbosities, v); }, "low, medium or high"},
};

bool same_name(std::string_view row, std::string_view name) {
  return std::equal(row.begin(), row.end(), name.begin(), name.end(),
                    [](char a, char b) { return a == b || (a == '_' && b == '-'); });
}

}  // namespace

void CallParams::override_with(const CallParams& over) {
  for (const auto& row : kRows) {
    if (!(over.*row.member).empty()) this->*row.member = over.*row.member;
  }
}

Result<void> set_param(CallParams& params, std::string_view name, std::string_view value) {
  for (const auto& row : kRows) {
    if (!same_name(row.name, name)) continue;
    if (!row.valid(value)) {
      return Error{ErrorKind::malformed_request, std::string(row.name) + " must be " +
                                                     std::string(row.expected) + ", not '" +
                                                     std::string(value.substr(0, 40)) + "'"};
    }
    params.*row.member = value;
    return {};
  }
  return Error{ErrorKind::not_found, "there is no '" + std::string(name.substr(0, 40)) +
                                         "'; there are: " + param_names()};
}

std::string param_names() {
  std::string out;
  for (const auto& row : kRows) {
    if (!out.empty()) out += ", ";
    out += row.name;
  }
  return out;
}

const std::string* find_param(const CallParams& params, std::string_view name) {
  for (const auto& row : kRows) {
    if (same_name(row.name, name)) return &(params.*row.member);
  }
  return nullptr;
}

std::string describe(const CallParams& params) {
  std::string out;
  for (const auto& row : kRows) {
    const auto& value = params.*row.member;
    if (value.empty()) continue;
    if (!out.empty()) out += ", ";
    out.append(row.name).append("=").append(value);
  }
  return out;
}

}  // namespace llm_proxy
