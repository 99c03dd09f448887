#include "json/splice.h"

namespace llm_proxy {

std::string spliced(std::string_view source, std::span<const Splice> splices) {
  std::size_t size = source.size();
  for (const Splice& splice : splices) size += splice.replacement.size();
  std::string out;
  out.reserve(size);
  std::size_t done = 0;
  for (const Splice& splice : splices) {
    if (splice.begin < done || splice.end < splice.begin || splice.end > source.size()) continue;
    out += source.substr(done, splice.begin - done);
    out += splice.replacement;
    done = splice.end;
  }
  out += source.substr(done);
  return out;
}

}  // namespace llm_proxy
