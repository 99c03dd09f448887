#pragma once

#include <cstdint>

#include "model/request.h"

namespace llm_proxy {

// Input tokens of a request, estimated without a tokenizer: about 3.5 bytes of text a token (a
// character each where the script is not alphabetic), a fixed price per image and page, some for
// each message and tool. Cheap enough for clients that ask fifty times a second; asks nobody.
std::int64_t estimate_tokens(const Request& request);

}  // namespace llm_proxy
