#include "rings/ring_records.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace llm_proxy {
namespace {

TEST(RingTimes, keeps_the_last_traces_with_the_steps_of_every_chain) {
  RingTimes times;
  const auto name = std::make_shared<const std::string>("plugin");
  for (std::size_t n = 0; n < 3 * RingTimes::kTraces; ++n) {
    const auto trace = std::make_shared<RingTrace>();
    trace->request_id = std::to_string(n);
    times.began(trace);
    times.took(*trace, {{Ring::ingress, name, 1}, {Ring::ingress, name, 2}});
    times.took(*trace, {{Ring::post_flight, name, 4}});
  }
  const auto kept = times.traces();
  ASSERT_EQ(kept.size(), RingTimes::kTraces);
  EXPECT_EQ(kept.front().trace->request_id, "200");
  EXPECT_EQ(kept.back().trace->request_id, "299");
  for (const auto& shown : kept) EXPECT_EQ(shown.steps.size(), 3u);
  EXPECT_EQ(times.window(Ring::ingress), std::vector<float>(300, 3));
  EXPECT_EQ(times.window(Ring::post_flight), std::vector<float>(300, 4));
}

TEST(PluginRecord, rests_when_many_requests_of_several_clients_have_failed_in_a_row) {
  PluginRecord record;
  const auto now = std::chrono::steady_clock::now();
  for (std::uint64_t n = 0; n < PluginRecord::kQuarantineRequests; ++n) {
    EXPECT_FALSE(record.rests(now)) << n;
    record.failed(1, {.client = n % PluginRecord::kQuarantineClients, .request = n});
  }
  EXPECT_TRUE(record.rests(now));
  EXPECT_FALSE(record.rests(now + 2 * PluginRecord::kQuarantine));
  record.failed(1, {.client = 9, .request = 99});
  EXPECT_FALSE(record.rests(now + 2 * PluginRecord::kQuarantine));
}

TEST(PluginRecord, does_not_rest_for_the_failures_of_few_clients_or_of_few_requests) {
  PluginRecord of_two_clients, of_one_request, interrupted;
  const auto now = std::chrono::steady_clock::now();
  for (std::uint64_t n = 0; n < 1000; ++n) {
    of_two_clients.failed(1, {.client = n % 2, .request = n});
    of_one_request.failed(1, {.client = n, .request = n % 9});
    interrupted.failed(1, {.client = n, .request = n});
    if (n % 9 == 8) interrupted.ended(1);
  }
  EXPECT_FALSE(of_two_clients.rests(now));
  EXPECT_FALSE(of_one_request.rests(now));
  EXPECT_FALSE(interrupted.rests(now));
  EXPECT_EQ(of_two_clients.numbers().consecutive_errors, 1000u);
}

}  // namespace
}  // namespace llm_proxy
