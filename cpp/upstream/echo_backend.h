#pragma once

#include <string_view>

#include "model/events.h"
#include "model/request.h"

namespace llm_proxy {

// The built-in answerer: what the proxy does when nobody has configured a provider. It repeats the
// last user text, word by word, says how to point the proxy at a real model, and calls a tool when
// it is told to (tool_choice required or named) or asked in words ("call TOOL {"key": "value"}").
// No network, no state; usage is counted in words.
//
// Delivers the whole reply to `sink` during the call. `reply_id` names the reply.
void echo_reply(const Request& request, std::string_view reply_id, EventSink& sink);

}  // namespace llm_proxy
