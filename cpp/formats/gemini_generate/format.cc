#include "formats/gemini_generate/format.h"

#include <array>

#include "formats/gemini_generate/wire.h"

namespace llm_proxy {

namespace {

constexpr std::array kLosses{
    LossRow{"cachedContent", Loss::Class::refuse},
    LossRow{"responseModalities", Loss::Class::degrade},
    LossRow{"speechConfig", Loss::Class::degrade},
    LossRow{"safetySettings"},
    LossRow{"modelArmorConfig"},
    LossRow{"labels"},
    LossRow{"serviceTier"},
    LossRow{"store"},
};

constexpr std::array kClientPaths{
    ClientPath{"/v1beta/models", Asked::models},
    ClientPath{"/v1alpha/models", Asked::models},
};
constexpr std::array<std::string_view, 3> kModelPrefixes{"/v1beta/models/", "/v1alpha/models/",
                                                         "/v1/models/"};
constexpr std::array<std::string_view, 1> kPrefixes{"/v1beta/"};
constexpr std::array<std::string_view, 2> kSealFields{"\"thoughtSignature\"",
                                                      "\"thought_signature\""};

}  // namespace

constinit const Format kGeminiGenerate{
    .id = gemini_generate::kFormat,
    .decode_request = gemini_generate::decode_request,
    .encode_request = gemini_generate::encode_request,
    .losses = kLosses,
    .path_names_model = true,
    .reply_decoder = gemini_generate::make_reply_decoder,
    .stream_encoder = gemini_generate::make_stream_encoder,
    .whole_encoder = gemini_generate::make_whole_encoder,
    .observer = gemini_generate::make_observer,
    .stream_type = "text/event-stream",
    .calls_lack_ids = true,
    .seals = {.marker = "g1:", .fields = kSealFields, .base64 = true},
    .encode_error = gemini_generate::encode_error,
    .encode_stream_error = gemini_generate::encode_stream_error,
    .decode_error = gemini_generate::decode_error,
    .client_paths = kClientPaths,
    .verb_paths = {.prefixes = kModelPrefixes,
                   .generate = "generateContent",
                   .stream = "streamGenerateContent",
                   .count = "countTokens",
                   .events_item = "alt",
                   .events_value = "sse"},
    .prefixes = kPrefixes,
    .upstream = {.version = "/v1beta",
                 .generate = "/models/{model}:generateContent",
                 .stream = "/models/{model}:streamGenerateContent",
                 .stream_query = "?alt=sse",
                 .count = "/models/{model}:countTokens",
                 .list = "/models?pageSize=1000"},
    .count = {.sum = "totalTokens",
              .zero_left_out = true,
              .whole_request = "generateContentRequest"},
    .encode_models = gemini_generate::encode_models,
    .encode_model = gemini_generate::encode_model,
    .model_name = gemini_generate::model_name,
};

}  // namespace llm_proxy
