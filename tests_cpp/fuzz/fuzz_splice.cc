#include "codec_fuzz.h"
#include "json/splice.h"

// What is spliced into a body that peek_request took leaves a body that it takes again, with the
// new model.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace llm_proxy;
  const std::vector<char> bytes(data, data + size);
  const std::string_view body(bytes.data(), bytes.size());
  const Result<RequestPeek> peek = peek_request(body);
  if (!peek) return 0;
  fuzz::check(fuzz::is_json(body));
  if (peek->model_end == 0) return 0;
  const Splice splice{peek->model_begin, peek->model_end, "\"m\\u006fdel\""};
  const std::string changed = spliced(body, {&splice, 1});
  const Result<RequestPeek> again = peek_request(changed);
  fuzz::check(again && again->model == "model" && again->stream == peek->stream);
  return 0;
}
