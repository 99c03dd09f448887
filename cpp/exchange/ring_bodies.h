#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "formats/format.h"
#include "rings/stream_text.h"

namespace llm_proxy {

// Bodies as plugins see them, and back: everybody's format as OpenAI chat, and what plugins did to
// that as an edit of the body the client (or its upstream) really wrote.

// What plugins see, whatever the client speaks.
inline constexpr WireFormat kRingFormat = WireFormat::openai_chat;

// A request as plugins see it. What chat has no place for is left out.
Result<std::string> chat_view(const Request& request, std::string_view model);

// `body`, a request of `client`'s format, with the edit that made `edited` of `view`, its
// chat_view. Nothing: the edit has no place in it.
std::optional<std::string> edited_request(const Format& client, std::string_view body,
                                          std::string_view view, std::string_view edited);

// `body`, a JSON object, with "stream": true if it says nothing about it: a plugin that wrote it
// anew thought of what it asks, not of how the client wants to hear it.
void keep_streaming(std::string& body);

// What plugins hid where they could see it is hidden where they could not, too. Short values are
// left: they may be part of anything.
void hide_rest(const Placeholders& placeholders, std::string& body);

// edited_request() for a whole reply. An error: `edited` is no chat completion.
Result<std::string> edited_reply(const Format& client, const EncodeContext& context,
                                 std::string_view body, std::string_view view,
                                 std::string_view edited);

// ---- what is no conversation: embeddings and legacy completions

// The member that holds the texts at an upstream path.
std::string_view prompts_member(std::string_view upstream_path);
// The request as OpenAI chat: each text of `member`, and of `suffix`, is a message of a user; all
// other members stay. Nothing when a text is given as token ids, which say nothing to plugins.
// `body` is a valid JSON object.
std::optional<std::string> prompts_view(std::string_view body, std::string_view member);
// `body` with what plugins made of its view. unsupported when they have put in messages it has no
// place for.
Result<std::string> prompts_body(std::string_view body, std::string_view member,
                                 std::string_view edited);
// A reply of legacy completions as a chat completion; nothing when it is none.
std::optional<std::string> completion_view(std::string_view body);
// `body` with what plugins made of its view. internal when that is no chat completion.
Result<std::string> edited_completion(std::string_view body, std::string_view edited);

}  // namespace llm_proxy
