#pragma once

#include <cstddef>
#include <string>
#include <variant>

#include "model/events.h"

namespace llm_proxy {

// The most that is kept of one reply while it is put together: of its body, of the parts a decoder
// holds back, of what an encoder repeats at the end.
inline constexpr std::size_t kMaxReply = 64u << 20;

// What a reply's events make their receivers keep: counted, so that a reply without end is noticed
// before it has filled the memory, however small its events are.
//
// Owned by whoever sits between decoder and encoder; one per reply; lives on the exchange's worker.
class ReplyMeter {
 public:
  explicit ReplyMeter(std::size_t bound = kMaxReply) : bound_(bound) {}

  // False: the reply is larger than the bound.
  [[nodiscard]] bool add(const Event& event) {
    kept_ += cost(event);
    return kept_ <= bound_;
  }
  std::size_t kept() const { return kept_; }

 private:
  // A part costs its entries in several lists; an event the room its text leaves unused.
  static constexpr std::size_t kPart = 4096;
  static constexpr std::size_t kEvent = 32;

  static std::size_t cost(const Event& event) {
    if (const auto* delta = std::get_if<PartDelta>(&event)) {
      return kEvent + delta->text.bytes().size();
    }
    if (const auto* part = std::get_if<PartStart>(&event)) {
      return kPart + part->raw.size() + part->name.bytes().size() + part->call_id.bytes().size() +
             part->item_id.bytes().size() + part->phase.bytes().size();
    }
    if (const auto* seal = std::get_if<PartSeal>(&event)) {
      return kEvent + seal->seal.token.bytes().size();
    }
    if (const auto* note = std::get_if<PartAnnotation>(&event)) return kEvent + note->json.size();
    return 0;
  }

  const std::size_t bound_;
  std::size_t kept_ = 0;
};

inline Error reply_too_large() {
  return {ErrorKind::upstream_too_large,
          "the upstream's reply is larger than " + std::to_string(kMaxReply >> 20) + " MiB"};
}

}  // namespace llm_proxy
