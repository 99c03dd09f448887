// What the five rings cost an exchange when no plugin is in them: nanoseconds, one line.
//
//   ring_cost [REQUESTS]
//
// Asks a generation without plugins what an exchange asks one on the way: whether any ring sees the
// request, then the reply, then its end, and keeps it alive meanwhile.

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "rings/ring_host.h"

namespace {

using namespace llm_proxy;

class NoPlugins final : public RingHost {
 public:
  NoPlugins() : RingHost({}) {}
  std::shared_ptr<RingSession> open(RingRequest, WorkerPost&) override { std::abort(); }
};

// Never inlined: the compiler must not know that the rings are empty.
[[gnu::noinline]] int rings_wanted(const std::shared_ptr<RingHost>& rings) {
  return !rings->rings().empty() + rings->rings().request() + rings->rings().reply() +
         rings->rings().background() + rings->stream_rules().hold_all;
}

}  // namespace

int main(int argc, char** argv) {
  const long requests = argc > 1 ? std::atol(argv[1]) : 5'000'000;
  const std::shared_ptr<RingHost> published = std::make_shared<NoPlugins>();
  const auto begin = std::chrono::steady_clock::now();
  int wanted = 0;
  for (long i = 0; i < requests; ++i) {
    const auto generation = published;
    wanted += rings_wanted(generation);
  }
  const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - begin;
  if (wanted != 0) return 1;
  std::printf("%.1f\n", took.count() / static_cast<double>(requests));
}
