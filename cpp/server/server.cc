#include "server/server.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/machine_memory.h"
#include "base/memory_budget.h"
#include "config/snapshot.h"
#include "ledger/access_log.h"
#include "net/listener.h"
#include "net/worker.h"
#include "server/worker_context.h"

namespace llm_proxy {
namespace {

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const auto& word : words) out += (out.empty() ? "" : ",") + word;
  return out;
}

}  // namespace

struct Server::Impl {
  // One worker and all that lives on it; torn down in reverse after the thread was joined.
  struct Seat {
    std::unique_ptr<Worker> worker;
    std::unique_ptr<WorkerContext> context;
    std::unique_ptr<Listener> listener;
    std::unique_ptr<Listener> anthropic;  // the second port's, if there is one
  };

  // One worker's listener at `port`; the first worker's says which port that is.
  Result<void> listen(Seat& seat, std::uint16_t& port, bool only_anthropic) {
    ListenOptions options;
    options.host = config->host;
    options.port = port;
    options.share_port = seats.size() > 1;
    auto opened = Listener::open(*seat.worker, options,
                                 [context = seat.context.get(), only_anthropic](StreamPtr stream) {
                                   context->accept(std::move(stream), only_anthropic);
                                 });
    if (!opened) return std::move(opened).error();
    port = (*opened)->port();
    (only_anthropic ? seat.anthropic : seat.listener) = *std::move(opened);
    return {};
  }

  void set_memory_limit(std::uint64_t configured) {
    memory.set_limit(configured != 0 ? configured : default_memory_limit());
  }

  void publish() {
    for (auto& seat : seats) {
      seat.worker->post(
          [context = seat.context.get(), snapshot = snapshot] { context->publish(snapshot); });
    }
  }

  std::shared_ptr<const ServerConfig> config;
  PluginHosts hosts;
  std::shared_ptr<const Snapshot> snapshot;
  AccessLog log;
  SealStore seals{{}};
  std::optional<ResponseStore> responses;  // from start() on
  SessionStore sessions;
  ModelCache models;
  MemoryBudget memory{0};
  std::vector<Seat> seats;
  std::uint16_t port = 0;
  std::uint16_t anthropic_port = 0;
  std::atomic<int> draining{0};
  Callback<void()> on_drained;
  bool running = false;
};

Server::Server(std::shared_ptr<const ServerConfig> config, PluginHosts hosts)
    : impl_(std::make_unique<Impl>()) {
  impl_->config = std::move(config);
  impl_->hosts = std::move(hosts);
}

Server::~Server() {
  join();
}

Result<void> Server::start() {
  auto& self = *impl_;
  auto snapshot = Snapshot::build(self.config, std::move(self.hosts.rings),
                                  std::move(self.hosts.backends), self.models.index(), nullptr);
  if (!snapshot) return std::move(snapshot).error();
  self.snapshot = *std::move(snapshot);

  UpstreamOptions options;
  options.idle_timeout = self.config->timeouts.upstream_idle;
  options.ca_file = self.config->ca_file;
  options.ca_dir = self.config->ca_dir;
  options.http_proxy = self.config->network.http_proxy;
  options.https_proxy = self.config->network.https_proxy;
  options.all_proxy = self.config->network.all_proxy;
  options.no_proxy = joined(self.config->network.no_proxy);
  options.proxy_loopback = self.config->network.proxy_loopback;
  auto environment = make_upstream_environment(std::move(options));
  if (!environment) return std::move(environment).error();
  if (self.config->logging.access_log) {
    auto opened = self.log.open(self.config->logging.access_log_file,
                                self.config->logging.format == LogFormat::json);
    if (!opened) return opened;
  }

  self.set_memory_limit(self.config->limits.memory_bytes);
  self.responses.emplace(self.config->responses);
  const int count = self.config->io_threads > 0
                        ? self.config->io_threads
                        : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  self.port = self.config->port;
  self.anthropic_port = self.config->anthropic_port.value_or(0);
  for (int i = 0; i < count; ++i) {
    auto& seat = self.seats.emplace_back();
    WorkerOptions worker_options;
    worker_options.index = i;
    seat.worker = std::make_unique<Worker>(worker_options);
    seat.context = std::make_unique<WorkerContext>(
        *seat.worker, *environment, self.snapshot, self.log, self.seals, *self.responses,
        self.sessions, self.models, self.memory, [this] { return stats(); },
        self.hosts.admin.get());
    auto listens = self.listen(seat, self.port, /*only_anthropic=*/false);
    if (listens && self.config->anthropic_port) {
      listens = self.listen(seat, self.anthropic_port, /*only_anthropic=*/true);
    }
    if (!listens) {
      self.seats.clear();
      self.log.close();
      return listens;
    }
  }
  for (auto& seat : self.seats) seat.worker->start();
  self.running = true;
  return {};
}

