#include "http/head_writer.h"

#include <time.h>

#include <algorithm>
#include <charconv>

#include "http/status_text.h"

namespace llm_proxy {
namespace {

bool is_control(char c) {
  return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f;
}

// A name that would be understood as something else than a name.
bool bad_name(std::string_view name) {
  return name.empty() || std::any_of(name.begin(), name.end(), [](char c) {
           return static_cast<unsigned char>(c) <= 0x20 || static_cast<unsigned char>(c) >= 0x7f ||
                  c == ':';
         });
}

template <typename Number>
void append_number(std::string& out, Number number, int base = 10) {
  char digits[24];
  out.append(digits, std::to_chars(digits, digits + sizeof digits, number, base).ptr);
}

}  // namespace

HeadWriter& HeadWriter::status_line(int status) {
  if (status == 200) {
    out_ += "HTTP/1.1 200 OK\r\n";
    return *this;
  }
  out_ += "HTTP/1.1 ";
  append_number(out_, status);
  out_ += ' ';
  out_ += status_text(status);
  out_ += "\r\n";
  return *this;
}

HeadWriter& HeadWriter::request_line(std::string_view method, std::string_view target) {
  out_ += method;
  out_ += ' ';
  for (const char c : target) {
    if (!is_control(c) && c != ' ' && c != '\t') out_ += c;
  }
  out_ += " HTTP/1.1\r\n";
  return *this;
}

HeadWriter& HeadWriter::field(std::string_view name, std::string_view value) {
  if (bad_name(name)) return *this;
  out_ += name;
  out_ += ": ";
  const std::size_t start = out_.size();
  out_ += value;
  std::replace_if(out_.begin() + static_cast<std::ptrdiff_t>(start), out_.end(), is_control, ' ');
  out_ += "\r\n";
  return *this;
}

HeadWriter& HeadWriter::field(std::string_view name, std::uint64_t value) {
  out_ += name;
  out_ += ": ";
  append_number(out_, value);
  out_ += "\r\n";
  return *this;
}

HeadWriter& HeadWriter::date(std::int64_t unix_seconds) {
  struct Cached {
    std::int64_t second = -1;
    char text[48];
    std::size_t size = 0;
  };
  thread_local Cached cached;
  if (cached.second != unix_seconds) {
    const auto time = static_cast<time_t>(unix_seconds);
    tm utc{};
    ::gmtime_r(&time, &utc);
    cached.size =
        ::strftime(cached.text, sizeof cached.text, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &utc);
    cached.second = unix_seconds;
  }
  out_.append(cached.text, cached.size);
  return *this;
}

void append_chunk_head(std::string& out, std::uint64_t size) {
  append_number(out, size, 16);
  out += "\r\n";
}

}  // namespace llm_proxy
