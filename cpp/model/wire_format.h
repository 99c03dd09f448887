#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace llm_proxy {

// The four dialects a client or an upstream may speak. Everything that knows one of them is in its
// folder under formats/; the rest of the program only carries this value.
enum class WireFormat : std::uint8_t {
  openai_chat,         // POST /v1/chat/completions
  openai_responses,    // POST /v1/responses
  anthropic_messages,  // POST /v1/messages
  gemini_generate,     // POST /v1beta/models/{model}:generateContent
};

inline constexpr int kWireFormatCount = 4;

// "openai-chat", "openai-responses", "anthropic-messages", "gemini-generate": the spelling of
// config and logs.
std::string_view name(WireFormat format);
std::optional<WireFormat> wire_format_named(std::string_view name);

}  // namespace llm_proxy
