#include "server/worker_context.h"

#include <openssl/rand.h>

#include <cstdlib>
#include <utility>

#include "session/client_session.h"

namespace llm_proxy {
namespace {

constexpr std::chrono::milliseconds kRetryTick{50};
constexpr std::chrono::milliseconds kBuried{1000};
// What a client has to read the error with which its exchange ends when the server stops.
constexpr std::chrono::milliseconds kLastWords{500};

}  // namespace

WorkerContext::WorkerContext(Worker& worker, std::shared_ptr<const UpstreamEnvironment> environment,
                             std::shared_ptr<const Snapshot> snapshot, AccessLog& log,
                             SealStore& seals, ResponseStore& responses, SessionStore& chats,
                             ModelCache& models, MemoryBudget& memory,
                             std::function<ServerStats()> stats, AdminHost* admin)
    : worker_(worker),
      pool_(worker, std::move(environment)),
      slices_(worker),
      log_(log),
      seals_(seals),
      responses_(responses),
      chats_(chats),
      models_(models),
      memory_(memory),
      stats_(std::move(stats)),
      admin_(admin),
      drain_deadline_([this] { on_drain_deadline(); }),
      sweep_([this] { sweep(); }),
      lister_(*this, models) {
  publish(std::move(snapshot));
}

WorkerContext::~WorkerContext() {
  graveyard_.clear();
  sessions_.clear();
}

void WorkerContext::publish(std::shared_ptr<const Snapshot> snapshot) {
  snapshot_ = std::move(snapshot);
  hosted_keys_.clear();
  const auto& timeouts = snapshot_->config->timeouts;
  deadlines_ = {&worker_.deadlines(timeouts.client_head), &worker_.deadlines(timeouts.client_body),
                &worker_.deadlines(timeouts.client_idle), &worker_.deadlines(timeouts.client_write),
                &worker_.deadlines(timeouts.first_byte),  &worker_.deadlines(timeouts.stream_idle),
                &worker_.deadlines(timeouts.keep_alive),  &worker_.deadlines(kRetryTick)};
  sweep();
  for (const auto& session : sessions_) session->renew();
}

void WorkerContext::bury(std::shared_ptr<void> finished) {
  if (graveyard_.empty()) worker_.deadlines(kBuried).arm(sweep_);
  graveyard_.push_back(std::move(finished));
}

void WorkerContext::accept(StreamPtr stream, bool anthropic) {
  sweep();
  if (draining_) return;
  sessions_.push_front(std::make_shared<ClientSession>(*this, std::move(stream), anthropic));
  auto& session = *sessions_.front();
  session.set_place(sessions_.begin());
  counters_.connections.fetch_add(1, std::memory_order_relaxed);
  session.start();
}

void WorkerContext::retire(ClientSession& session) {
  bury(*session.place());
  sessions_.erase(session.place());
  counters_.connections.fetch_sub(1, std::memory_order_relaxed);
  check_empty();
}

void WorkerContext::flush_at_turn_end(ClientSession& session) {
  if (to_flush_.empty()) worker_.at_turn_end([this] { end_turn(); });
  to_flush_.push_back(*session.place());
}

void WorkerContext::end_turn() {
  flushing_.swap(to_flush_);
  for (const auto& waiting : flushing_) {
    if (const auto session = waiting.lock()) session->on_turn_end();
  }
  flushing_.clear();
}

void WorkerContext::drain(Callback<void()> on_empty) {
  draining_ = true;
  lister_.close();
  on_empty_ = std::move(on_empty);
  // A session that drains may retire itself and its place with it.
  const std::vector<std::shared_ptr<ClientSession>> sessions(sessions_.begin(), sessions_.end());
  for (const auto& session : sessions) session->drain();
  pool_.close_idle();
  check_empty();
}

void WorkerContext::cut_all() {
  const std::vector<std::shared_ptr<ClientSession>> sessions(sessions_.begin(), sessions_.end());
  for (const auto& session : sessions) session->cut();
}

void WorkerContext::stop_after(std::chrono::milliseconds deadline) {
  if (!sessions_.empty()) worker_.deadlines(deadline).arm(drain_deadline_);
}

void WorkerContext::on_drain_deadline() {
  if (std::exchange(stopping_, true)) return cut_all();
  const std::vector<std::shared_ptr<ClientSession>> sessions(sessions_.begin(), sessions_.end());
  for (const auto& session : sessions) session->stop();
  stop_after(kLastWords);
}

void WorkerContext::check_empty() {
  if (draining_ && sessions_.empty() && on_empty_) std::exchange(on_empty_, nullptr)();
}

std::string WorkerContext::next_request_id() {
  constexpr std::string_view kHex = "0123456789abcdef";
  constexpr std::size_t kBytes = 16;
  if (random_at_ + kBytes > random_.size()) {
    // Without entropy there is no id that cannot be guessed, and nothing to go on with.
    if (RAND_bytes(random_.data(), static_cast<int>(random_.size())) != 1) std::abort();
    random_at_ = 0;
  }
  std::string id;
  id.reserve(2 * kBytes);
  for (const auto end = random_at_ + kBytes; random_at_ < end; ++random_at_) {
    id += kHex[random_[random_at_] >> 4];
    id += kHex[random_[random_at_] & 15];
  }
  return id;
}

}  // namespace llm_proxy
