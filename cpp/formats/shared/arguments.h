#pragma once

#include <string>
#include <string_view>

#include "formats/format.h"
#include "json/text.h"
#include "json/writer.h"

namespace llm_proxy {

// Arguments: a JSON object here, the text of one there.

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

}  // namespace llm_proxy
