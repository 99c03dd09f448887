#include "base/fair_list.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace llm_proxy {
namespace {

using List = FairList<int>;

std::size_t count(const List::Owner& owner) {
  return owner.nodes.size();
}

TEST(FairList, names_the_oldest_entry_of_the_owner_that_has_the_most) {
  List list;
  list.add("ann", 1, 10);
  list.add("bob", 2, 10);
  list.add("bob", 3, 10);
  EXPECT_EQ(list.crowded(count)->value, 2);
  const auto by_bytes = [](const List::Owner& owner) { return owner.bytes; };
  list.add("ann", 4, 100);
  EXPECT_EQ(list.crowded(by_bytes)->value, 1);
}

TEST(FairList, takes_the_oldest_of_all_where_nobody_has_more_than_another) {
  List list;
  const auto first = list.add("ann", 1, 1);
  list.add("bob", 2, 1);
  list.add("cid", 3, 1);
  EXPECT_EQ(list.crowded(count)->value, 1);
  list.renew(first);
  EXPECT_EQ(list.crowded(count)->value, 2);
}

TEST(FairList, what_is_renewed_is_its_owners_newest) {
  List list;
  const auto first = list.add("ann", 1, 1);
  list.add("ann", 2, 1);
  list.renew(first);
  EXPECT_EQ(list.crowded(count)->value, 2);
}

TEST(FairList, forgets_an_owner_with_its_last_entry) {
  List list;
  const auto only = list.add("ann", 1, 7);
  list.erase(only);
  EXPECT_TRUE(list.empty());
  EXPECT_EQ(list.bytes(), 0u);
  list.add("ann", 2, 5);
  EXPECT_EQ(list.bytes(), 5u);
  EXPECT_EQ(list.crowded(count)->owner->name, "ann");
}

TEST(FairList, sweeps_each_owners_oldest_and_stops_at_the_first_that_stays) {
  List list;
  for (int value = 0; value < 9; ++value) list.add(std::to_string(value % 3), value, 1);
  list.sweep([&](List::Place place) {
    if (place->value > 4) return false;
    list.erase(place);
    return true;
  });
  EXPECT_EQ(list.size(), 4u);  // 5, 6, 7, 8
  list.sweep([&](List::Place place) {
    list.erase(place);
    return true;
  });
  EXPECT_TRUE(list.empty());
}

// However many entries the others bring, nobody with less than a fair share loses one.
TEST(FairList, an_owner_below_its_fair_share_loses_nothing) {
  constexpr std::size_t kRoom = 60;
  List list;
  std::vector<int> lost(4);
  for (int quiet = 0; quiet < 3; ++quiet) {
    for (int value = 0; value < 14; ++value) list.add(std::to_string(quiet), value, 1);
  }
  for (int value = 0; value < 10'000; ++value) {
    list.add("3", value, 1);
    while (list.size() > kRoom) {
      const auto place = list.crowded(count);
      ++lost[static_cast<std::size_t>(place->owner->name[0] - '0')];
      list.erase(place);
    }
  }
  EXPECT_EQ(lost, (std::vector<int>{0, 0, 0, 10'000 - 18}));
}

TEST(FairList, a_share_is_the_larger_one_of_entries_and_bytes) {
  EXPECT_LT(share_of(1, 10, 10, 100), share_of(2, 10, 10, 100));
  EXPECT_LT(share_of(2, 10, 10, 100), share_of(1, 10, 30, 100));
  EXPECT_GT(share_of(1, 0, 0, 100), 0u);
}

}  // namespace
}  // namespace llm_proxy
