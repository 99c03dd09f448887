#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/bounded_buffer.h"
#include "formats/format.h"
#include "http/sse_reader.h"
#include "json/array_reader.h"
#include "model/events.h"
#include "model/reply_meter.h"
#include "rings/stream_text.h"

namespace llm_proxy {

// A stream on its way through the reply ring: watches it, holds back what may not go on before the
// plugins have spoken, puts placeholders back, and makes one chat completion of it for plugins that
// look at whole replies.
//
// Owned by an exchange, between its relay and its session; sans-IO. Events pass byte for byte
// unless there are placeholders: then every event is decoded and encoded anew.
//
//   passing ─► holding (from the event that says how the reply ended) ─► finished
//      └──────────┴─► refused (a loop, an event or a stream beyond all bounds)
class RingStream final : private EventSink {
 public:
  static constexpr std::size_t kMaxHeld = kMaxReply;

  struct Options {
    bool hold_all = false;   // nothing goes on before the plugins have spoken
    bool cut_loops = false;  // a reply that repeats itself without end is refused
    bool hear = false;       // take_heard() is asked for
    const Placeholders* placeholders = nullptr;  // to put back; outlives this
    // What the upstream has counted so far; outlives this. The completion tells it even where the
    // client did not ask for it.
    const Usage* usage = nullptr;
  };

  // `context` outlives this.
  RingStream(const Format& client, const EncodeContext& context, const Options& options);

  // Takes what was written for the client; leaves in `bytes` what may go on now.
  void add(std::string& bytes);
  // The stream ended in order. upstream_cut: not for who decodes it.
  void finish();

  bool holds_all() const { return hold_all_; }
  // Why the stream must end here, once it must.
  const std::optional<Error>& refusal() const { return refusal_; }
  // Bytes that are held back, or kept for the completion.
  std::size_t kept() const { return held_.size() + pending_.size() + meter_.kept(); }
  // The text that has come since this was asked last.
  std::string take_heard() { return std::exchange(heard_, {}); }
  // What was held back, in the client's format.
  std::string take_held();
  // What the plugins look at, with its placeholders; empty when the stream did not end well.
  std::string take_completion();

 private:
  void on_event(const Event& event) override;
  void decode(const SseEvent& event);
  void restore(const Event& event);
  void flush_text();
  void give(std::string_view bytes, std::string& passing);
  void take_encoded(std::string& passing);
  void refuse(Error error);

  std::unique_ptr<ReplyDecoder> decoder_;
  std::unique_ptr<ReplyObserver> observer_;  // says when the reply has finished
  std::unique_ptr<ReplyEncoder> whole_;      // makes the completion
  std::unique_ptr<ReplyEncoder>
      encoder_;  // of the client's stream; null while bytes pass as they are
  SseReader reader_;
  std::optional<JsonArrayReader> array_;
  std::optional<PlaceholderRestorer> restorer_;
  std::optional<LoopDetector> loops_;
  PartStart part_;                                   // the open one: its kind and index
  ReplyMeter meter_;                                 // of what is kept to make the completion
  BoundedBuffer pending_{SseReader::kDefaultLimit};  // of the event under way
  BoundedBuffer held_{kMaxHeld};
  std::string heard_;  // as large as the completion at most, which meter_ bounds
  const Usage* const usage_;
  const bool hold_all_;
  const bool hear_;
  bool holding_ = false;
  bool complete_ = false;
  std::optional<Error> refusal_;
};

}  // namespace llm_proxy
