#pragma once

#include "formats/format.h"

namespace llm_proxy {

// OpenAI Chat Completions and the servers that are nearly so.
extern const Format kOpenaiChat;

}  // namespace llm_proxy
