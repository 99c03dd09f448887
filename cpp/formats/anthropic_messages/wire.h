#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "formats/format.h"
#include "json/reader.h"
#include "json/writer.h"

// Anthropic Messages: what the files of this folder share. Nothing outside the folder includes it.
namespace llm_proxy::anthropic_messages {

inline constexpr WireFormat kFormat = WireFormat::anthropic_messages;

// Anthropic's counts as they stand; message_delta's replace message_start's one by one.
struct Counts {
  std::optional<std::int64_t> input, read, written, output, thinking;

  void read_from(JsonReader& json);
  Usage usage() const;
};

Result<Request> decode_request(std::string_view body, std::string_view, bool);
Result<void> encode_request(const Request& request, Translation& translation, std::string& out);
void encode_error(const Error& error, std::string& out);
void encode_stream_error(const Error& error, std::string& out);
std::string encode_models(std::span<const ListedModel> models, std::int64_t now);
std::string encode_model(const ListedModel& model, std::int64_t now);

std::unique_ptr<ReplyDecoder> make_reply_decoder(const Translation& translation);
std::unique_ptr<ReplyEncoder> make_stream_encoder(const EncodeContext& context);
std::unique_ptr<ReplyEncoder> make_whole_encoder(const EncodeContext& context);
std::unique_ptr<ReplyObserver> make_observer();

}  // namespace llm_proxy::anthropic_messages
