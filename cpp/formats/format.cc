#include "formats/format.h"

#include <array>

#include "formats/anthropic_messages/format.h"
#include "formats/gemini_generate/format.h"
#include "formats/openai_chat/format.h"
#include "formats/openai_responses/format.h"

namespace llm_proxy {

namespace {

// In the order of the enum.
constexpr std::array<const Format*, kWireFormatCount> kFormats{
    &kOpenaiChat,
    &kOpenaiResponses,
    &kAnthropicMessages,
    &kGeminiGenerate,
};

}  // namespace

const Format& format_of(WireFormat format) {
  return *kFormats[static_cast<std::size_t>(format)];
}

std::span<const Format* const> all_formats() {
  return kFormats;
}

int client_status(const Format& format, const Error& error) {
  const int status = error.http_status();
  if (error.kind == ErrorKind::unknown_model && status == 400 &&
      !format.unknown_model_is_bad_request) {
    return 404;
  }
  return status == 529 && !format.knows_overloaded ? 503 : status;
}

}  // namespace llm_proxy
