#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/result.h"
#include "hosting/backend_host.h"
#include "routing/backend.h"
#include "routing/model_index.h"

namespace llm_proxy {

// What the providers say they have, by instance: asked for in the background when somebody lists
// models, kept for a while, and kept on when a provider is down.
//
// One a server, shared by all workers: one short lock a call. Holds the instances of the
// configuration and at most kMaxModels names each.
class ModelCache {
 public:
  static constexpr std::size_t kMaxModels = 5000;
  static constexpr std::chrono::seconds kAfterFailure{60};  // then a provider is asked again
  static constexpr std::chrono::minutes kCloudFresh{30};

  // Which list of a backend: its own, or that of its maker's cloud.
  enum class List : std::uint8_t { own, cloud };
  struct Due {
    const Backend* backend;
    List list;
  };

  struct Listing {
    std::string instance;
    std::size_t models = 0;
    bool known = false;      // it has answered at least once
    bool asking = false;     // it is being asked now
    std::string last_error;  // of the last time it was asked; empty: it answered
  };

  // The lists of `backends` that are missing or older than `fresh`, and which nobody is asking
  // for now. The caller asks, and says what came of it.
  std::vector<Due> take_due(const std::vector<Backend>& backends, std::chrono::milliseconds fresh,
                            TimePoint now);
  void answered(const Due& asked, std::vector<std::string> models, TimePoint now);
  void failed(const Due& asked, const Error& error, TimePoint now);

  // Whether some backend that can be asked has never said what it has, nor failed to.
  bool waits_for_first(const std::vector<Backend>& backends) const;
  // By model; for routes. Outlives the cache where a snapshot does.
  const std::shared_ptr<ModelIndex>& index() const { return index_; }
  // In the order of `backends`.
  std::vector<HostedModels> known(const std::vector<Backend>& backends) const;
  std::vector<Listing> listings(const std::vector<Backend>& backends) const;

  // Whether this backend has such a list to ask for: the configuration names none.
  static bool can_list(const Backend& backend, List list = List::own);

 private:
  struct Entry {
    std::string url;
    std::optional<std::vector<std::string>> models;
    TimePoint next{};  // when it may be asked again
    bool asking = false;
    bool heard = false;  // an answer or a failure
    std::string last_error;
  };

  Entry& entry(const Due& asked);
  const Entry* find(const Backend& backend, List list) const;
  std::optional<std::vector<std::string>> models_of(const Backend& backend) const;

  mutable std::mutex mutex_;
  std::map<std::pair<std::string, List>, Entry> entries_;  // by instance
  std::chrono::milliseconds fresh_{0};
  std::shared_ptr<ModelIndex> index_ = std::make_shared<ModelIndex>();
};

inline constexpr std::size_t kMaxModelName = 512;  // bytes

// The names in a provider's answer to GET /models: OpenAI's and Anthropic's `data`, Gemini's
// `models`, or a bare array; of objects with `id` or `name`, or of strings. Gemini's models that
// generate nothing are left out, and so are names longer than kMaxModelName bytes and what comes
// after ModelCache::kMaxModels. upstream_garbled when it is none of these.
Result<std::vector<std::string>> parse_model_names(WireFormat format, std::string_view body);

}  // namespace llm_proxy
