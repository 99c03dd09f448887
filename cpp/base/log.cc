#include "base/log.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <mutex>

namespace llm_proxy {
namespace {

std::atomic<LogLevel> g_level{LogLevel::info};
std::mutex
    g_file_mutex;  // a leaf: held for one write, so that a file is never closed under a writer
int g_file = STDERR_FILENO;
std::atomic<bool> g_json{false};

constexpr std::array<std::string_view, 5> kLevelNames{"debug", "info", "warning", "error", "off"};

void append_visible(std::string& out, std::string_view text, bool json) {
  for (const char c : text) {
    if (json && (c == '"' || c == '\\')) out += '\\';
    out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;
  }
}

}  // namespace

void log_as_json(bool json) {
  g_json.store(json, std::memory_order_relaxed);
}

void set_log_level(LogLevel level) {
  g_level.store(level, std::memory_order_relaxed);
}
LogLevel log_level() {
  return g_level.load(std::memory_order_relaxed);
}

bool log_to_file(const std::string& path) {
  int fresh = STDERR_FILENO;
  if (!path.empty()) {
    fresh = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (fresh < 0) return false;
  }
  const std::lock_guard lock(g_file_mutex);
  if (g_file != STDERR_FILENO) ::close(g_file);
  g_file = fresh;
  return true;
}

void log_line(LogLevel level, std::string_view text) {
  if (!log_enabled(level) || level == LogLevel::off) return;
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  tm utc{};
  ::gmtime_r(&now.tv_sec, &utc);
  char stamp[40];
  const std::size_t stamped = ::strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
  char millis[8];
  std::snprintf(millis, sizeof millis, ".%03dZ", static_cast<int>(now.tv_nsec / 1'000'000));

  const auto name = kLevelNames[static_cast<std::size_t>(level)];
  const bool json = g_json.load(std::memory_order_relaxed);
  std::string line(json ? R"({"time":")" : "");
  line.append(stamp, stamped).append(millis);
  line.append(json ? R"(","level":")" : " ").append(name);
  line += json ? R"(","logger":"llm_proxy.engine","message":")" : " ";
  append_visible(line, text, json);
  if (json) line += "\"}";
  line += '\n';

  const std::lock_guard lock(g_file_mutex);
  [[maybe_unused]] const auto written = ::write(g_file, line.data(), line.size());
}

}  // namespace llm_proxy
