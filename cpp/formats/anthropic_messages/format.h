#pragma once

#include "formats/format.h"

namespace llm_proxy {

// Anthropic Messages, 2023-06-01 and its betas.
extern const Format kAnthropicMessages;

}  // namespace llm_proxy
