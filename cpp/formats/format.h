#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/result.h"
#include "model/events.h"
#include "model/request.h"
#include "model/wire_format.h"

namespace llm_proxy {

// What one translation could not carry. The class decides what happens: refuse → 400 to the client;
// degrade → named in a log line and a response header; drop → log only. `docs/translation.md` is
// generated from the table of all.
struct Loss {
  enum class Class : std::uint8_t { refuse, degrade, drop };

  Class what = Class::drop;
  std::string field;  // "n", "cache_control", "logit_bias"
  std::string note;
};

// Deviations of a compatible server, set by its catalog row. Each is asked for in exactly one
// function: the first group in the codec, which writes the request; the second in body_edits, which
// mends any request's body; the third where a reply is taken.
struct Quirks {
  bool max_completion_tokens = false;  // Chat: send max_completion_tokens, not max_tokens
  bool developer_role = false;         // Chat: system text goes as role developer
  bool reasoning_content = false;      // Chat: replay thinking as reasoning_content
  bool reasoning_details = false;      // Chat: OpenRouter's reasoning_details are taken
  bool nine_char_ids = false;          // Chat: Mistral's tool call ids

  bool max_tokens = false;            // knows max_tokens only: max_completion_tokens is renamed
  bool no_stream_options = false;     // stream_options is dropped
  bool no_reasoning = false;          // reasoning and reasoning_effort are dropped
  bool no_reasoning_object = false;   // reasoning is dropped
  bool no_thinking = false;           // thinking and what belongs to it are dropped
  bool plan_members = false;          // Z.ai's coding plan: members beyond its list are dropped
  bool plain_tool_choice = false;     // a tool_choice that names a tool becomes "auto"
  bool token_floor = false;           // max_tokens below 512 leave no visible answer
  bool token_cap = false;             // max_tokens above 200000 are refused
  bool thinking_mode = false;         // InternLM: thinking_mode true
  bool system_role = false;           // role developer is unknown: system
  bool reasoning_everywhere = false;  // assistant messages need some reasoning_content

  bool cumulative_text = false;  // chunks of its streams may repeat all that was said before
  bool whole_replies = false;  // its streams are not to be trusted: asked for whole, streamed by us
};

// State of one exchange's translation, from the client's request to the last byte of the reply.
// Filled by encode_request, read by the reply's encoder.
struct Translation {
  // Tools that had to be renamed or wrapped for the upstream, so that calls come back as the client
  // knows them.
  struct ToolAlias {
    std::string upstream_name;
    std::string name;
    std::string tool_namespace;
    CallKind kind = CallKind::function;
  };

  std::string upstream_model;  // what to put in `model` (or in Gemini's path)
  Quirks quirks;
  std::vector<Loss> losses;
  std::vector<ToolAlias> aliases;
  std::string forced_output_tool;  // structured output emulated by this tool; undone in the reply
  bool view = false;  // to be looked at, not sent: what has no place is left out, not refused
};

// Decodes one upstream reply into events. One per reply; lives on the worker of its exchange.
class ReplyDecoder {
 public:
  virtual ~ReplyDecoder() = default;
  // A complete, successful (2xx) body. upstream_garbled when it is no reply of this format.
  virtual Result<void> on_whole(std::string_view body, EventSink& sink) = 0;
  // One server-sent event. A mid-stream error is delivered as an Error event, then this returns ok.
  virtual Result<void> on_stream_event(std::string_view event, std::string_view data,
                                       EventSink& sink) = 0;
  // The upstream closed its body in order. upstream_cut unless the format's own terminator was
  // seen.
  virtual Result<void> on_stream_end(EventSink& sink) = 0;
};

// What the reply's encoder must know of its request. `request` outlives the encoder.
struct EncodeContext {
  const Request* request = nullptr;
  const Translation* translation = nullptr;
  std::int64_t now = 0;  // Unix seconds
  std::string_view
      reply_seed;  // unique per exchange: made-up ids are pure functions of it and the position
  bool json_array = false;  // Gemini without alt=sse: a stream is the elements of one JSON array
};

// Encodes events as the client's format; appends to `out()`, which its owner takes and clears at
// will.
class ReplyEncoder : public EventSink {
 public:
  std::string& out() { return out_; }
  // The format's keep-alive while the upstream is silent; nothing before the first event where the
  // format forbids it.
  virtual void keep_alive() = 0;

