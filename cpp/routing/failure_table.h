#pragma once

#include <chrono>
#include <cstdint>
#include <string_view>

#include "base/error.h"

namespace llm_proxy {

// Whose fault a failed attempt is: what has to rest before it is asked again.
enum class FaultScope : std::uint8_t {
  nobody,    // the request's own, or a model this upstream does not have
  key,       // this key's, or this key's for this model
  instance,  // the upstream's: counts against its breaker
};

// What the request does next, as long as nothing has reached the client.
enum class NextStep : std::uint8_t {
  surface,      // the client hears it: nobody else would do better
  another_key,  // the same leg, another key
  retry,        // the same leg, after a back-off
  next_leg,     // this leg has had its one attempt
};

struct FailureRule {
  ErrorKind kind;  // what the failure amounts to: an exhausted account comes as 429, too
  FaultScope scope;
  NextStep step;
  std::chrono::seconds cool_down{0};  // of the key, where the upstream names none
};

// The code of an `internal` error that is a mistake in a backend plugin's own code.
constexpr std::string_view kBackendBug = "backend_bug";

// The one place that says what a failure costs whom.
FailureRule rule_of(const Error& error);

// A 400 or 413 that says the prompt is too long for the model: another model may take it.
bool is_context_overflow(const Error& error);

// True when a key-scoped failure concerns the model only: the key's other models go on. A 429 does,
// unless it speaks of the account.
bool blames_model(const Error& error, std::string_view model);

// What the configuration says about failures.
struct FailurePolicy {
  bool enabled = true;                               // false: one attempt, and what it says
  int max_attempts = 3;                              // a leg
  int max_failover_hops = 5;                         // legs after the first
  std::chrono::milliseconds max_silent_wait{5'000};  // for a limited key, when nobody else is free
  std::chrono::milliseconds total_timeout_budget{90'000};  // after it no attempt begins
  std::chrono::milliseconds min_retry_wait{300};  // before a second attempt; then twice as long
};

}  // namespace llm_proxy
