#pragma once

#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/clock.h"

namespace llm_proxy {

enum class LogLevel : std::uint8_t { debug, info, warning, error, off };

// The process log: one line per call, written with one system call, to standard error unless
// log_to_file() said otherwise. Thread safe. Never given a secret: callers log names and numbers,
// not headers or bodies.
void set_log_level(LogLevel level);
LogLevel log_level();
inline bool log_enabled(LogLevel level) {
  return level >= log_level();
}

// Appends to `path` from now on; false if it cannot be opened, and the log stays where it was.
// Empty: standard error.
bool log_to_file(const std::string& path);

// How its lines look from now on: readable, or a JSON object each.
void log_as_json(bool json);

// Writes `2026-01-31T12:00:00.123Z warning text`, or
// `{"time":"...","level":"warning","logger":"llm_proxy.engine","message":"text"}`. Line breaks and
// control characters in `text` become spaces.
void log_line(LogLevel level, std::string_view text);

namespace log_detail {
inline void append(std::string& out, std::string_view text) {
  out += text;
}
template <typename N, typename = std::enable_if_t<std::is_arithmetic_v<N>>>
void append(std::string& out, N number) {
  char digits[32];
  out.append(digits, std::to_chars(digits, digits + sizeof digits, number).ptr);
}
}  // namespace log_detail

// log(LogLevel::warning, "accept failed: ", reason, ", open files: ", n)
template <typename... Parts>
void log(LogLevel level, const Parts&... parts) {
  if (!log_enabled(level)) return;
  std::string text;
  (log_detail::append(text, parts), ...);
  log_line(level, text);
}

// Thins out a kind of line that may come without end: one a second, over all threads.
//
//   static LogLimit limit;
//   if (const auto kept_back = limit.pass(now)) log(LogLevel::warning, "...", *kept_back);
class LogLimit {
 public:
  // How many lines were kept back since the last one that passed; none: this one is kept back too.
  std::optional<std::uint64_t> pass(TimePoint now) {
    const auto at = now.time_since_epoch().count();
    auto last = last_.load(std::memory_order_relaxed);
    const bool due = last == 0 || at < last || TimePoint::duration(at - last) >= kPeriod;
    if (!due || !last_.compare_exchange_strong(last, at, std::memory_order_relaxed)) {
      kept_back_.fetch_add(1, std::memory_order_relaxed);
      return std::nullopt;
    }
    return kept_back_.exchange(0, std::memory_order_relaxed);
  }

 private:
  static constexpr std::chrono::seconds kPeriod{1};
  std::atomic<TimePoint::rep> last_{0};  // 0: none has passed
  std::atomic<std::uint64_t> kept_back_{0};
};

}  // namespace llm_proxy
