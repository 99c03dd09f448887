#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string_view>

namespace llm_proxy {

// The five places where plugins see an exchange, in the order they run. The first three see the
// request and run as one chain; the fourth sees the reply; the fifth runs when the client has been
// served.
enum class Ring : std::uint8_t { ingress, pre_flight, routing, post_flight, background };

inline constexpr std::array kRings{Ring::ingress, Ring::pre_flight, Ring::routing,
                                   Ring::post_flight, Ring::background};

// "ingress", "pre_flight", ...: the spelling of manifests, logs and the admin API.
std::string_view name(Ring ring);
std::optional<Ring> ring_named(std::string_view name);

// Which rings hold at least one plugin. A byte: asking costs nothing on an io thread.
class RingSet {
 public:
  constexpr RingSet() = default;
  constexpr RingSet(std::initializer_list<Ring> rings) {
    for (Ring ring : rings) add(ring);
  }

  constexpr void add(Ring ring) { bits_ |= bit(ring); }
  constexpr bool has(Ring ring) const { return (bits_ & bit(ring)) != 0; }
  constexpr bool empty() const { return bits_ == 0; }
  // Any of the three that see the request.
  constexpr bool request() const {
    return (bits_ & (bit(Ring::ingress) | bit(Ring::pre_flight) | bit(Ring::routing))) != 0;
  }
  constexpr bool reply() const { return has(Ring::post_flight); }
  constexpr bool background() const { return has(Ring::background); }
  constexpr bool operator==(const RingSet&) const = default;

 private:
  static constexpr std::uint8_t bit(Ring ring) {
    return static_cast<std::uint8_t>(1u << static_cast<unsigned>(ring));
  }

  std::uint8_t bits_ = 0;
};

}  // namespace llm_proxy
