#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "formats/format.h"
#include "json/reader.h"
#include "json/writer.h"

// OpenAI Chat Completions: what the files of this folder share. Nothing outside the folder includes
// it.
namespace llm_proxy::openai_chat {

inline constexpr WireFormat kFormat = WireFormat::openai_chat;

Result<Request> decode_request(std::string_view body, std::string_view, bool);
Result<void> encode_request(const Request& request, Translation& translation, std::string& out);
// Takes a number; another value leaves `count` as it is.
void read_count(JsonReader& json, std::optional<std::int64_t>& count);
// Reads `usage` as any server spells it. Where completion_tokens leave reasoning out, which shows
// in total_tokens, the output is what the total says.
Usage read_usage(JsonReader& json);
void encode_error(const Error& error, std::string& out);
void encode_stream_error(const Error& error, std::string& out);

std::unique_ptr<ReplyDecoder> make_reply_decoder(const Translation& translation);
std::unique_ptr<ReplyEncoder> make_stream_encoder(const EncodeContext& context);
std::unique_ptr<ReplyEncoder> make_whole_encoder(const EncodeContext& context);
std::unique_ptr<ReplyObserver> make_observer();

}  // namespace llm_proxy::openai_chat
