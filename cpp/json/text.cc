#include "json/text.h"

#include <cstdint>

#include "json/scan.h"

namespace llm_proxy {
namespace {

int hex_value(char c) {
  return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

// Four hex digits behind `\u`; -1 when they are not there.
int code_unit(const char* at, const char* end) {
  if (end - at < 6 || at[0] != '\\' || at[1] != 'u') return -1;
  return hex_value(at[2]) << 12 | hex_value(at[3]) << 8 | hex_value(at[4]) << 4 | hex_value(at[5]);
}

void append_utf8(std::uint32_t code, std::string& out) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0 | code >> 6);
    out += static_cast<char>(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    out += static_cast<char>(0xE0 | code >> 12);
    out += static_cast<char>(0x80 | (code >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (code & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | code >> 18);
    out += static_cast<char>(0x80 | (code >> 12 & 0x3F));
    out += static_cast<char>(0x80 | (code >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (code & 0x3F));
  }
}

// One `\u` escape, with its low surrogate when it has one; returns the byte behind it.
const char* decode_unicode(const char* at, const char* end, std::string& out) {
  const int unit = code_unit(at, end);
  if (unit < 0) return end;
  at += 6;
  if (unit < 0xD800 || unit > 0xDFFF) return append_utf8(static_cast<std::uint32_t>(unit), out), at;
  const int low = unit < 0xDC00 ? code_unit(at, end) : -1;
  if (low < 0xDC00 || low > 0xDFFF) return append_utf8(0xFFFD, out), at;
  append_utf8(0x10000u + (static_cast<std::uint32_t>(unit - 0xD800) << 10) +
                  static_cast<std::uint32_t>(low - 0xDC00),
              out);
  return at + 6;
}

void escape_plain(std::string_view plain, std::string& out) {
  const char* at = plain.data();
  const char* const end = at + plain.size();
  while (at != end) {
    const char* const stop = json_detail::find_special(at, end);
    out.append(at, stop);
    if (stop == end) return;
    switch (*stop) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default: {
        constexpr char kHex[] = "0123456789abcdef";
        const auto byte = static_cast<unsigned char>(*stop);
        const char escape[] = {'\\', 'u', '0', '0', kHex[byte >> 4], kHex[byte & 15]};
        out.append(escape, sizeof escape);
      }
    }
    at = stop + 1;
  }
}

}  // namespace

std::string_view Text::decode_in(std::string& room) const {
  if (!has_escapes()) return bytes_;
  room.clear();
  decode_to(room);
  return room;
}

void Text::decode_to(std::string& out) const {
  if (!has_escapes()) {
    out += bytes_;
    return;
  }
  const char* at = bytes_.data();
  const char* const end = at + bytes_.size();
  while (at != end) {
    const std::size_t left = static_cast<std::size_t>(end - at);
    const auto* backslash = static_cast<const char*>(std::memchr(at, '\\', left));
    if (backslash == nullptr || end - backslash < 2) {
      out.append(at, end);
      return;
    }
    out.append(at, backslash);
    at = backslash + 2;
    switch (backslash[1]) {
      case 'b':
        out += '\b';
        break;
      case 'f':
        out += '\f';
        break;
      case 'n':
        out += '\n';
        break;
      case 'r':
        out += '\r';
        break;
      case 't':
        out += '\t';
        break;
      case 'u':
        at = decode_unicode(backslash, end, out);
        break;
      default:
        out += backslash[1];
    }
  }
}

std::string Text::decode() const {
  std::string out;
  out.reserve(bytes_.size());
  decode_to(out);
  return out;
}

void Text::escape_to(std::string& out) const {
  if (escaped_) {
    out += bytes_;
  } else {
    escape_plain(bytes_, out);
  }
}

bool Text::operator==(std::string_view plain) const {
  return has_escapes() ? decode() == plain : bytes_ == plain;
}

}  // namespace llm_proxy
