#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace llm_proxy {

// What clients of OpenAI's kind tell the proxy beside the request: `session_id`, `agent`,
// `backend_type` and `request_context_tokens`, at its top or in `extra_body`.
struct ProxyMembers {
  std::string backend;                         // backend_type
  std::optional<std::int64_t> context_tokens;  // of the prompt, as the client counts them
};

ProxyMembers read_proxy_members(std::string_view body);

// `body`, a JSON object, without them. What else is in `extra_body` is set over the body's own
// members, but for what only hosted backends know (`project_dir`, …). All other values keep their
// bytes.
std::string without_proxy_members(std::string_view body);

}  // namespace llm_proxy
