#include "formats/shared/media.h"

namespace llm_proxy {

std::optional<DataUrl> split_data_url(Text url) {
  const std::string_view bytes = url.bytes();
  if (bytes.substr(0, 5) != "data:") return std::nullopt;
  const std::size_t comma = bytes.find(',');
  if (comma == std::string_view::npos) return std::nullopt;
  const auto same_spelling = [&](std::string_view piece) {
    return url.is_escaped() ? Text::escaped(piece) : Text::plain(piece);
  };
  const std::string_view head = bytes.substr(5, comma - 5);
  DataUrl parts;
  parts.base64 = head.size() >= 7 && head.substr(head.size() - 7) == ";base64";
  parts.mime_type = same_spelling(head.substr(0, head.find(';')));
  parts.data = same_spelling(bytes.substr(comma + 1));
  return parts;
}

std::string encode_base64(std::string_view bytes) {
  static constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t left = bytes.size() - i;
    const auto byte = [&](std::size_t k) -> std::uint32_t {
      return k < left ? static_cast<unsigned char>(bytes[i + k]) : 0;
    };
    const std::uint32_t three = byte(0) << 16 | byte(1) << 8 | byte(2);
    out += kDigits[three >> 18];
    out += kDigits[three >> 12 & 63];
    out += left > 1 ? kDigits[three >> 6 & 63] : '=';
    out += left > 2 ? kDigits[three & 63] : '=';
  }
  return out;
}

std::optional<std::string> decode_base64(std::string_view digits) {
  std::string out;
  out.reserve(digits.size() / 4 * 3);
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : digits) {
    std::uint32_t value;
    if (c >= 'A' && c <= 'Z') {
      value = static_cast<std::uint32_t>(c - 'A');
    } else if (c >= 'a' && c <= 'z') {
      value = static_cast<std::uint32_t>(c - 'a' + 26);
    } else if (c >= '0' && c <= '9') {
      value = static_cast<std::uint32_t>(c - '0' + 52);
    } else if (c == '+' || c == '-') {
      value = 62;
    } else if (c == '/' || c == '_') {
      value = 63;
    } else if (c == '=' || c == '\n' || c == '\r') {
      continue;
    } else {
      return std::nullopt;
    }
    bits = bits << 6 | value;
    if ((count += 6) >= 8) {
      count -= 8;
      out += static_cast<char>(bits >> count & 0xFF);
    }
  }
  return out;
}

}  // namespace llm_proxy
