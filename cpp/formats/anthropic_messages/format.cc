#include "formats/anthropic_messages/format.h"

#include "formats/anthropic_messages/wire.h"
#include "formats/shared/provider_errors.h"

namespace llm_proxy {

const Format kAnthropicMessages{
    anthropic_messages::kFormat,
    anthropic_messages::decode_request,
    anthropic_messages::encode_request,
    anthropic_messages::make_reply_decoder,
    anthropic_messages::make_stream_encoder,
    anthropic_messages::make_whole_encoder,
    anthropic_messages::make_observer,
    anthropic_messages::encode_error,
    anthropic_messages::encode_stream_error,
    decode_any_error,
};

}  // namespace llm_proxy
