#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

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

// What the default plugins look for in a chat request, found in one pass: no tree is built.
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

  // False: this is for somebody who reads JSON with all its oddities.
  bool read(std::string_view body);
};

// The same of a chat completion.
struct ChatReplyView {
  std::vector<ChatText> texts;
  bool complete = false;  // it has choices, and each says why it ended

  bool read(std::string_view body);
};

}  // namespace llm_proxy
