#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
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

// A model in a list for a client.
struct ListedModel {
  std::string id;
  std::string owner;  // the backend instance
};

// ---- facts of a format. Views and spans are to constants.

enum class Asked : std::uint8_t { generate, count_tokens, models };

// A path at which clients ask: GET for the list of models, POST for everything else.
struct ClientPath {
  std::string_view path;
  Asked what = Asked::generate;
};

// Paths that name the model, and what is asked, in one segment: PREFIX MODEL ":" VERB.
struct VerbPaths {
  std::span<const std::string_view> prefixes;
  std::string_view generate, stream, count;  // the verbs
  // The query item without which a stream is one JSON array.
  std::string_view events_item, events_value;
};

// Paths at an upstream, behind the base URL's own. "{model}" stands for the model, as one segment.
struct UpstreamPaths {
  std::string_view version;  // goes before them where the base URL ends in no version
  std::string_view generate;
  std::string_view stream;        // of a stream; empty: that of `generate`
  std::string_view stream_query;  // of a stream that we ask for, with "?"
  std::string_view count;         // empty: it counts no tokens
  std::string_view list;          // of models, with query
};

struct HeaderFact {
  std::string_view name, value;
};

// How tokens are counted, by an upstream and for a client.
struct TokenCount {
  std::string_view sum = "input_tokens";  // the member of the reply
  std::string_view object;                // the reply's "object"; empty: has none
  bool zero_left_out = false;             // a reply without `sum` says 0
  // The member of a count's body that takes a whole request, its model with it; empty: the count's
  // body has those `members` of a request.
  std::string_view whole_request;
  std::span<const std::string_view> members;
};

// How thinking that a provider has sealed is marked in clients of other formats, and where clients
// of this format send it.
struct SealFacts {
  std::string_view marker, redacted_marker;  // of seals made by providers of this format
  bool has_item_id = false;                  // a seal belongs to an item, whose id goes with it
  bool thinking_first = false;               // thinking stands first in its turn
  std::span<const std::string_view> fields;  // quoted keys of request members that hold seals
  bool base64 = false;                       // those members hold base64
};

// What becomes of a top-level member that the canonical request has no place for. A member without
// a row is one that nobody told us of: degrade.
struct LossRow {
  std::string_view field;
  Loss::Class what = Loss::Class::drop;
};

// One wire format: its functions, and what else the program must know of it. Stateless; all
// functions may be called on any thread.
struct Format {
  WireFormat id;

  // --- requests

  // Body → canonical. `body` outlives the result. `path_model` and `path_stream` are what the path
  // says, where it does. malformed_request names the field at fault.
  Result<Request> (*decode_request)(std::string_view body, std::string_view path_model,
                                    bool path_stream);
  // Canonical → body for an upstream of this format. unsupported for a loss of class refuse.
  Result<void> (*encode_request)(const Request& request, Translation& translation,
                                 std::string& out);
  std::span<const LossRow> losses;
  bool path_names_model = false;  // the body does not
  bool usage_on_request = false;  // a stream tells its usage only with stream_options.include_usage
  bool proxy_members = false;     // clients put members for a proxy into the body: is_for_proxy()
  bool keeps_responses = false;   // replies are kept, and later requests go on from them

  // --- replies

  std::unique_ptr<ReplyDecoder> (*reply_decoder)(const Translation& translation);
  std::unique_ptr<ReplyEncoder> (*stream_encoder)(const EncodeContext& context);
  std::unique_ptr<ReplyEncoder> (*whole_encoder)(const EncodeContext& context);
  std::unique_ptr<ReplyObserver> (*observer)();
  std::string_view stream_type = "text/event-stream; charset=utf-8";
  std::string_view keep_alive = ": keep-alive\n\n";  // of a stream that is relayed unchanged
  std::string_view terminator;  // ends a stream that stopped right behind its finish
  bool calls_lack_ids = false;  // clients may send calls back without the ids they got
  SealFacts seals;

  // --- errors

  // The format's error body as JSON; and as what ends a stream that has begun.
  void (*encode_error)(const Error& error, std::string& out);
  void (*encode_stream_error)(const Error& error, std::string& out);
  // An upstream's error body (any bytes) with its status → canonical. Never fails; never copies a
  // secret.
  Error (*decode_error)(int status, std::string_view body);
  bool knows_overloaded = false;              // clients know status 529
  bool unknown_model_is_bad_request = false;  // an unknown model is status 400, not 404

  // --- paths and heads

  std::span<const ClientPath> client_paths;
  VerbPaths verb_paths;
  // An unknown path that begins with one of them is answered in this format.
  std::span<const std::string_view> prefixes;
  UpstreamPaths upstream;
  HeaderFact version;  // says which version of the API is meant; upstreams need it
  TokenCount count;

  // --- lists of models. `now`, Unix seconds, stands for unknown dates.

  std::string (*encode_models)(std::span<const ListedModel> models, std::int64_t now);
  std::string (*encode_model)(const ListedModel& model, std::int64_t now);
  // The name of an entry of an upstream's list; empty: that model does not answer requests.
  std::string (*model_name)(JsonSlice entry);
};

const Format& format_of(WireFormat format);
// All of them, in the order of the enum.
std::span<const Format* const> all_formats();

// The status that a client of `format` gets for an error.
int client_status(const Format& format, const Error& error);

// The keys of any JSON object body that routing and splicing need. malformed_request unless it is a
// JSON object.
Result<RequestPeek> peek_request(std::string_view body);

}  // namespace llm_proxy
