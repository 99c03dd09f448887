#pragma once

#include <cstdint>
#include <optional>

namespace llm_proxy {

// Token counts in one canonical sense; every format's own arithmetic is undone by its codec.
// An absent count was not reported. Counts are kept as reported even where they contradict each
// other.
struct Usage {
  std::optional<std::int64_t> input;      // all input tokens, cached and written ones included
  std::optional<std::int64_t> cached;     // of the input: read from the provider's cache
  std::optional<std::int64_t> written;    // of the input: written to the provider's cache
  std::optional<std::int64_t> output;     // all output tokens, reasoning included
  std::optional<std::int64_t> reasoning;  // of the output

  bool empty() const { return !input && !output && !cached && !written && !reasoning; }
};

}  // namespace llm_proxy
