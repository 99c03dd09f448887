#include "codec_fuzz.h"
#include "formats/gemini_generate/format.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return llm_proxy::fuzz::run(llm_proxy::kGeminiGenerate, data, size);
}