std::uint16_t Server::port() const {
  return impl_->running ? impl_->port : 0;
}

std::uint16_t Server::anthropic_port() const {
  return impl_->running ? impl_->anthropic_port : 0;
}

Result<void> Server::reload(std::shared_ptr<const ServerConfig> config,
                            std::shared_ptr<BackendHost> backends) {
  const auto& now = *impl_->snapshot;
  if (!backends) backends = now.hosts;
  auto snapshot = Snapshot::build(std::move(config), now.rings, std::move(backends),
                                  impl_->models.index(), &now);
  if (!snapshot) return std::move(snapshot).error();
  impl_->snapshot = *std::move(snapshot);
  impl_->set_memory_limit(impl_->snapshot->config->limits.memory_bytes);
  impl_->publish();
  return {};
}

void Server::set_rings(std::shared_ptr<RingHost> rings) {
  auto snapshot = std::make_shared<Snapshot>(*impl_->snapshot);
  snapshot->rings = std::move(rings);
  impl_->snapshot = std::move(snapshot);
  impl_->publish();
}

bool Server::reactivate(std::string_view instance) {
  const auto& snapshot = *impl_->snapshot;
  for (std::size_t i = 0; i < snapshot.config->backends.size(); ++i) {
    if (snapshot.config->backends[i].name != instance) continue;
    snapshot.key_pools[i]->reactivate();
    return true;
  }
  return false;
}

void Server::drain(std::chrono::milliseconds deadline, Callback<void()> on_drained) {
  auto& self = *impl_;
  if (!self.running) return;
  if (self.draining.load() == 0) {
    self.draining = static_cast<int>(self.seats.size()) + 1;
    self.on_drained = std::move(on_drained);
    for (auto& seat : self.seats) {
      seat.worker->post([this, &seat] {
        seat.listener->close();
        if (seat.anthropic) seat.anthropic->close();
        seat.context->drain([this] {
          if (impl_->draining.fetch_sub(1) == 2) std::exchange(impl_->on_drained, nullptr)();
        });
      });
    }
  }
  for (auto& seat : self.seats) {
    seat.worker->post([&seat, deadline] {
      if (deadline.count() == 0) {
        seat.context->cut_all();
        return;
      }
      seat.context->stop_after(deadline);
    });
  }
}

void Server::join() {
  auto& self = *impl_;
  for (auto& seat : self.seats) seat.worker->stop();
  for (auto& seat : self.seats) seat.worker->join();
  while (!self.seats.empty()) {
    auto& seat = self.seats.back();
    seat.listener.reset();
    seat.anthropic.reset();
    seat.context.reset();
    self.seats.pop_back();
  }
  self.log.close();
  self.running = false;
}

std::vector<InstanceHealth> Server::health() const {
  return impl_->snapshot ? impl_->snapshot->health(std::chrono::steady_clock::now())
                         : std::vector<InstanceHealth>();
}

ServerStats Server::stats() const {
  ServerStats out;
  out.memory_used = impl_->memory.used();
  out.memory_limit = impl_->memory.limit();
  out.memory_refused = impl_->memory.refused();
  for (const auto& seat : impl_->seats) {
    const auto& counters = seat.context->counters();
    out.requests += counters.requests.load(std::memory_order_relaxed);
    out.active += counters.active.load(std::memory_order_relaxed);
    out.decoding += counters.decoding.load(std::memory_order_relaxed);
    out.slices += counters.slices.load(std::memory_order_relaxed);
    out.client_connections += counters.connections.load(std::memory_order_relaxed);
    out.upstream_connections +=
        seat.context->pool().counters().open.load(std::memory_order_relaxed);
    out.upstream_idle += seat.context->pool().counters().idle.load(std::memory_order_relaxed);
  }
  return out;
}

}  // namespace llm_proxy
