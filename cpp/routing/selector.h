#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "routing/call_params.h"

namespace llm_proxy {

// How the legs of a selector stand to each other.
enum class Composition : std::uint8_t {
  single,
  failover,  // a|b: in this order
  weighted,  // a^b: one by chance, the others if it fails
  race,      // a!b: all at once, the first output wins
};

// What keeps a request to the same leg, instance and key as the ones before it, as long as they
// serve: what providers have cached is found again.
enum class Affinity : std::uint8_t { none, session, client };

// One leg: "[weight=2]openai:gpt-4.1?temperature=0.2".
struct SelectorLeg {
  std::string_view target;  // "openai:gpt-4.1": of the selector's text
  std::size_t position = 0;
  CallParams params;
  std::uint32_t weight = 1;
  bool first = false;                     // ^: takes a session's first request
  std::uint64_t max_context = 0;          // left out when the prompt has more tokens; 0: no limit
  std::chrono::milliseconds handicap{0};  // !: how much earlier than the others it starts
  std::chrono::milliseconds ttft_timeout{0};  // its stream's first output; 0: the route's
};

// What a client may write for a model:
//
//   selector    := [affinity] (leg | leg ("|" leg)+ | leg ("^" leg)+ | leg ("!" leg)+)
//   affinity    := "{affinity=" ("session" | "client") "}"
//   leg         := annotations [backend["." instance] ":"] model ["?" params]
//   annotations := ("[" key ["=" value] ("," key ["=" value])* "]")*
//   params      := key "=" value ("&" key "=" value)*     percent-decoded, the last one counts
//
// Which prefix is a backend only the route table knows: a leg's target is left as it stands.
struct Selector {
  static constexpr std::size_t kMaxSize = 2048;
  static constexpr std::size_t kMaxLegs = 16;

  Composition how = Composition::single;
  Affinity affinity = Affinity::none;
  std::vector<SelectorLeg> legs;
  std::vector<std::string> ignored;  // names of parameters nobody knows
};

// True when the text is one target and nothing else: no operator, annotation or parameter.
bool is_plain_selector(std::string_view text);

// An Error (malformed_request) has the reference's word as its code, and says at which character
// what is wrong and what would be valid. `text` outlives the result.
Result<Selector> parse_selector(std::string_view text);

}  // namespace llm_proxy
