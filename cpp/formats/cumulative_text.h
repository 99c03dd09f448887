#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "model/events.h"

namespace llm_proxy {

// The quirk `cumulative_text`: some of a server's streams say with each chunk all that they have
// said so far. Passes on only what is new, and no blank thinking in front of what is thought.
//
// Stands between a reply's decoder and whoever wants its events; lives as long as the reply. The
// first two chunks of a kind decide: a stream whose second chunk does not begin with its first is
// one of pieces, and is left alone.
class CumulativeText final : public EventSink {
 public:
  explicit CumulativeText(EventSink& next) : next_(next) {}

  void on_event(const Event& event) override;

 private:
  enum class Manner : std::uint8_t { unknown, pieces, cumulative };
  struct Said {
    Manner manner = Manner::unknown;
    std::string last;      // chunk; not kept of pieces
    bool visible = false;  // something but blanks has been passed on
  };

  std::string_view fresh(std::string_view chunk, Said& said) const;

  EventSink& next_;
  PartKind kind_ = PartKind::raw;  // of the open part
  std::array<Said, 2> said_;       // text, thinking: over all their parts
};

}  // namespace llm_proxy
