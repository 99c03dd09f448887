// What routing, key choice and breaker cost one request that goes well: nanoseconds, one line.
//
//   route_cost [REQUESTS [SELECTOR]]
//
// Thirty backends of three keys each; the client names one with its prefix, or as SELECTOR says.
// The clock is read once a request, as an exchange does.

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "routing/key_pool.h"
#include "routing/route_table.h"
#include "upstream/attempts.h"

int main(int argc, char** argv) {
  using namespace llm_proxy;
  const long requests = argc > 1 ? std::atol(argv[1]) : 2'000'000;
  const std::string selector = argc > 2 ? argv[2] : "backend-17:gpt-4.1";
  std::vector<Backend> backends(30);
  for (std::size_t i = 0; i < backends.size(); ++i) {
    backends[i].name = "backend-" + std::to_string(i);
    backends[i].keys = {"key-one", "key-two", "key-three"};
  }
  Availability availability;
  const auto pools = availability.pools(backends);
  const auto table = RouteTable::build(backends, {});
  if (!table) return 1;
  const FailurePolicy policy;
  const SteadyClock clock;

  std::size_t asked = 0;
  const auto begin = std::chrono::steady_clock::now();
  for (long i = 0; i < requests; ++i) {
    const TimePoint now = clock.now();
    const auto route = table->resolve(selector);
    if (!route) return 1;
    Attempts attempts(policy, now);
    for (const auto& candidate : route->candidates) {
      const auto at = static_cast<std::size_t>(candidate.backend - backends.data());
      attempts.add({pools[at].get(), candidate.model});
    }
    asked += attempts.next(now).what == Attempts::Step::What::ask;
    attempts.answered();
  }
  const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - begin;
  if (asked != static_cast<std::size_t>(requests)) return 1;
  std::printf("%.1f\n", took.count() / static_cast<double>(requests));
}
