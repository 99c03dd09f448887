#pragma once

#include "formats/format.h"

namespace llm_proxy {

// Gemini generateContent: whole, as server-sent events and as one JSON array.
// Requests are read in camelCase and snake_case at every level and written in camelCase. Calls
// without ids get ids that are pure functions of the response id (replies) or of the place in the
// conversation (requests).
extern const Format kGeminiGenerate;

}  // namespace llm_proxy
