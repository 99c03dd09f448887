#include "formats/anthropic_messages/format.h"

#include <array>

#include "formats/anthropic_messages/wire.h"
#include "formats/shared/model_lists.h"
#include "formats/shared/provider_errors.h"

namespace llm_proxy {

namespace {

constexpr std::array kLosses{
    LossRow{"container", Loss::Class::refuse},
    LossRow{"mcp_servers", Loss::Class::refuse},
    LossRow{"thread", Loss::Class::refuse},
    LossRow{"metadata"},
    LossRow{"service_tier"},
    LossRow{"cache_control"},
    LossRow{"safeguards"},
    LossRow{"inference_geo"},
    LossRow{"billing_policy"},
    LossRow{"diagnostics"},
    LossRow{"speed"},
    LossRow{"fallbacks"},
    LossRow{"betas"},
};

constexpr std::array kClientPaths{
    ClientPath{"/v1/messages"},
    ClientPath{"/anthropic/v1/messages"},
    ClientPath{"/v1/messages/count_tokens", Asked::count_tokens},
    ClientPath{"/anthropic/v1/messages/count_tokens", Asked::count_tokens},
    ClientPath{"/anthropic/v1/models", Asked::models},
};
constexpr std::array<std::string_view, 2> kPrefixes{"/anthropic/", "/v1/messages"};
constexpr std::array<std::string_view, 6> kCounted{"model", "messages",    "system",
                                                   "tools", "tool_choice", "thinking"};
constexpr std::array<std::string_view, 2> kSealFields{"\"signature\"", "\"data\""};

}  // namespace

constinit const Format kAnthropicMessages{
    .id = anthropic_messages::kFormat,
    .decode_request = anthropic_messages::decode_request,
    .encode_request = anthropic_messages::encode_request,
    .losses = kLosses,
    .reply_decoder = anthropic_messages::make_reply_decoder,
    .stream_encoder = anthropic_messages::make_stream_encoder,
    .whole_encoder = anthropic_messages::make_whole_encoder,
    .observer = anthropic_messages::make_observer,
    .keep_alive = "event: ping\ndata: {\"type\": \"ping\"}\n\n",
    .terminator = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    .seals =
        {.marker = "a1:", .redacted_marker = "a1r:", .thinking_first = true, .fields = kSealFields},
    .encode_error = anthropic_messages::encode_error,
    .encode_stream_error = anthropic_messages::encode_stream_error,
    .decode_error = decode_any_error,
    .knows_overloaded = true,
    .client_paths = kClientPaths,
    .prefixes = kPrefixes,
    .upstream = {.version = "/v1",
                 .generate = "/messages",
                 .count = "/messages/count_tokens",
                 .list = "/models?limit=1000"},
    .version = {"anthropic-version", "2023-06-01"},
    .count = {.members = kCounted},
    .encode_models = anthropic_messages::encode_models,
    .encode_model = anthropic_messages::encode_model,
    .model_name = listed_name,
};

}  // namespace llm_proxy
