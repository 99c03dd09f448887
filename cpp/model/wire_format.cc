#include "model/wire_format.h"

#include <array>

namespace llm_proxy {
namespace {

constexpr std::array<std::string_view, kWireFormatCount> kNames{
    "openai-chat", "openai-responses", "anthropic-messages", "gemini-generate"};

}  // namespace

std::string_view name(WireFormat format) {
  return kNames[static_cast<std::size_t>(format)];
}

std::optional<WireFormat> wire_format_named(std::string_view name) {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name) return static_cast<WireFormat>(i);
  }
  return std::nullopt;
}

}  // namespace llm_proxy
