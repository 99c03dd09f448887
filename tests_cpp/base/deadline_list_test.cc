#include "base/deadline_list.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>

namespace llm_proxy {
namespace {

using std::chrono::milliseconds;

struct Deadlines : testing::Test {
  VirtualClock clock;
  int started = 0;
  std::string expired;
  DeadlineSet set{clock, [this] { ++started; }};
  DeadlineList& short_list = set.list(milliseconds(100));
  DeadlineList& long_list = set.list(milliseconds(1000));
};

TEST_F(Deadlines, expire_oldest_first_and_not_before_their_time) {
  Deadline a([this] { expired += 'a'; });
  Deadline b([this] { expired += 'b'; });
  short_list.arm(a);
  clock.advance(milliseconds(60));
  short_list.arm(b);
  clock.advance(milliseconds(39));
  set.expire();
  EXPECT_EQ(expired, "");
  clock.advance(milliseconds(1));
  set.expire();
  EXPECT_EQ(expired, "a");
  clock.advance(milliseconds(60));
  set.expire();
  EXPECT_EQ(expired, "ab");
}

TEST_F(Deadlines, begin_anew_when_they_are_touched) {
  Deadline a([this] { expired += 'a'; });
  Deadline b([this] { expired += 'b'; });
  short_list.arm(a);
  short_list.arm(b);
  clock.advance(milliseconds(90));
  short_list.arm(a);
  clock.advance(milliseconds(20));
  set.expire();
  EXPECT_EQ(expired, "b");
  EXPECT_TRUE(a.armed());
}

TEST_F(Deadlines, are_in_one_list_at_a_time) {
  Deadline a([this] { expired += 'a'; });
  short_list.arm(a);
  long_list.arm(a);
  clock.advance(milliseconds(500));
  set.expire();
  EXPECT_EQ(expired, "");
  clock.advance(milliseconds(500));
  set.expire();
  EXPECT_EQ(expired, "a");
}

TEST_F(Deadlines, ask_for_a_ticker_only_while_one_is_armed) {
  EXPECT_EQ(started, 0);
  {
    Deadline a([] {});
    Deadline b([] {});
    short_list.arm(a);
    long_list.arm(b);
    EXPECT_EQ(started, 1);
    EXPECT_FALSE(set.empty());
  }
  EXPECT_TRUE(set.empty()) << "a destroyed deadline stays armed";
}

TEST_F(Deadlines, may_be_armed_again_or_destroyed_by_their_own_expiry) {
  std::optional<Deadline> once;
  Deadline again([&] {
    expired += 'r';
    short_list.arm(again);
  });
  once.emplace([&] {
    expired += 'o';
    once.reset();
  });
  short_list.arm(*once);
  short_list.arm(again);
  clock.advance(milliseconds(100));
  set.expire();
  EXPECT_EQ(expired, "or");
  clock.advance(milliseconds(100));
  set.expire();
  EXPECT_EQ(expired, "orr");
}

TEST_F(Deadlines, of_equal_duration_share_a_list) {
  EXPECT_EQ(&set.list(milliseconds(100)), &short_list);
  EXPECT_NE(&set.list(milliseconds(101)), &short_list);
}

}  // namespace
}  // namespace llm_proxy
