#include "ledger/record.h"

#include <algorithm>
#include <charconv>
#include <ctime>

#include "json/reader.h"
#include "json/writer.h"

namespace llm_proxy {
namespace {

void append_number(std::int64_t value, std::string& out) {
  char digits[24];
  out.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
}

void append_padded(int value, int width, std::string& out) {
  char digits[8];
  for (int i = width - 1; i >= 0; --i, value /= 10) digits[i] = static_cast<char>('0' + value % 10);
  out.append(digits, static_cast<std::size_t>(width));
}

// "2026-11-21T02:31:00.123Z". The part up to the second is kept from the call before: most calls
// share it.
void append_time(std::chrono::system_clock::time_point time, std::string& out) {
  const auto millis =
      std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
  const auto second = static_cast<std::time_t>(millis / 1000);
  thread_local std::time_t cached_second = -1;
  thread_local char cached[24];
  thread_local std::size_t cached_size = 0;
  if (second != cached_second) {
    std::tm parts{};
    gmtime_r(&second, &parts);
    cached_size = std::strftime(cached, sizeof cached, "%Y-%m-%dT%H:%M:%S", &parts);
    cached_second = second;
  }
  out.append(cached, cached_size);
  out += '.';
  append_padded(static_cast<int>(millis % 1000), 3, out);
  out += 'Z';
}

// Seconds with three decimals.
void append_seconds(std::chrono::microseconds duration, std::string& out) {
  const auto millis = duration.count() / 1000;
  append_number(millis / 1000, out);
  out += '.';
  append_padded(static_cast<int>(millis % 1000), 3, out);
}

bool is_plain(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte > ' ' && c != '"' && c != '\\' && byte != 127;
}

void append_value(std::string_view value, std::string& out) {
  if (!value.empty() && std::all_of(value.begin(), value.end(), is_plain)) {
    out += value;
    return;
  }
  constexpr std::string_view kHex = "0123456789abcdef";
  out += '"';
  for (const char c : value) {
    if (c == ' ' || is_plain(c)) {
      out += c;
    } else if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else {
      out += "\\x";
      out += kHex[static_cast<unsigned char>(c) >> 4];
      out += kHex[static_cast<unsigned char>(c) & 15];
    }
  }
  out += '"';
}

void append_field(std::string_view key, std::string_view value, std::string& out) {
  if (value.empty()) return;
  out += ' ';
  out += key;
  out += '=';
  append_value(value, out);
}

void append_count(std::string_view key, std::optional<std::int64_t> value, std::string& out) {
  if (!value) return;
  out += ' ';
  out += key;
  out += '=';
  append_number(*value, out);
}

}  // namespace

void append_access_line(const ExchangeRecord& record, std::string& out) {
  append_time(record.began, out);
  out += ' ';
  append_value(record.client, out);
  out += ' ';
  append_value(record.method, out);
  out += ' ';
  append_value(record.path, out);
  append_count("status", record.status, out);
  append_field("model", record.model, out);
  if (!record.backend.empty()) {
    append_field("backend", record.backend, out);
    if (record.upstream_model != record.model) {
      append_field("upstream_model", record.upstream_model, out);
    }
    out += " format=";
    out += name(record.frontend);
    if (record.upstream != record.frontend) {
      out += '>';
      out += name(record.upstream);
    }
    if (record.attempts != 1) append_count("attempts", record.attempts, out);
    append_field("tried", record.tried, out);
  }
  if (record.stream) out += " stream=1";
  append_count("in", record.usage.input, out);
  append_count("cached", record.usage.cached, out);
  append_count("written", record.usage.written, out);
  append_count("out", record.usage.output, out);
  append_count("reasoning", record.usage.reasoning, out);
  append_field("finish", record.finish, out);
  append_count("bytes_in", static_cast<std::int64_t>(record.request_bytes), out);
  append_count("bytes_out", static_cast<std::int64_t>(record.reply_bytes), out);
  if (record.first_byte.count() > 0) {
    out += " first_byte=";
    append_seconds(record.first_byte, out);
  }
  out += " seconds=";
  append_seconds(record.duration, out);
  append_field("id", record.request_id, out);
  append_field("lost", record.losses, out);
  append_field("blocked", record.blocked, out);
  append_field("error", record.error, out);
}

void append_access_json(const ExchangeRecord& record, std::string& out) {
  JsonWriter json(out);
  std::string number;
  const auto seconds = [&](std::string_view key, std::chrono::microseconds duration) {
    number.clear();
    append_seconds(duration, number);
    json.member_raw(key, number);
  };
  const auto text = [&](std::string_view key, std::string_view value) {
    if (value.empty()) return;
    if (valid_utf8(value)) {
      json.member(key, value);
      return;
    }
    std::string readable(value);
    for (auto& c : readable) {
      if (static_cast<unsigned char>(c) >= 0x80) c = '?';
    }
    json.member(key, readable);
  };
  const auto count = [&](std::string_view key, std::optional<std::int64_t> value) {
    if (value) json.member(key, *value);
  };
  json.begin_object();
  append_time(record.began, number);
  json.member("time", number);
  text("client", record.client);
  text("method", record.method);
  text("path", record.path);
  json.member("status", static_cast<std::int64_t>(record.status));
  text("model", record.model);
  if (!record.backend.empty()) {
    text("backend", record.backend);
    text("upstream_model", record.upstream_model);
    text("frontend_format", name(record.frontend));
    text("backend_format", name(record.upstream));
    json.member("attempts", static_cast<std::int64_t>(record.attempts));
    text("tried", record.tried);
  }
  json.member_bool("stream", record.stream);
  count("in", record.usage.input);
  count("cached", record.usage.cached);
  count("written", record.usage.written);
  count("out", record.usage.output);
  count("reasoning", record.usage.reasoning);
  text("finish", record.finish);
  json.member("bytes_in", static_cast<std::int64_t>(record.request_bytes));
  json.member("bytes_out", static_cast<std::int64_t>(record.reply_bytes));
  if (record.first_byte.count() > 0) seconds("first_byte", record.first_byte);
  seconds("seconds", record.duration);
  text("id", record.request_id);
  text("lost", record.losses);
  text("blocked", record.blocked);
  text("error", record.error);
  json.end_object();
}

}  // namespace llm_proxy
