#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "formats/format.h"
#include "formats/shared/ids.h"
#include "json/reader.h"
#include "json/writer.h"

// OpenAI Responses: what the files of this folder share. Nothing outside the folder includes it.
namespace llm_proxy::openai_responses {

inline constexpr WireFormat kFormat = WireFormat::openai_responses;
inline constexpr IdRule kCallIds{.max_length = 64};
inline constexpr std::int64_t kMinOutputTokens = 16;
inline constexpr std::string_view kToolSearch = "tool_search";

// What one stream event says; the slices view into its data.
struct StreamEvent {
  Text type, delta, text, refusal, arguments, input;
  std::int64_t output_index = -1, content_index = 0, summary_index = 0;
  JsonSlice item, response, annotation, error;
};

// The response object of an event or a whole body; the slices view into its source.
struct ResponseObject {
  Text id, model, status, incomplete_reason;
  std::int64_t created = 0;
  JsonSlice output, usage, error;
};

Result<Request> decode_request(std::string_view body, std::string_view, bool);
Result<void> encode_request(const Request& request, Translation& translation, std::string& out);
Usage read_usage(JsonSlice object);
bool read_response(JsonSlice source, ResponseObject& out);
bool read_event(std::string_view data, StreamEvent& out);
std::string_view error_type(const Error& error);
void encode_error(const Error& error, std::string& out);
void encode_stream_error(const Error& error, std::string& out);

std::unique_ptr<ReplyDecoder> make_reply_decoder(const Translation& translation);
std::unique_ptr<ReplyEncoder> make_stream_encoder(const EncodeContext& context);
std::unique_ptr<ReplyEncoder> make_whole_encoder(const EncodeContext& context);
std::unique_ptr<ReplyObserver> make_observer();

}  // namespace llm_proxy::openai_responses
