// Server-sent events: however the input is cut, the events are the same, and none exceeds the
// limit.
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "http/sse_reader.h"

namespace {

constexpr std::size_t kLimit = 200;

using Events = std::vector<std::pair<std::string, std::string>>;

Events read(std::string_view bytes, std::size_t step) {
  llm_proxy::SseReader reader(kLimit);
  llm_proxy::SseEvent event;
  Events events;
  while (!bytes.empty()) {
    const std::string piece(
        bytes.substr(0, step));  // freed after each round: no view may outlive it
    bytes.remove_prefix(piece.size());
    std::string_view input = piece;
    for (;;) {
      const auto got = reader.next(input, event);
      if (!got) return events;
      if (!*got) break;
      events.emplace_back(event.event, event.data);
      if (event.data.size() + event.event.size() > kLimit) std::abort();
    }
    if (!input.empty()) std::abort();
  }
  const auto got = reader.finish(event);
  if (got && *got) events.emplace_back(event.event, event.data);
  return events;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (read(bytes, bytes.size() + 1) != read(bytes, 1 + data[0] % 32)) std::abort();
  return 0;
}
