#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "json/text.h"
#include "model/wire_format.h"

namespace llm_proxy {

// The canonical request: what the four formats have in common, as plain structs. Strings and JSON
// slices are views into the client's body (or into `Request::owned`), which must outlive the
// request. What the model does not name stays as a raw slice beside its message and returns only to
// the format it came from.

// An opaque proof of reasoning that only its maker can read: Anthropic's signature or redacted
// data, OpenAI's encrypted_content, Gemini's thoughtSignature. Never shown to a provider that did
// not make it.
struct Seal {
  WireFormat maker{};
  Text token;
  Text item_id;  // Responses: the reasoning item's id (rs_…); else empty

  bool empty() const { return token.empty(); }
};

struct TextPart {
  Text text;
  JsonSlice cache_control;  // Anthropic's marker, as it stood
  JsonSlice citations;      // the format's own annotations or citations array
  Seal seal;                // Gemini puts signatures on text parts too
};

enum class MediaKind : std::uint8_t { image, document, audio, video };

struct MediaPart {
  enum class Source : std::uint8_t { base64, url, file_id, text };

  MediaKind kind = MediaKind::image;
  Source source = Source::base64;
  Text data;       // base64 digits, URL, provider's file id, or the text of a text document
  Text mime_type;  // "image/png"; empty when unknown (a URL)
  Text filename;
  Text detail;  // OpenAI's low|high|auto
  JsonSlice cache_control;
};

struct ThinkingPart {
  Text text;  // what may be shown: thinking, summary or reasoning text; may be empty
  Seal seal;
  bool redacted = false;  // Anthropic's redacted_thinking: only the seal exists
  JsonSlice details;      // OpenRouter's reasoning_details array, as it stood
};

enum class CallKind : std::uint8_t { function, custom };

struct ToolCallPart {
  Text id;                  // call_…, toolu_…; empty where the format has none (Gemini)
  bool id_made_up = false;  // by the decoder: the client gave none
  Text item_id;             // Responses' fc_…; else empty
  Text name;
  Text tool_namespace;  // Responses' namespace tools
  CallKind kind = CallKind::function;
  // Exactly one is set: an object as JSON (Anthropic, Gemini) or the text of one (Chat, Responses;
  // may be invalid JSON).
  JsonSlice arguments_object;
  Text arguments_text;
  Seal seal;  // Gemini: the signature on the call
  JsonSlice cache_control;
};

struct Part;

struct ToolResultPart {
  Text call_id;
  Text name;  // Gemini names the function; others do not
  std::vector<Part> content;
  bool is_error = false;
  CallKind kind = CallKind::function;
  JsonSlice response_object;  // Gemini's functionResponse.response, as it stood
  JsonSlice cache_control;
};

struct RefusalPart {
  Text text;
};

// Something only one format knows: server tool calls and their results, code execution, compaction,
// item references.
struct RawPart {
  WireFormat owner{};
  std::string_view type;  // the format's word for it: "server_tool_use", "web_search_call", …
  JsonSlice json;
};

struct Part : std::variant<TextPart, MediaPart, ThinkingPart, ToolCallPart, ToolResultPart,
                           RefusalPart, RawPart> {
  using variant::variant;
};

enum class Role : std::uint8_t { system, developer, user, assistant, tool };

// One turn, in the shape of its source: Anthropic and Gemini keep tool results inside a user
// message, Chat and Responses have a message of role tool for each. An encoder regroups as its
// format demands.
struct Message {
  Role role = Role::user;
  std::vector<Part> parts;
  Text name;         // Chat's `name`
  Text phase;        // Responses' commentary | final_answer
  JsonSlice source;  // the whole message or item as it stood
};

struct Tool {
  enum class Kind : std::uint8_t {
    function,
    custom,  // free text input (Responses, Chat)
    server,  // run by the provider: web search, code execution, …
  };

  Kind kind = Kind::function;
  Text name;
  Text tool_namespace;  // Responses' namespace tools, flattened
  Text description;
  JsonSlice schema;  // JSON Schema of the arguments; empty: none given
  std::optional<bool> strict;
  bool deferred = false;  // Anthropic's defer_loading: known, not offered
  std::string_view type;  // server and custom tools: the format's own type word
  JsonSlice cache_control;
  JsonSlice source;  // the whole declaration as it stood
  WireFormat owner{};
};

struct ToolChoice {
  enum class Mode : std::uint8_t { automatic, none, required, one, subset };

  Mode mode = Mode::automatic;
  bool subset_required = false;  // subset: must one of them be called?
  std::vector<Text> names;       // one: exactly one name; subset: the names
};

struct OutputFormat {
  enum class Kind : std::uint8_t { text, json, json_schema };

  Kind kind = Kind::text;
  Text name;
  Text description;
  JsonSlice schema;
  std::optional<bool> strict;
};

// How hard to think, as asked. Where a format has both words and budgets, both may be set.
struct Reasoning {
  enum class Effort : std::uint8_t { none, minimal, low, medium, high, xhigh, max };

  std::optional<Effort> effort;
  std::optional<std::int64_t> budget_tokens;  // 0: off; -1: the model decides
  std::optional<bool> adaptive;               // Anthropic's thinking.type adaptive
  std::optional<bool> visible;                // summaries or thoughts asked for
};

// Numbers keep the spelling of their source.
struct Sampling {
  JsonSlice temperature, top_p, top_k, seed, presence_penalty, frequency_penalty, logit_bias,
      logprobs, top_logprobs;
  std::optional<std::int64_t> n;
  std::optional<std::int64_t> max_output_tokens;
  std::vector<Text> stop;
};

struct Request {
  WireFormat format{};
  Text model;
  bool stream = false;
  bool include_usage = false;  // Chat: stream_options.include_usage

  // In the order of the conversation. Leading system text is here too, as system (or developer)
  // messages; formats with a system field of their own (Anthropic, Gemini, Responses' instructions)
  // decode it to leading messages.
  std::vector<Message> messages;
  std::vector<Tool> tools;
  std::optional<ToolChoice> tool_choice;
  std::optional<bool> parallel_tool_calls;
  std::optional<OutputFormat> output;
  Reasoning reasoning;
  Sampling sampling;
  Text verbosity;
  Text user;                  // user, safety_identifier or metadata.user_id
  Text previous_response_id;  // Responses
  Text conversation;          // Responses

  // Top-level keys the model does not name, in their order, as they stood: `key`, value. For the
  // same format only, and for the list of losses.
  std::vector<std::pair<std::string_view, JsonSlice>> rest;
  // Every top-level member as it stood, in the order of the source: what an encoder of the same
  // format writes again, with `model` replaced.
  std::vector<std::pair<std::string_view, JsonSlice>> members;

  // Storage for strings that exist nowhere in the source. A deque: growing it moves nothing.
  std::deque<std::string> owned;
  Text own(std::string plain) { return Text::plain(owned.emplace_back(std::move(plain))); }
  // The same text, in the one spelling whose bytes may be looked at.
  Text unescaped(Text text) { return text.has_escapes() ? own(text.decode()) : text; }
};

}  // namespace llm_proxy
