#pragma once

#include "formats/format.h"

namespace llm_proxy {

// OpenAI Responses: POST /v1/responses, whole and as typed server-sent events.
// Every input item is one canonical message. Tools of namespaces, of `additional_tools` items and
// of `tool_search_output` items are lifted into Request::tools; Translation::aliases undo it in the
// reply.
extern const Format kOpenaiResponses;

}  // namespace llm_proxy
