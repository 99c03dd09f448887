#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "stores/response_store.h"

namespace llm_proxy {

// One request to /v1/conversations and what hangs below it.
struct ConversationCall {
  std::string_view method;
  std::string_view path;   // below /v1/conversations, without a leading slash
  std::string_view query;  // as sent
  std::string_view body;
  std::string_view seed;  // unique per request: made-up ids are pure functions of it
  std::int64_t unix_now = 0;
};

// Answers it from the store, in which a conversation is a name for its last turn: what it began
// with and its own object stand before all turns. Whoever answers in it, its past is told him in
// full.
Result<std::string> answer_conversation(ResponseStore& store, std::string_view owner,
                                        const ConversationCall& call, TimePoint now);

}  // namespace llm_proxy
