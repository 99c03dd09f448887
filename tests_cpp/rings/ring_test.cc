#include "rings/ring_host.h"

#include <gtest/gtest.h>

namespace llm_proxy {
namespace {

TEST(Ring, has_a_name_that_leads_back_to_it) {
  for (Ring ring : kRings) EXPECT_EQ(ring_named(name(ring)), ring) << name(ring);
  EXPECT_EQ(ring_named("preflight"), std::nullopt);
  EXPECT_EQ(ring_named(""), std::nullopt);
}

TEST(RingSet, says_which_phases_of_an_exchange_meet_a_plugin) {
  struct Case {
    RingSet rings;
    bool request, reply, background;
  };
  const Case cases[] = {
      {{}, false, false, false},
      {{Ring::ingress}, true, false, false},
      {{Ring::pre_flight}, true, false, false},
      {{Ring::routing}, true, false, false},
      {{Ring::post_flight}, false, true, false},
      {{Ring::background}, false, false, true},
      {{Ring::routing, Ring::background}, true, false, true},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(c.rings.request(), c.request);
    EXPECT_EQ(c.rings.reply(), c.reply);
    EXPECT_EQ(c.rings.background(), c.background);
    EXPECT_EQ(c.rings.empty(), !(c.request || c.reply || c.background));
  }
}

}  // namespace
}  // namespace llm_proxy
