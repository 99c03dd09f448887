#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "formats/format.h"
#include "json/reader.h"
#include "json/writer.h"

// Gemini generateContent: what the files of this folder share. Nothing outside the folder includes
// it.
namespace llm_proxy::gemini_generate {

inline constexpr WireFormat kFormat = WireFormat::gemini_generate;
// What Google documents for histories whose signatures were made elsewhere; base64 of it, as the
// field holds bytes.
inline constexpr std::string_view kNoSignature = "skip_thought_signature_validator";
inline constexpr std::string_view kNoSignatureBytes =
    "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=";

inline Text camel_member(JsonSlice object, std::string_view camel, std::string_view snake) {
  const Text text = string_member(object, camel);
  return text.empty() ? string_member(object, snake) : text;
}

// A key in camelCase, whichever of the two spellings it came in. The view is valid until the next
// call.
class Camel {
 public:
  std::string_view operator()(std::string_view key) {
    if (key.find('_') == std::string_view::npos) return key;
    text_.clear();
    bool upper = false;
    for (const char c : key) {
      if (c == '_' && !text_.empty()) {
        upper = true;
      } else {
        text_ += upper && c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
        upper = false;
      }
    }
    return text_;
  }

 private:
  std::string text_;
};

enum class Form : std::uint8_t { whole, events, array };

JsonSlice json_schema(JsonSlice schema, Request& request);
Result<Request> decode_request(std::string_view body, std::string_view path_model,
                               bool path_stream);
Result<void> encode_request(const Request& request, Translation& translation, std::string& out);
Usage read_usage(JsonSlice object);
void encode_error(const Error& error, std::string& out);
void encode_stream_error(const Error& error, std::string& out);
std::string encode_models(std::span<const ListedModel> models, std::int64_t now);
std::string encode_model(const ListedModel& model, std::int64_t now);
std::string model_name(JsonSlice entry);
Error decode_error(int status, std::string_view body);
Error stream_error(JsonSlice json);

std::unique_ptr<ReplyDecoder> make_reply_decoder(const Translation& translation);
std::unique_ptr<ReplyEncoder> make_stream_encoder(const EncodeContext& context);
std::unique_ptr<ReplyEncoder> make_whole_encoder(const EncodeContext& context);
std::unique_ptr<ReplyObserver> make_observer();

}  // namespace llm_proxy::gemini_generate
