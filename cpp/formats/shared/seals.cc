#include "formats/shared/seals.h"

#include <algorithm>
#include <cstring>

namespace llm_proxy {

std::string carried_seal(const Seal& seal, bool redacted) {
  const SealFacts& facts = format_of(seal.maker).seals;
  std::string carried(redacted && !facts.redacted_marker.empty() ? facts.redacted_marker
                                                                 : facts.marker);
  if (facts.has_item_id) {
    seal.item_id.decode_to(carried);
    carried += ':';
  }
  seal.token.decode_to(carried);
  return carried;
}

bool is_foreign(const Message& message, WireFormat own) {
  return std::any_of(message.parts.begin(), message.parts.end(), [own](const Part& part) {
    const auto* thinking = std::get_if<ThinkingPart>(&part);
    return thinking != nullptr && !thinking->seal.empty() && thinking->seal.maker != own;
  });
}

bool holds_foreign(const Request& request, WireFormat own) {
  return std::any_of(request.messages.begin(), request.messages.end(),
                     [own](const Message& message) { return is_foreign(message, own); });
}

OpenedSeal opened_seal(Text token, WireFormat field_format) {
  OpenedSeal opened;
  opened.seal.maker = field_format;
  opened.seal.token = token;
  std::string_view bytes = token.bytes();
  const auto same_spelling = [&](std::string_view piece) {
    return token.is_escaped() ? Text::escaped(piece) : Text::plain(piece);
  };
  for (const Format* const maker : all_formats()) {
    const SealFacts& facts = maker->seals;
    const bool redacted =
        !facts.redacted_marker.empty() && bytes.starts_with(facts.redacted_marker);
    if (!redacted && (facts.marker.empty() || !bytes.starts_with(facts.marker))) continue;
    bytes.remove_prefix((redacted ? facts.redacted_marker : facts.marker).size());
    opened.carried = true;
    opened.redacted = redacted;
    opened.seal.maker = maker->id;
    if (facts.has_item_id) {
      const std::size_t colon = std::min(bytes.find(':'), bytes.size());
      opened.seal.item_id = same_spelling(bytes.substr(0, colon));
      bytes.remove_prefix(std::min(colon + 1, bytes.size()));
    }
    opened.seal.token = same_spelling(bytes);
    break;
  }
  return opened;
}

namespace {

// Whether `digits`, base64, begin as base64 of `bytes` does: as far as its digits depend on no byte
// behind `bytes`.
bool begins_base64(std::string_view digits, std::string_view bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const std::size_t count = bytes.size() * 8 / 6;
  if (digits.size() < count) return false;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t bit = i * 6;
    const auto byte = [&](std::size_t at) {
      return at < bytes.size() ? static_cast<unsigned char>(bytes[at]) : 0U;
    };
    const unsigned both = byte(bit / 8) << 8 | byte(bit / 8 + 1);
    if (digits[i] != kDigits[both >> (10 - bit % 8) & 63]) return false;
  }
  return true;
}

// Whether `value`, the text of a string, begins with a marker.
bool has_marker(std::string_view value, bool base64) {
  const auto begins = [&](std::string_view marker) {
    if (marker.empty()) return false;
    return base64 ? begins_base64(value, marker) : value.starts_with(marker);
  };
  return std::ranges::any_of(all_formats(), [&](const Format* maker) {
    return begins(maker->seals.marker) || begins(maker->seals.redacted_marker);
  });
}

}  // namespace

bool carries_seals(WireFormat format, std::string_view body) {
  const SealFacts& facts = format_of(format).seals;
  for (const std::string_view field : facts.fields) {
    std::size_t at = 0;
    while (const void* found =
               memmem(body.data() + at, body.size() - at, field.data(), field.size())) {
      at = static_cast<std::size_t>(static_cast<const char*>(found) - body.data()) + field.size();
      const std::size_t quote = body.find_first_not_of(" \t\r\n:", at);
      if (quote == std::string_view::npos || body[quote] != '"') continue;
      if (has_marker(body.substr(quote + 1), facts.base64)) return true;
    }
  }
  return false;
}

}  // namespace llm_proxy
