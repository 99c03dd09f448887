#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "json/reader.h"
#include "json/text.h"

namespace llm_proxy {

// A text inside a chat body, as it stands there: the bytes between its quotes.
struct ChatText {
  enum class Place : std::uint8_t { content, arguments, note };

  std::string_view raw;
  Place place = Place::content;
  std::int32_t message = -1;  // which object of `messages` it belongs to; -1: none

  Text text() const { return Text::escaped(raw); }
};

// What every request may hold that plugins are shown: Python reads it into the types it promises,
// and a recursive plugin does not run out of stack. Objects and arrays inside each other as deep as
// the strictest providers take them.
inline constexpr JsonLimits kShownLimits{
    .depth = 128, .finite_numbers = true, .whole_characters = true};

// What the default plugins look for in a chat request, found in one pass: no tree is built. The
// same pass checks that the request has the shape which all plugins may rely on.
// Views into the body, which outlives this.
struct ChatRequestView {
  struct Member {
    std::string_view key, value;
  };

  std::vector<ChatText> texts;  // all that can be about a person, in the body's order
  std::vector<Member> members;  // of the request itself
  std::string_view model;       // between its quotes
  std::int32_t last_message = -1;
  bool has_model = false;  // it is a string
  bool wants_format = false;
  bool plain = false;  // false: only somebody who reads JSON with all its oddities understands it

  // malformed_request, naming the member: a type that OpenAI chat does not have there, or a value
  // beyond kShownLimits. Members that are not in the tables of chat_view.cc may hold anything.
  Result<void> read(std::string_view body);
};

// The same of a chat completion.
struct ChatReplyView {
  std::vector<ChatText> texts;
  bool complete = false;  // it has choices, and each says why it ended

  bool read(std::string_view body);
};

}  // namespace llm_proxy