 protected:
  std::string out_;
};

// Watches a relayed reply without changing it. Fed every server-sent event, or the whole body once.
class ReplyObserver {
 public:
  virtual ~ReplyObserver() = default;
  virtual void on_stream_event(std::string_view event, std::string_view data) = 0;
  virtual void on_whole(std::string_view body) = 0;

  const Usage& usage() const { return usage_; }
  std::string_view finish_word() const { return finish_word_; }
  // The format's terminator was seen: the stream may end well.
  bool terminated() const { return terminated_; }
  // An error was reported inside the stream or inside a 200 body.
  const std::optional<Error>& error() const { return error_; }
  // The last event held nothing but usage, which not every client wants (Chat).
  bool usage_only() const { return usage_only_; }
  // Something a user would call output has been seen: from here on nothing may be retried.
  bool meaningful() const { return meaningful_; }

 protected:
  Usage usage_;
  std::string finish_word_;
  std::optional<Error> error_;
  bool terminated_ = false;
  bool meaningful_ = false;
  bool usage_only_ = false;
};

// Where a value stands in a body; empty when it is absent or null.
struct Span {
  std::size_t begin = 0, end = 0;

  bool empty() const { return begin == end; }
  JsonSlice of(std::string_view body) const { return body.substr(begin, end - begin); }
};

// What the head of a Chat, Responses, Messages or Gemini request says, found without building
// anything.
struct RequestPeek {
  std::string model;  // decoded; empty when absent (Gemini: from the path, not here)
  bool stream = false;
  bool has_stream_options = false;
  std::optional<bool> include_usage;
  // Where the values stand in the body, for splicing; {0,0} when absent.
  std::size_t model_begin = 0, model_end = 0;                    // the value with its quotes
  std::size_t stream_options_begin = 0, stream_options_end = 0;  // the object
  std::size_t object_begin = 0;  // just behind the opening brace of the body
  bool for_proxy = false;        // holds members that are no provider's business
  // Responses: what of it is kept, and what stands for something that was kept.
  bool store = true;
  Span input, previous_response_id, conversation;
};

// Members of OpenAI's bodies that clients write for a proxy: "extra_body", "session_id", …
bool is_for_proxy(std::string_view member);

// One wire format. Stateless; all functions may be called on any thread.
struct Format {
  WireFormat format;
  // Body → canonical. `body` outlives the result. `path_model` and `path_stream` come from Gemini's
  // path. malformed_request names the field at fault.
  Result<Request> (*decode_request)(std::string_view body, std::string_view path_model,
                                    bool path_stream);
  // Canonical → body for an upstream of this format. unsupported for a loss of class refuse.
  Result<void> (*encode_request)(const Request& request, Translation& translation,
                                 std::string& out);
  std::unique_ptr<ReplyDecoder> (*reply_decoder)(const Translation& translation);
  std::unique_ptr<ReplyEncoder> (*stream_encoder)(const EncodeContext& context);
  std::unique_ptr<ReplyEncoder> (*whole_encoder)(const EncodeContext& context);
  std::unique_ptr<ReplyObserver> (*observer)();
  // The format's error body as JSON; and as what ends a stream that has begun.
  void (*encode_error)(const Error& error, std::string& out);
  void (*encode_stream_error)(const Error& error, std::string& out);
  // An upstream's error body (any bytes) with its status → canonical. Never fails; never copies a
  // secret.
  Error (*decode_error)(int status, std::string_view body);
};

const Format& format_of(WireFormat format);

// The keys of any JSON object body that routing and splicing need. malformed_request unless it is a
// JSON object.
Result<RequestPeek> peek_request(std::string_view body);

}  // namespace llm_proxy
