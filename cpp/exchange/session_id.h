#pragma once

#include <array>
#include <string>
#include <string_view>

#include "model/request.h"
#include "session/client_session.h"

namespace llm_proxy {

// Header lines in which a client says which session it is.
inline constexpr std::array<std::string_view, 7> kSessionFields{
    "x-session-id",    "x-claude-code-session-id", "session-id", "session_id",
    "conversation_id", "x-b2bua-session-id",       "thread-id"};

// The value of the first of them that is there; empty if none is.
std::string_view session_field(const RequestHead& head);

// What identifies the session a request belongs to, as a digest that tells no secret. The client is
// part of it, by its key or its address: nobody gets into another client's session.
//
// What its client says: a header line, or in the body session_id, extra_body.session_id,
// prompt_cache_key, conversation, metadata.user_id. Empty if it says nothing.
std::string named_session(const ClientRequest& client, std::string_view body);
// Whose sealed thinking is whose: the session as its client names it, with the conversation's first
// user message where it names none, or only the user. `request` is decoded from the client's body.
std::string seal_session(const ClientRequest& client, const Request& request);
// Else what stays the same in all turns of a conversation: the client's name, the system prompt and
// the first user message.
std::string derived_session(const ClientRequest& client, const Request& request);

}  // namespace llm_proxy
