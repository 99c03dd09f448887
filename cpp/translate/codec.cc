#include "translate/codec.h"

#include <array>

#include "translate/anthropic_messages.h"
#include "translate/gemini_generate.h"
#include "translate/openai_chat.h"
#include "translate/openai_responses.h"

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
