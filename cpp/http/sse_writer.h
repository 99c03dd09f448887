#pragma once

#include <string>
#include <string_view>

namespace llm_proxy {

// Appends one server-sent event: `event: name` unless the name is empty, one `data:` line for each
// line of `data`, and the blank line.
void append_sse_event(std::string& out, std::string_view event, std::string_view data);

// Appends a comment, which clients ignore: a keep-alive.
void append_sse_comment(std::string& out, std::string_view text);

}  // namespace llm_proxy
