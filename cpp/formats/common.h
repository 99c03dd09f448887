#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "formats/codec.h"
#include "json/text.h"
#include "json/writer.h"

namespace llm_proxy {

// What the codecs share: rules of section 7 that are the same for every pair. Stateless.

// ---- Ids. Made-up and mapped ids are pure functions, so that no state is needed and prompt caches
// hold.

// `prefix` and 24 letters or digits drawn from `seed` and `position`.
std::string made_id(std::string_view prefix, std::string_view seed, std::uint64_t position);

struct IdRule {
  std::size_t max_length = 64;
  bool word_only = false;          // [A-Za-z0-9_-] (Anthropic)
  bool nine_alphanumeric = false;  // Mistral
  std::string_view prefix = "call_";
};
// `id` as it is where the rule allows it; else a hash of it that does.
std::string mapped_id(Text id, const IdRule& rule);

// ---- Tool names. [A-Za-z0-9_-] up to `max_length`; a namespace, an odd name or a wrapped custom
// tool gets an alias.

std::string upstream_tool_name(Translation& translation, Text name, Text tool_namespace,
                               CallKind kind, std::size_t max_length);
const Translation::ToolAlias* find_alias(const Translation* translation, Text upstream_name);

// ---- Arguments: a JSON object here, the text of one there.

inline constexpr std::string_view kRawArgumentsKey = "_raw_arguments";
inline constexpr std::string_view kWrappedInputSchema =
    R"({"type":"object","properties":{"input":{"type":"string"}},"required":["input"]})";

// The arguments as one JSON object. Text that is none is wrapped under kRawArgumentsKey; a custom
// call's input under "input".
void write_arguments_object(const ToolCallPart& call, JsonWriter& json);
// The arguments' text between the quotes of a JSON string, escaped; the wrap undone.
void append_arguments_text(const ToolCallPart& call, std::string& escaped);
// The input of a wrapped custom tool: {"input": "text"} → text. Other arguments come back as they
// are.
std::string unwrapped_input(std::string_view arguments);

// The text of a Gemini functionResponse.response: its only string under output, result, error or
// content, else the object as compact JSON. Escaped.
std::string response_text(JsonSlice response);

// Other formats know no deferred loading: deferred tools go as plain ones, but for Claude Code's
// placeholder, which must never be offered to a model.
bool is_offered(const Tool& tool);

bool is_system(Role role);  // or developer

// Whether a tool that its provider runs may stay behind: web search, which coding agents offer
// beside their own tools at every turn, when the client did not insist on it. A request for any
// other such tool is refused: the answer would be another, and the client could not see why.
bool may_be_left_out(const Request& request, const Tool& server_tool);

// What a part of a tool result says where only text has a place: a text document, or a block that
// only its format knows but that holds text (Anthropic's search_result). Escaped; empty: nothing.
std::string result_text(const Part& part);

// ---- Media.

struct DataUrl {
  Text mime_type;
  Text data;
  bool base64 = false;
};
std::optional<DataUrl> split_data_url(Text url);
// Decodes base64 (either alphabet, padding optional); nothing when it is none.
std::optional<std::string> decode_base64(std::string_view digits);

// ---- Reasoning.

std::string_view word(Reasoning::Effort effort);
std::optional<Reasoning::Effort> effort_named(Text word);
std::int64_t budget_of(Reasoning::Effort effort);
Reasoning::Effort effort_of_budget(std::int64_t tokens);
// The effort asked for in any of the ways there are; nothing when the request says nothing.
std::optional<Reasoning::Effort> effort_of(const Reasoning& reasoning);

// ---- Seals in a field that is not their maker's: a marker, the item's id, the token.
// "r1:rs_1:gAAA…"

// `redacted`: of an Anthropic redacted_thinking block.
std::string carried_seal(const Seal& seal, bool redacted);
struct OpenedSeal {
  Seal seal;
  bool redacted = false;
  bool carried = false;  // it bore our marker
};
// What `token`, found in a field of `field_format`, is. Views into `token`.
OpenedSeal opened_seal(Text token, WireFormat field_format);

// Whether a body of `format` may hold seals that only passed through its client (opened_seal() says
// `carried`): they must not reach an upstream as they stand. Looks at the fields that can, and
// nowhere else.
bool carries_seals(WireFormat format, std::string_view body);

// Whether it holds thinking that another provider than that of `own` has sealed.
bool is_foreign(const Message& message, WireFormat own);

// ---- Losses.

void lose(Translation& translation, Loss::Class what, std::string_view field,
          std::string_view note = {});
// Top-level keys the model does not name, by the table of losses; unsupported for the first of
// class refuse.
Result<void> lose_rest(const Request& request, Translation& translation);
// unsupported, naming the field.
Error refusal_of(std::string_view field, std::string_view why);

// For the table of a codec.
template <typename Encoder>
std::unique_ptr<ReplyEncoder> make_encoder(const EncodeContext& context) {
  return std::make_unique<Encoder>(context);
}

// ---- Errors.

Error malformed(std::string message, std::string param = {});  // the client's request
Error garbled(std::string_view what);                          // the upstream's reply
Error garbled(std::string_view wanted, std::string_view why);  // which is not what was wanted
Error cut_short();  // the upstream's stream, which ended without its terminator
// An error body of any server (section 9.1) with its status. Secrets are masked.
Error decode_any_error(int status, std::string_view body);
// The same for the JSON of an error inside a stream: an object that has `error`, or is one.
Error decode_stream_error(JsonSlice json);
// The status a client of `format` gets for `error`: 529 is Anthropic's own, 503 elsewhere.
int status_for(WireFormat format, const Error& error);
// "sk-…", "Bearer …", "AIza…" and the like become "***".
std::string masked(std::string_view text);

}  // namespace llm_proxy
