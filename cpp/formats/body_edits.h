#pragma once

#include <string>
#include <string_view>

#include "formats/format.h"

namespace llm_proxy {

// What a compatible server cannot take in a request's body, or cannot do without, whoever wrote
// that body: a client of the same format or our own encoder. One row a quirk, in body_edits.cc.
bool edits_body(const Quirks& quirks);

// `body`, a JSON object of OpenAI's or Anthropic's kind, as the server wants it. Members it has
// nothing against keep their bytes and their order.
std::string edited_body(std::string_view body, const Quirks& quirks);

}  // namespace llm_proxy
