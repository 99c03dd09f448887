#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config/snapshot.h"
#include "ledger/server_stats.h"
#include "upstream/model_cache.h"

namespace llm_proxy {

// GET /v1/diagnostics: every instance with its keys, its breaker and its models, as JSON. Keys by
// position, never by text.
std::string encode_diagnostics(const Snapshot& snapshot, const ModelCache& models,
                               const ServerStats& stats, TimePoint now, std::int64_t unix_millis);

// GET /health: that we serve, and how many backends would be asked now. Anybody may ask, so no
// names.
std::string encode_health(const Snapshot& snapshot, const ServerStats& stats, TimePoint now);

}  // namespace llm_proxy
