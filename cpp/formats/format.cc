#include "formats/format.h"

#include <array>

#include "formats/anthropic_messages/format.h"
#include "formats/gemini_generate/format.h"
#include "formats/openai_chat/format.h"
#include "formats/openai_responses/format.h"

namespace llm_proxy {

const Format& format_of(WireFormat format) {
  // In the order of the enum.
  static const std::array<const Format*, kWireFormatCount> kCodecs{
      &kOpenaiChat,
      &kOpenaiResponses,
      &kAnthropicMessages,
      &kGeminiGenerate,
  };
  return *kCodecs[static_cast<std::size_t>(format)];
}

}  // namespace llm_proxy
