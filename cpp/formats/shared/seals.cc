#include "formats/shared/seals.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace llm_proxy {

namespace {

struct SealRow {
  WireFormat maker;
  bool redacted;
  std::string_view marker;
};

constexpr std::array kSealMarkers{
    SealRow{WireFormat::openai_chat, false, "c1:"},
    SealRow{WireFormat::openai_responses, false, "r1:"},
    SealRow{WireFormat::anthropic_messages, false, "a1:"},
    SealRow{WireFormat::anthropic_messages, true, "a1r:"},
    SealRow{WireFormat::gemini_generate, false, "g1:"},
};

}  // namespace

std::string carried_seal(const Seal& seal, bool redacted) {
  std::string carried;
  for (const SealRow& row : kSealMarkers) {
    if (row.maker != seal.maker) continue;
    if (row.redacted && !redacted) continue;
    carried = row.marker;
  }
  if (seal.maker == WireFormat::openai_responses) {
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
  for (const SealRow& row : kSealMarkers) {
    if (bytes.substr(0, row.marker.size()) != row.marker) continue;
    bytes.remove_prefix(row.marker.size());
    opened.carried = true;
    opened.redacted = row.redacted;
    opened.seal.maker = row.maker;
    if (row.maker == WireFormat::openai_responses) {
      const std::size_t colon = std::min(bytes.find(':'), bytes.size());
      opened.seal.item_id = same_spelling(bytes.substr(0, colon));
      bytes.remove_prefix(std::min(colon + 1, bytes.size()));
    }
    opened.seal.token = same_spelling(bytes);
    break;
  }
  return opened;
}

bool carries_seals(WireFormat format, std::string_view body) {
  struct FieldRow {
    WireFormat format;
    std::string_view key;
  };
  static constexpr std::array kFields{
      FieldRow{WireFormat::openai_responses, "\"encrypted_content\""},
      FieldRow{WireFormat::anthropic_messages, "\"signature\""},
      FieldRow{WireFormat::anthropic_messages, "\"data\""},
      FieldRow{WireFormat::gemini_generate, "\"thoughtSignature\""},
      FieldRow{WireFormat::gemini_generate, "\"thought_signature\""},
  };
  // The markers as they stand there; Gemini's field holds base64.
  static constexpr std::array<std::string_view, 5> kPlain{"c1:", "r1:", "a1:", "a1r:", "g1:"};
  static constexpr std::array<std::string_view, 5> kBase64{"YzE6", "cjE6", "YTE6", "YTFyO", "ZzE6"};
  const auto& markers = format == WireFormat::gemini_generate ? kBase64 : kPlain;
  for (const FieldRow& row : kFields) {
    if (row.format != format) continue;
    std::size_t at = 0;
    while (const void* found =
               memmem(body.data() + at, body.size() - at, row.key.data(), row.key.size())) {
      at = static_cast<std::size_t>(static_cast<const char*>(found) - body.data()) + row.key.size();
      const std::size_t quote = body.find_first_not_of(" \t\r\n:", at);
      if (quote == std::string_view::npos || body[quote] != '"') continue;
      const std::string_view value = body.substr(quote + 1);
      for (const std::string_view marker : markers) {
        if (value.substr(0, marker.size()) == marker) return true;
      }
    }
  }
  return false;
}

}  // namespace llm_proxy
