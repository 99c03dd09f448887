#include "codec_fuzz.h"
#include "formats/anthropic_messages/format.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return llm_proxy::fuzz::run(llm_proxy::kAnthropicMessages, data, size);
}
