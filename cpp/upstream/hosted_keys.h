#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/worker_post.h"
#include "hosting/backend_host.h"

namespace llm_proxy {

// The keys that hosted backends lend to the engine, which does the talking itself: asked for once,
// used until they expire or are refused.
//
// Owned by its WorkerContext; lives on its worker. Whoever asks while an answer is under way waits
// for the same one.
class HostedKeys {
 public:
  using Done = std::function<void(const Result<HostedKey>&)>;
  // A key that ends so soon may not outlive its request.
  static constexpr std::int64_t kMarginMillis = 10'000;

  // The key to send now; null: ask. `now` is Unix milliseconds.
  const std::string* held(const BackendHost& host, const std::string& instance,
                          std::int64_t now) const;
  // `done` is called once, later, on the worker.
  void ask(BackendHost& host, const std::string& instance, WorkerPost& worker, Done done);
  // The upstream would not have this key. Nothing if it has been replaced since.
  void refused(const BackendHost& host, const std::string& instance, std::string_view key);
  // Another configuration holds from now on; whoever waits is still answered.
  void clear() { entries_.clear(); }

 private:
  struct Entry {
    HostedKey key;
    std::string refused;
    std::vector<Done> waiting;
  };
  // By host as well: an exchange that began before a reload asks the host it began with.
  std::map<std::pair<const BackendHost*, std::string>, std::shared_ptr<Entry>> entries_;
};

}  // namespace llm_proxy
