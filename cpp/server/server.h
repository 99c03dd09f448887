#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/callback.h"
#include "base/result.h"
#include "config/server_config.h"
#include "ledger/server_stats.h"
#include "routing/key_pool.h"

namespace llm_proxy {

class AdminHost;
class BackendHost;
class RingHost;

// What the engine calls to reach Python; null where the process has none. All outlive the server.
struct PluginHosts {
  std::shared_ptr<RingHost> rings;
  std::shared_ptr<BackendHost> backends;
  std::shared_ptr<AdminHost> admin;
};

// The proxy: a set of workers that accept, and the snapshot they run on.
//
// Owned by the hosting program (the extension module or llm-proxyd). Its public functions are
// called on one thread, the lane's; they return at once and never need the GIL to make progress.
//
//   created ─► running ─► draining ─► stopped
class Server {
 public:
  Server(std::shared_ptr<const ServerConfig> config, PluginHosts hosts);
  // Stops at once if still running: connections are cut, threads joined.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Binds and starts the workers. An address in use or a bad one is an Error that says so.
  Result<void> start();
  // The port that was bound; 0 before start.
  std::uint16_t port() const;
  // Likewise of the port that has Anthropic's API alone; 0 when there is none.
  std::uint16_t anthropic_port() const;

  // Publishes a new snapshot (backends, keys, limits, deadlines; not the address or the number of
  // workers), and with it another host of the Python backends if one is given. Exchanges under way
  // keep the old one. An Error leaves everything as it was.
  Result<void> reload(std::shared_ptr<const ServerConfig> config,
                      std::shared_ptr<BackendHost> backends = nullptr);
  // Publishes new rings; same rule.
  void set_rings(std::shared_ptr<RingHost> rings);

  // Stops accepting and lets exchanges finish until the deadline; what is left then ends with its
  // format's error, and is cut if its client does not read that. `on_drained` is
  // called on a worker thread, once, when nothing is left; then `join` returns quickly. Calling it
  // again with 0 cuts at once.
  void drain(std::chrono::milliseconds deadline, Callback<void()> on_drained);
  // Joins the workers. The caller has released the GIL: lane jobs may need it to finish.
  void join();

  ServerStats stats() const;
  // Every backend's keys and breaker as they are now, for diagnostics: positions, never keys.
  std::vector<InstanceHealth> health() const;
  // Ends the cool-downs of one instance; false: there is none of that name.
  bool reactivate(std::string_view instance);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace llm_proxy
