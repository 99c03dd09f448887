#include "exchange/token_estimate.h"

#include <string_view>

namespace llm_proxy {
namespace {

constexpr std::int64_t kPerImage = 1200;
constexpr std::int64_t kPerDocument = 3000;
constexpr std::int64_t kPerMessage = 4;
constexpr std::int64_t kPerTool = 12;

// In tenths of a token, so that short strings do not vanish.
std::int64_t tenths(std::string_view text) {
  std::int64_t narrow = 0, wide = 0;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0xE0) ++wide;  // first byte of a character of three or four
    if (byte < 0x80 || (byte >= 0xC0 && byte < 0xE0)) ++narrow;
  }
  return narrow * 10 * 2 / 7 + wide * 10;
}

std::int64_t tenths(const std::vector<Part>& parts) {
  std::int64_t sum = 0;
  for (const auto& part : parts) {
    if (const auto* text = std::get_if<TextPart>(&part)) {
      sum += tenths(text->text.bytes());
    } else if (const auto* media = std::get_if<MediaPart>(&part)) {
      if (media->source == MediaPart::Source::text) {
        sum += tenths(media->data.bytes());
      } else {
        sum += 10 * (media->kind == MediaKind::image ? kPerImage : kPerDocument);
      }
    } else if (const auto* thinking = std::get_if<ThinkingPart>(&part)) {
      sum += tenths(thinking->text.bytes());
    } else if (const auto* call = std::get_if<ToolCallPart>(&part)) {
      sum += tenths(call->name.bytes()) + tenths(call->arguments_object) +
             tenths(call->arguments_text.bytes());
    } else if (const auto* result = std::get_if<ToolResultPart>(&part)) {
      sum += tenths(result->content) + tenths(result->response_object);
    } else if (const auto* raw = std::get_if<RawPart>(&part)) {
      sum += tenths(raw->json);
    }
  }
  return sum;
}

}  // namespace

std::int64_t estimate_tokens(const Request& request) {
  std::int64_t sum = 0;
  for (const auto& message : request.messages) sum += 10 * kPerMessage + tenths(message.parts);
  for (const auto& tool : request.tools) {
    sum += 10 * kPerTool + tenths(tool.name.bytes()) + tenths(tool.description.bytes()) +
           tenths(tool.schema);
  }
  return (sum + 9) / 10;
}

}  // namespace llm_proxy
