#include "formats/openai_responses/format.h"

#include <array>

#include "formats/openai_responses/wire.h"
#include "formats/shared/model_lists.h"
#include "formats/shared/provider_errors.h"

namespace llm_proxy {

namespace {

constexpr std::array kLosses{
    LossRow{"background", Loss::Class::refuse},
    LossRow{"prompt", Loss::Class::refuse},
    LossRow{"store"},
    LossRow{"include"},
    LossRow{"metadata"},
    LossRow{"client_metadata"},
    LossRow{"service_tier"},
    LossRow{"stream_options"},
    LossRow{"prompt_cache_key"},
    LossRow{"prompt_cache_options"},
    LossRow{"prompt_cache_retention"},
    LossRow{"moderation"},
    LossRow{"access_programs"},
    LossRow{"provider"},
};

constexpr std::array kClientPaths{
    ClientPath{"/v1/responses"},
    ClientPath{"/responses"},
    ClientPath{"/v1/responses/input_tokens", Asked::count_tokens},
};
constexpr std::array<std::string_view, 9> kCounted{
    "model",     "input", "instructions", "tools", "tool_choice", "parallel_tool_calls",
    "reasoning", "text",  "truncation"};
constexpr std::array<std::string_view, 1> kSealFields{"\"encrypted_content\""};

}  // namespace

constinit const Format kOpenaiResponses{
    .id = openai_responses::kFormat,
    .decode_request = openai_responses::decode_request,
    .encode_request = openai_responses::encode_request,
    .losses = kLosses,
    .proxy_members = true,
    .keeps_responses = true,
    .reply_decoder = openai_responses::make_reply_decoder,
    .stream_encoder = openai_responses::make_stream_encoder,
    .whole_encoder = openai_responses::make_whole_encoder,
    .observer = openai_responses::make_observer,
    .seals = {.marker = "r1:", .has_item_id = true, .fields = kSealFields},
    .encode_error = openai_responses::encode_error,
    .encode_stream_error = openai_responses::encode_stream_error,
    .decode_error = decode_any_error,
    .unknown_model_is_bad_request = true,
    .client_paths = kClientPaths,
    .upstream = {.generate = "/responses", .count = "/responses/input_tokens", .list = "/models"},
    .count = {.object = "response.input_tokens", .members = kCounted},
    .encode_models = encode_openai_models,
    .encode_model = encode_openai_model,
    .model_name = listed_name,
};

}  // namespace llm_proxy
