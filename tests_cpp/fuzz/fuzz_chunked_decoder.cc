// The chunked coding: however the input is cut, the payload, the end and the error are the same.
#include <cstdlib>
#include <string>
#include <string_view>

#include "http/chunked_decoder.h"

namespace {

struct Outcome {
  std::string payload;
  std::size_t used = 0;
  bool done = false;
  bool failed = false;
  bool operator==(const Outcome&) const = default;
};

Outcome decode(std::string_view bytes, std::size_t step) {
  llm_proxy::ChunkedDecoder decoder(llm_proxy::ErrorKind::upstream_garbled);
  Outcome out;
  while (!bytes.empty() && !decoder.done()) {
    std::string_view piece = bytes.substr(0, step);
    const std::size_t offered = piece.size();
    while (!piece.empty() && !decoder.done()) {
      const auto got = decoder.next(piece);
      if (!got) {
        out.failed = true;
        return out;
      }
      out.payload += *got;
    }
    out.used += offered - piece.size();
    bytes.remove_prefix(offered - piece.size());
  }
  out.done = decoder.done();
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  Outcome whole = decode(bytes, bytes.size() + 1);
  Outcome cut = decode(bytes, 1 + data[0] % 32);
  if (whole.failed && cut.failed) whole.used = cut.used = 0;
  if (!(whole == cut)) std::abort();
  return 0;
}
