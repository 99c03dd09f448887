#include "formats/openai_chat/format.h"

#include <array>

#include "formats/openai_chat/wire.h"
#include "formats/shared/model_lists.h"
#include "formats/shared/provider_errors.h"

namespace llm_proxy {

namespace {

constexpr std::array kLosses{
    LossRow{"audio", Loss::Class::degrade},
    LossRow{"web_search_options", Loss::Class::refuse},
    LossRow{"plugins", Loss::Class::refuse},
    LossRow{"modalities"},
    LossRow{"prediction"},
    LossRow{"store"},
    LossRow{"metadata"},
    LossRow{"service_tier"},
    LossRow{"prompt_cache_key"},
    LossRow{"prompt_cache_options"},
    LossRow{"prompt_cache_retention"},
    LossRow{"moderation"},
    LossRow{"usage"},
    LossRow{"provider"},
};

constexpr std::array kClientPaths{
    ClientPath{"/v1/chat/completions"},
    ClientPath{"/chat/completions"},
    ClientPath{"/v1/models", Asked::models},
    ClientPath{"/models", Asked::models},
};

}  // namespace

constinit const Format kOpenaiChat{
    .id = openai_chat::kFormat,
    .decode_request = openai_chat::decode_request,
    .encode_request = openai_chat::encode_request,
    .losses = kLosses,
    .usage_on_request = true,
    .proxy_members = true,
    .reply_decoder = openai_chat::make_reply_decoder,
    .stream_encoder = openai_chat::make_stream_encoder,
    .whole_encoder = openai_chat::make_whole_encoder,
    .observer = openai_chat::make_observer,
    .seals = {.marker = "c1:"},
    .encode_error = openai_chat::encode_error,
    .encode_stream_error = openai_chat::encode_stream_error,
    .decode_error = decode_any_error,
    .client_paths = kClientPaths,
    .upstream = {.generate = "/chat/completions", .list = "/models"},
    .encode_models = encode_openai_models,
    .encode_model = encode_openai_model,
    .model_name = listed_name,
};

}  // namespace llm_proxy
