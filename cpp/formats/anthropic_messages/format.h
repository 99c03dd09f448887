#pragma once

#include "formats/codec.h"

namespace llm_proxy {

// Anthropic Messages, 2023-06-01 and its betas (wire-formats section 2).
extern const Codec kAnthropicMessages;

}  // namespace llm_proxy
