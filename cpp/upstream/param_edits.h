#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "routing/backend.h"
#include "routing/call_params.h"

namespace llm_proxy {

// `body`, a request in the format of `backend` for `model`, with `params` set over its own. How the
// format spells each is its encoder's business: what an otherwise empty request gains by them is
// merged into the body.
Result<std::string> with_params(const CallParams& params, const Backend& backend,
                                std::string_view model, std::string_view body);

}  // namespace llm_proxy
