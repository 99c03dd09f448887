#include "formats/codec.h"

#include <array>

#include "formats/anthropic_messages.h"
#include "formats/gemini_generate.h"
#include "formats/openai_chat.h"
#include "formats/openai_responses.h"

namespace llm_proxy {

const Codec& codec(WireFormat format) {
  // In the order of the enum.
  static const std::array<const Codec*, kWireFormatCount> kCodecs{
      &kOpenaiChat,
      &kOpenaiResponses,
      &kAnthropicMessages,
      &kGeminiGenerate,
  };
  return *kCodecs[static_cast<std::size_t>(format)];
}

}  // namespace llm_proxy
