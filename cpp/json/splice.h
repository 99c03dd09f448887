#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace llm_proxy {

// Replaces the bytes [begin, end) of a source; begin == end inserts.
struct Splice {
  std::size_t begin = 0;
  std::size_t end = 0;
  std::string replacement;
};

// `source` with the splices made. They are in order and do not overlap; one that does not fit is
// left out.
std::string spliced(std::string_view source, std::span<const Splice> splices);

}  // namespace llm_proxy
