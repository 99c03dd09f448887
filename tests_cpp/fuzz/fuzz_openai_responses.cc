#include "codec_fuzz.h"
#include "formats/openai_responses/format.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return llm_proxy::fuzz::run(llm_proxy::kOpenaiResponses, data, size);
}
