#pragma once

#include <string>
#include <string_view>

#include "json/text.h"

namespace llm_proxy {

// The object `base` with the members of the object `over` set in it, at the place of those it has
// and else at its end; every other byte stays. Objects inside are merged likewise, unless `over`'s
// has a "type" of its own: then it is another thing and replaces the old one.
std::string merged(JsonSlice base, JsonSlice over);

// The members of `after` that `before` has not, or has otherwise; as an object. Both are objects.
std::string difference(JsonSlice before, JsonSlice after);

}  // namespace llm_proxy
