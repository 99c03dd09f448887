#include "formats/openai_responses/format.h"

#include "formats/openai_responses/wire.h"
#include "formats/shared/provider_errors.h"

namespace llm_proxy {

const Format kOpenaiResponses{
    openai_responses::kFormat,
    openai_responses::decode_request,
    openai_responses::encode_request,
    openai_responses::make_reply_decoder,
    openai_responses::make_stream_encoder,
    openai_responses::make_whole_encoder,
    openai_responses::make_observer,
    openai_responses::encode_error,
    openai_responses::encode_stream_error,
    decode_any_error,
};

}  // namespace llm_proxy
