#include "formats/openai_chat/format.h"

#include "formats/openai_chat/wire.h"
#include "formats/shared/provider_errors.h"

namespace llm_proxy {

const Format kOpenaiChat{
    openai_chat::kFormat,
    openai_chat::decode_request,
    openai_chat::encode_request,
    openai_chat::make_reply_decoder,
    openai_chat::make_stream_encoder,
    openai_chat::make_whole_encoder,
    openai_chat::make_observer,
    openai_chat::encode_error,
    openai_chat::encode_stream_error,
    decode_any_error,
};

}  // namespace llm_proxy
