#include "formats/gemini_generate/format.h"

#include "formats/gemini_generate/wire.h"

namespace llm_proxy {

const Format kGeminiGenerate{
    gemini_generate::kFormat,
    gemini_generate::decode_request,
    gemini_generate::encode_request,
    gemini_generate::make_reply_decoder,
    gemini_generate::make_stream_encoder,
    gemini_generate::make_whole_encoder,
    gemini_generate::make_observer,
    gemini_generate::encode_error,
    gemini_generate::encode_stream_error,
    gemini_generate::decode_error,
};

}  // namespace llm_proxy
