#include "rings/ring.h"

namespace llm_proxy {
namespace {

constexpr std::array<std::string_view, kRings.size()> kNames{"ingress", "pre_flight", "routing",
                                                             "post_flight", "background"};

}  // namespace

std::string_view name(Ring ring) {
  return kNames[static_cast<std::size_t>(ring)];
}

std::optional<Ring> ring_named(std::string_view name) {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name) return kRings[i];
  }
  return std::nullopt;
}

}  // namespace llm_proxy
