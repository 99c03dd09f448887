#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include "http/head.h"

namespace llm_proxy {

// How long an upstream asks to be left alone, in every spelling in use: retry-after-ms; Retry-After
// in seconds, as a duration or as an HTTP date; and, of a 429 without either, the reset time of a
// rate limit with nothing remaining. `unix_millis`: now. A moment that has passed is no time at
// all.
std::optional<std::chrono::milliseconds> parse_retry_after(const Fields& fields, int status,
                                                           std::int64_t unix_millis);

}  // namespace llm_proxy
