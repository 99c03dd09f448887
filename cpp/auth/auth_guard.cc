#include "auth/auth_guard.h"

#include <algorithm>
#include <boost/asio/ip/address.hpp>
#include <functional>

namespace llm_proxy {
namespace ip = boost::asio::ip;

std::string AuthGuard::network_of(std::string_view peer) {
  boost::system::error_code failed;
  const auto address = ip::make_address(peer, failed);
  if (failed || !address.is_v6()) return std::string(peer);
  const auto v6 = address.to_v6();
  if (v6.is_v4_mapped()) return ip::make_address_v4(ip::v4_mapped, v6).to_string();
  auto bytes = v6.to_bytes();
  std::fill(bytes.begin() + 8, bytes.end(), std::uint8_t{0});
  return ip::address_v6(bytes).to_string();
}

std::chrono::milliseconds AuthGuard::blocked_for(std::string_view peer, TimePoint now) const {
  if (now.time_since_epoch().count() >= none_blocked_after_.load(std::memory_order_relaxed)) {
    return {};
  }
  const std::string network = network_of(peer);
  const std::lock_guard lock(mutex_);
  const auto found = by_network_.find(network);
  if (found == by_network_.end() || found->second->blocked_until <= now) return {};
  return std::chrono::ceil<std::chrono::milliseconds>(found->second->blocked_until - now);
}

std::atomic<std::uint64_t>& AuthGuard::proof_of(std::string_view peer, std::string_view key,
                                                std::uint64_t& value) const {
  const std::hash<std::string_view> hash;
  value = (hash(peer) * 0x9e3779b97f4a7c15u) ^ hash(key);
  value |= 1;  // zero is an empty slot
  return proven_[(value >> 1) % proven_.size()];
}

AuthGuard::Guesser* AuthGuard::blocked(std::string_view network, TimePoint now) {
  const auto found = by_network_.find(network);
  if (found == by_network_.end() || found->second->blocked_until <= now) return nullptr;
  return &*found->second;
}

bool AuthGuard::admits(std::string_view peer, std::string_view key, TimePoint now) {
  if (key.size() >= kUnguessable) return true;
  std::uint64_t value = 0;
  auto& proof = proof_of(peer, key, value);
  if (proof.load(std::memory_order_relaxed) == value) return true;
  if (now.time_since_epoch().count() < none_blocked_after_.load(std::memory_order_relaxed)) {
    const std::string network = network_of(peer);
    const std::lock_guard lock(mutex_);
    if (Guesser* const guesser = blocked(network, now)) {
      if (guesser->tries_left == 0) return false;
      --guesser->tries_left;
    }
  }
  proof.store(value, std::memory_order_relaxed);
  return true;
}

void AuthGuard::tried_while_blocked(std::string_view peer, TimePoint now) {
  const std::string network = network_of(peer);
  const std::lock_guard lock(mutex_);
  Guesser* const guesser = blocked(network, now);
  if (guesser != nullptr && guesser->tries_left > 0) --guesser->tries_left;
}

void AuthGuard::failed(std::string_view peer, std::string_view key, const Limits& limits,
                       TimePoint now) {
  if (!limits.enabled || key.empty()) return;
  std::string network = network_of(peer);
  const std::lock_guard lock(mutex_);
  auto found = by_network_.find(network);
  if (found != by_network_.end() && now - found->second->last > limits.ttl_seconds &&
      now >= found->second->blocked_until) {
    guessers_.erase(found->second);
    by_network_.erase(found);
    found = by_network_.end();
  }
  if (found == by_network_.end()) {
    if (guessers_.size() == kAddresses) {
      by_network_.erase(guessers_.front().network);
      guessers_.pop_front();
    }
    const auto added =
        guessers_.insert(guessers_.end(), Guesser{std::move(network), {}, 0, {}, {}, {}});
    found = by_network_.emplace(added->network, added).first;
  }
  Guesser& guesser = *found->second;
  guessers_.splice(guessers_.end(), guessers_, found->second);
  guesser.last = now;
  const std::size_t hash = std::hash<std::string_view>()(key);
  if (std::find(guesser.keys.begin(), guesser.keys.end(), hash) != guesser.keys.end()) return;
  guesser.keys.push_back(hash);
  const bool blocked_before = guesser.next_block.count() > 0;
  if (!blocked_before && guesser.keys.size() < limits.max_failed_attempts) return;
  const std::chrono::duration<double> longest = limits.max_block_seconds;
  const auto block =
      std::min(blocked_before ? guesser.next_block
                              : std::chrono::duration<double>(limits.initial_block_seconds),
               longest);
  guesser.keys.assign(1, hash);  // a client that goes on with its one wrong key is none to block
  guesser.next_block = std::min(block * limits.block_multiplier, longest);
  guesser.tries_left = kTriesWhileBlocked;
  guesser.blocked_until = now + std::chrono::duration_cast<std::chrono::milliseconds>(block);
  const auto until = guesser.blocked_until.time_since_epoch().count();
  if (until > none_blocked_after_.load(std::memory_order_relaxed)) {
    none_blocked_after_.store(until, std::memory_order_relaxed);
  }
}

}  // namespace llm_proxy
