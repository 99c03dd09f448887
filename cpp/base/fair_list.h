#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace llm_proxy {

// What many owners keep in one bounded place, each owner's in order of age. Whoever fills the place
// makes room for it with what is its own: crowded() names an entry of the owner that has the most,
// so that an owner with less than its fair share never loses anything to another.
//
// Not thread safe; the store around it locks. Costs one list node an entry and one map node an
// owner. An owner without entries is forgotten.
template <typename Value>
class FairList {
 public:
  struct Owner;
  struct Node {
    Owner* owner;
    std::size_t bytes;
    std::uint64_t age;  // a number that grows with each entry that is added or renewed
    Value value;
  };
  using Nodes = std::list<Node>;
  using Place = typename Nodes::iterator;
  struct Owner {
    std::string name;
    Nodes nodes;  // oldest first, never empty
    std::size_t bytes = 0;
  };

  // Adds `value` as its owner's newest.
  Place add(std::string_view owner, Value value, std::size_t bytes) {
    auto& its = owners_.try_emplace(std::string(owner)).first->second;
    if (its.nodes.empty()) its.name = owner;
    its.nodes.push_back({&its, bytes, ++newest_, std::move(value)});
    its.bytes += bytes;
    bytes_ += bytes;
    ++size_;
    return std::prev(its.nodes.end());
  }
  // Makes the entry its owner's newest.
  void renew(Place place) {
    auto& nodes = place->owner->nodes;
    nodes.splice(nodes.end(), nodes, place);
    place->age = ++newest_;
  }
  void erase(Place place) {
    auto& its = *place->owner;
    its.bytes -= place->bytes;
    bytes_ -= place->bytes;
    --size_;
    its.nodes.erase(place);
    if (its.nodes.empty()) owners_.erase(std::string(std::move(its.name)));
  }

  bool empty() const { return size_ == 0; }
  std::size_t size() const { return size_; }
  std::size_t owners() const { return owners_.size(); }
  std::size_t bytes() const { return bytes_; }

  // The oldest entry of the owner that weighs most; of several such owners, the oldest of all.
  // `weigh(const Owner&)` gives a number. Only while not empty. Takes time for each owner.
  template <typename Weigh>
  Place crowded(Weigh weigh) {
    auto heaviest = owners_.begin();
    auto most = weigh(heaviest->second);
    for (auto each = std::next(heaviest); each != owners_.end(); ++each) {
      const auto weight = weigh(each->second);
      const bool older = each->second.nodes.front().age < heaviest->second.nodes.front().age;
      if (most < weight || (most == weight && older)) {
        most = weight;
        heaviest = each;
      }
    }
    return heaviest->second.nodes.begin();
  }

  // Calls `old(place)` for each owner's oldest entries as long as it returns true; it has erased
  // the entry then.
  template <typename Old>
  void sweep(Old old) {
    for (auto each = owners_.begin(); each != owners_.end();) {
      // The last entry takes its owner with it.
      auto& its = (each++)->second;
      for (auto left = its.nodes.size(); left > 0 && old(its.nodes.begin()); --left) {
      }
    }
  }

 private:
  std::unordered_map<std::string, Owner> owners_;
  std::size_t size_ = 0;
  std::size_t bytes_ = 0;
  std::uint64_t newest_ = 0;
};

inline constexpr std::size_t kWholeShare = 1'000'000;

// How much of a place with two bounds an owner has: the larger of its two shares, in
// millionths.
inline std::size_t share_of(std::size_t entries, std::size_t most_entries, std::size_t bytes,
                            std::size_t most_bytes) {
  const auto part = [](std::size_t has, std::size_t most) {
    return most == 0 ? has
                     : static_cast<std::size_t>(static_cast<double>(has) *
                                                static_cast<double>(kWholeShare) /
                                                static_cast<double>(most));
  };
  return std::max(part(entries, most_entries), part(bytes, most_bytes));
}

}  // namespace llm_proxy
