#include "net/upstream_pool.h"

#include <utility>

#include "net/upstream_connect.h"
#include "net/worker.h"

namespace llm_proxy {

Connection::Connection(StreamPtr stream, std::string key,
                       std::shared_ptr<UpstreamCounters> counters)
    : stream_(std::move(stream)), key_(std::move(key)), counters_(std::move(counters)) {
  counters_->open.fetch_add(1, std::memory_order_relaxed);
}

Connection& Connection::operator=(Connection&& other) noexcept {
  const Connection old(std::move(*this));
  stream_ = std::move(other.stream_);
  key_ = std::move(other.key_);
  counters_ = std::move(other.counters_);
  proxy_authorization_ = std::move(other.proxy_authorization_);
  reused_ = other.reused_;
  absolute_form_ = other.absolute_form_;
  return *this;
}

Connection::~Connection() {
  if (counters_) counters_->open.fetch_sub(1, std::memory_order_relaxed);
}

void UpstreamConnectCloser::operator()(UpstreamConnect* connect) const {
  connect->cancel();
  intrusive_ptr_release(connect);
}

// A connection that waits in the pool, and the deadline of its wait.
struct UpstreamPool::Idle {
  Idle(UpstreamPool& pool, IdleList& list, Connection connection)
      : pool(pool),
        list(list),
        connection(std::move(connection)),
        deadline([this] { this->pool.drop(*this); }) {}

  UpstreamPool& pool;
  IdleList& list;
  Connection connection;
  Deadline deadline;
  IdleList::iterator self;
};

UpstreamPool::UpstreamPool(Worker& worker, std::shared_ptr<const UpstreamEnvironment> environment)
    : worker_(worker),
      environment_(std::move(environment)),
      counters_(std::make_shared<UpstreamCounters>()) {}

UpstreamPool::~UpstreamPool() {
  close_idle();
}

std::optional<Connection> UpstreamPool::take_idle(const Endpoint& endpoint) {
  const auto found = idle_.find(endpoint.key);
  if (found == idle_.end()) return std::nullopt;
  IdleList& list = found->second;
  while (!list.empty()) {
    Connection connection = std::move(list.front().connection);
    drop(list.front());
    connection.stream().cancel_read();
    if (connection.stream().quiet()) return connection;
  }
  return std::nullopt;
}

ConnectTicket UpstreamPool::connect(const Endpoint& endpoint, std::chrono::milliseconds timeout,
                                    OnConnected done) {
  auto* connect =
      new UpstreamConnect(worker_, environment_, counters_, endpoint, timeout, std::move(done));
  intrusive_ptr_add_ref(connect);
  connect->start();
  return ConnectTicket(connect);
}

void UpstreamPool::release(Connection connection) {
  ByteStream& stream = connection.stream();
  if (!stream.is_open() || stream.writing()) return;
  stream.set_streaming(false);
  IdleList& list = idle_[connection.key_];
  if (list.size() >= environment_->options.max_idle_per_endpoint) {
    if (list.empty()) return;
    drop(list.back());
  }
  connection.reused_ = true;
  Idle& idle = list.emplace_front(*this, list, std::move(connection));
  idle.self = list.begin();
  counters_->idle.fetch_add(1, std::memory_order_relaxed);
  worker_.deadlines(environment_->options.idle_timeout).arm(idle.deadline);
  // Whatever comes while nobody asked, the end included, disqualifies it. `idle` owns the stream
  // that holds this handler: when it is dropped or handed out, the handler goes with it.
  stream.read_scratch([&idle](ErrorCode, std::string_view) { idle.pool.drop(idle); });
}

void UpstreamPool::drop(Idle& idle) {
  counters_->idle.fetch_sub(1, std::memory_order_relaxed);
  idle.list.erase(idle.self);
}

void UpstreamPool::close_idle() {
  for (auto& [key, list] : idle_) {
    while (!list.empty()) drop(list.front());
  }
}

}  // namespace llm_proxy
