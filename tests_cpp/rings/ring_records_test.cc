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

}  // namespace
}  // namespace llm_proxy
