#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/bounded_buffer.h"
#include "base/result.h"

namespace llm_proxy {

// One server-sent event. Views that live until the reader is called again.
struct SseEvent {
  std::string_view event;  // empty: none was named
  std::string_view data;   // data lines joined by LF
};

// Finds the events in a text/event-stream as it arrives: LF, CR and CRLF, comments, BOM, many data
// lines, all as WHATWG says, with the same events for every way the bytes are cut. `id` and `retry`
// are passed over.
//
// Owned by whoever reads the stream; one per stream. An event of one data line that lies whole in
// the input is handed out as views into the input; only what straddles two inputs is copied.
//
// From one event to the end of the next, `limit` bytes may come: comments, `id`, unknown fields and
// blank lines count as data does, so that a stream of nothing else ends too.
//
//   SseEvent event;
//   for (;;) {
//     Result<bool> got = reader.next(input, event);
//     if (!got) return fail(got.error());
//     if (!*got) break;                       // input is used up
//     use(event);
//   }
class SseReader {
 public:
  static constexpr std::size_t kDefaultLimit = 16u << 20;

  explicit SseReader(std::size_t limit = kDefaultLimit)
      : limit_(limit), line_(limit), event_kept_(limit), data_kept_(limit) {}

  // Takes bytes off the front of `input` up to the end of an event: true, and `out` is that event.
  // False: the input is used up and no event is complete. upstream_too_large: more than `limit`
  // bytes have come since the last event.
  Result<bool> next(std::string_view& input, SseEvent& out);

  // The stream ended. True: an event was under way that lacked only its blank line, and `out` is
  // it. Some servers end that way; whether the stream ended well is the format's terminator to say.
  Result<bool> finish(SseEvent& out);

  // Nothing of an event has come yet: what was read since the last one is complete comments.
  bool between_events() const { return between_; }

 private:
  Result<bool> line(std::string_view text, SseEvent& out);
  bool dispatch(SseEvent& out);
  void forget_delivered();
  Result<bool> keep_partial_line(std::string_view& input);
  [[nodiscard]] bool keep_event();  // before the input it may point into is gone
  [[nodiscard]] bool keep_data();
  Error too_large() const;

  const std::size_t limit_;
  std::size_t size_ = 0;  // bytes since the last event
  std::uint8_t bom_ = 0;  // bytes of the BOM seen so far
  bool has_data_ = false;
  bool between_ = true;
  bool delivered_ = false;   // the event was handed out: forget it before going on
  bool skip_lf_ = false;     // the last line ended in CR at the end of an input
  bool line_whole_ = false;  // line_ is complete, and may be what event_ or data_ point into
  std::string_view event_;   // the event under way: views into the input or into the strings below
  std::string_view data_;
  BoundedBuffer line_;  // the line that began in an earlier input
  BoundedBuffer event_kept_;
  BoundedBuffer data_kept_;
};

}  // namespace llm_proxy
