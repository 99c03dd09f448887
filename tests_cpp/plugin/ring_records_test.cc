#include "plugin/ring_records.h"

#include <gtest/gtest.h>

#include <string>

namespace llm_proxy {
namespace {

void tell(RingTimes& times, const std::shared_ptr<RingTrace>& trace, std::size_t count) {
  const auto name = std::make_shared<const std::string>("plugin");
  std::vector<RingTrace::Step> steps(count, RingTrace::Step{Ring::ingress, name, 1});
  times.began(trace);
  times.took(*trace, steps);
  EXPECT_TRUE(steps.empty());
}

TEST(RingTimes, keeps_the_last_traces_and_never_writes_into_one_that_somebody_holds) {
  RingTimes times;
  const auto held = times.fresh();
  held->request_id = "held";
  held->total_ms = 7;
  tell(times, held, 2);
  for (std::size_t n = 0; n < 3 * RingTimes::kTraces; ++n) {
    const auto trace = times.fresh();
    ASSERT_TRUE(trace->steps.empty());
    ASSERT_EQ(trace->total_ms.load(), -1);
    ASSERT_EQ(trace->upstream_ms.load(), -1);
    ASSERT_EQ(trace->first_token_ms.load(), -1);
    trace->request_id = std::to_string(n);
    trace->total_ms = trace->upstream_ms = trace->first_token_ms = 1;
    tell(times, trace, 3);
  }
  EXPECT_EQ(held->request_id, "held");
  EXPECT_EQ(held->total_ms.load(), 7);
  EXPECT_EQ(held->steps.size(), 2u);
  const auto kept = times.traces();
  ASSERT_EQ(kept.size(), RingTimes::kTraces);
  EXPECT_EQ(kept.front().trace->request_id, "200");
  EXPECT_EQ(kept.back().trace->request_id, "299");
  for (const auto& shown : kept) EXPECT_EQ(shown.steps.size(), 3u);
  EXPECT_EQ(times.window(Ring::ingress).size(), 301u);
}

}  // namespace
}  // namespace llm_proxy
