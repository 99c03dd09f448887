#pragma once

#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

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

}  // namespace llm_proxy
