#pragma once

#include <cstdint>
#include <string_view>
#include <variant>
#include <vector>

#include "base/error.h"
#include "json/text.h"
#include "model/request.h"
#include "model/usage.h"

namespace llm_proxy {

// A reply, whole or streamed, as a sequence of typed events. Decoders produce it, encoders consume
// it, and neither knows the other's format. Views are valid only during the call that delivers the
// event.
//
//   ReplyStart ( PartStart (PartDelta | PartAnnotation)* PartSeal? PartEnd )* Finish
//   or, at any point after which nothing follows: Error
//
// Parts have dense indexes from 0 and never overlap: a decoder whose upstream interleaves holds the
// later part back. UsageUpdate may come anywhere between ReplyStart and Finish; the last one
// counts, whole. Finish is the last event of a good reply. A decoder holds it back until it has
// seen its format's terminator (or, where there is none, the orderly end), so an encoder may write
// its whole ending, terminator included, on Finish. A signature that Gemini puts on a call comes as
// the seal of a thinking part before that call, empty if need be; one on a text part comes as that
// part's seal.

struct ReplyStart {
  Text id;
  Text model;
  std::int64_t created = 0;  // Unix seconds; 0: unknown
};

enum class PartKind : std::uint8_t { text, thinking, refusal, tool_call, raw };

struct PartStart {
  std::uint32_t index = 0;
  PartKind kind = PartKind::text;
  // tool_call:
  Text call_id;
  Text item_id;  // Responses: fc_…, msg_…, rs_…
  Text name;
  Text tool_namespace;
  CallKind call_kind = CallKind::function;
  // thinking: redacted blocks have no text, only a seal.
  bool redacted = false;
  // text, Responses: the message's phase.
  Text phase;
  // raw: what it is and the whole of it.
  WireFormat owner{};
  std::string_view raw_type;
  JsonSlice raw;
};

// More text of the open part: text, thinking, refusal, or the arguments' JSON text of a tool call.
struct PartDelta {
  std::uint32_t index = 0;
  Text text;
};

// The seal of the open part: thinking, or (Gemini) text.
struct PartSeal {
  std::uint32_t index = 0;
  Seal seal;
};

// A citation or annotation of the open part, in its maker's own JSON.
struct PartAnnotation {
  std::uint32_t index = 0;
  WireFormat owner{};
  JsonSlice json;
};

struct PartEnd {
  std::uint32_t index = 0;
};

struct UsageUpdate {
  Usage usage;
};

enum class FinishReason : std::uint8_t {
  stop,            // natural end
  stop_sequence,   // a stop sequence was hit
  length,          // the output limit
  context_full,    // the model's context window
  tool_calls,      // the client must act
  content_filter,  // filtered by the provider
  refusal,         // the model's own refusal
  pause,           // a server-side tool loop paused
  bad_call,        // the model made an invalid tool call
  other,
};

struct Finish {
  FinishReason reason = FinishReason::stop;
  Text stop_sequence;
  std::string_view word;  // the upstream's own word, for the log
  // Responses: thinking parts that the end seals anew, by item.
  std::vector<Seal> seals = {};
};

using Event = std::variant<ReplyStart, PartStart, PartDelta, PartSeal, PartAnnotation, PartEnd,
                           UsageUpdate, Finish, Error>;

// Receives the events of one reply, in order, on the thread that decodes.
class EventSink {
 public:
  virtual ~EventSink() = default;
  virtual void on_event(const Event& event) = 0;
};

}  // namespace llm_proxy
