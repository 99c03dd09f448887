#pragma once

#include <string>
#include <string_view>

#include "formats/format.h"
#include "json/text.h"

namespace llm_proxy {

// Errors.

Error malformed(std::string message, std::string param = {});  // the client's request
Error garbled(std::string_view what);                          // the upstream's reply
Error garbled(std::string_view wanted, std::string_view why);  // which is not what was wanted
// It begins parts without ending others, which have to be held back.
Error too_interleaved();
Error cut_short();  // the upstream's stream, which ended without its terminator
// Reads the error body of any server, in every shape that servers are known to use. Secrets are
// masked.
Error decode_any_error(int status, std::string_view body);
// The same for the JSON of an error inside a stream: an object that has `error`, or is one.
Error decode_stream_error(JsonSlice json);
// "sk-…", "Bearer …", "AIza…" and the like become "***".
std::string masked(std::string_view text);

}  // namespace llm_proxy
