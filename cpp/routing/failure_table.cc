#include "routing/failure_table.h"

#include <algorithm>
#include <array>
#include <string>

namespace llm_proxy {
namespace {

using std::chrono::seconds;

constexpr seconds kRefused{300};
constexpr seconds kLimited{60};

// In the order of the enum, so that a kind is its own index.
constexpr std::array kRows{
    FailureRule{ErrorKind::malformed_request, FaultScope::nobody, NextStep::surface},
    FailureRule{ErrorKind::unsupported, FaultScope::nobody, NextStep::surface},
    FailureRule{ErrorKind::unauthenticated, FaultScope::key, NextStep::another_key, kRefused},
    FailureRule{ErrorKind::payment_required, FaultScope::key, NextStep::another_key, kRefused},
    FailureRule{ErrorKind::forbidden, FaultScope::key, NextStep::another_key, kRefused},
    FailureRule{ErrorKind::not_found, FaultScope::nobody, NextStep::next_leg},
    FailureRule{ErrorKind::unknown_model, FaultScope::nobody, NextStep::next_leg},
    FailureRule{ErrorKind::method_not_allowed, FaultScope::nobody, NextStep::next_leg},
    FailureRule{ErrorKind::client_timeout, FaultScope::instance, NextStep::retry},
    FailureRule{ErrorKind::body_too_large, FaultScope::nobody, NextStep::surface},
    FailureRule{ErrorKind::unprocessable, FaultScope::nobody, NextStep::surface},
    FailureRule{ErrorKind::upgrade_required, FaultScope::nobody, NextStep::next_leg},
    FailureRule{ErrorKind::rate_limited, FaultScope::key, NextStep::another_key, kLimited},
    FailureRule{ErrorKind::head_too_large, FaultScope::nobody, NextStep::surface},
    FailureRule{ErrorKind::cancelled, FaultScope::nobody, NextStep::surface},
    FailureRule{ErrorKind::internal, FaultScope::instance, NextStep::retry},
    FailureRule{ErrorKind::upstream_garbled, FaultScope::instance, NextStep::retry},
    FailureRule{ErrorKind::upstream_cut, FaultScope::instance, NextStep::retry},
    // What it was asked for may be to blame: nobody rests, and the same one is not asked again.
    FailureRule{ErrorKind::upstream_too_large, FaultScope::nobody, NextStep::next_leg},
    FailureRule{ErrorKind::upstream_unreachable, FaultScope::instance, NextStep::retry},
    FailureRule{ErrorKind::unavailable, FaultScope::instance, NextStep::retry},
    FailureRule{ErrorKind::short_of_memory, FaultScope::nobody, NextStep::surface},
    // Silence has already cost the client its whole time limit: one attempt.
    FailureRule{ErrorKind::upstream_timeout, FaultScope::instance, NextStep::next_leg},
    FailureRule{ErrorKind::overloaded, FaultScope::instance, NextStep::retry},
};

const FailureRule& row(ErrorKind kind) {
  return kRows[static_cast<std::size_t>(kind)];
}

constexpr bool rows_match_enum() {
  for (std::size_t i = 0; i < kRows.size(); ++i) {
    if (static_cast<std::size_t>(kRows[i].kind) != i) return false;
  }
  return kRows.size() == static_cast<std::size_t>(ErrorKind::overloaded) + 1;
}
static_assert(rows_match_enum());

// What providers write about a prompt that does not fit.
constexpr std::array<std::string_view, 9> kOverflowWords{
    "context length",
    "context_length",
    "context window",
    "context size",
    "prompt is too long",
    "prompt too long",
    "too many tokens",
    "maximum number of tokens allowed",
    "reduce the length of the messages",
};

// What providers write where they count by account and not by model.
constexpr std::array<std::string_view, 9> kAccountWords{
    "account", "organization", "workspace", "api key",   "this key",
    "api-key", "billing",      "credit",    "your plan",
};

std::string folded(std::string_view text) {
  std::string out(text);
  for (auto& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

}  // namespace

bool is_context_overflow(const Error& error) {
  if (error.kind != ErrorKind::malformed_request && error.kind != ErrorKind::body_too_large &&
      error.kind != ErrorKind::unprocessable) {
    return false;
  }
  if (error.code == "context_length_exceeded") return true;
  const auto message = folded(error.message);
  return std::any_of(kOverflowWords.begin(), kOverflowWords.end(), [&](std::string_view words) {
    return message.find(words) != std::string::npos;
  });
}

FailureRule rule_of(const Error& error) {
  if (is_context_overflow(error)) return {error.kind, FaultScope::nobody, NextStep::next_leg};
  // A mistake in a plugin's own code: no other attempt would go better, and no provider is to
  // blame.
  if (error.kind == ErrorKind::internal && error.code == kBackendBug) {
    return {error.kind, FaultScope::nobody, NextStep::surface};
  }
  if (error.kind == ErrorKind::rate_limited && error.code == "insufficient_quota") {
    return row(ErrorKind::payment_required);
  }
  return row(error.kind);
}

bool blames_model(const Error& error, std::string_view model) {
  if (error.kind != ErrorKind::rate_limited && error.kind != ErrorKind::forbidden) return false;
  const auto message = folded(error.message);
  const auto says = [&](std::string_view words) {
    return message.find(words) != std::string::npos;
  };
  if (says("model") || (!model.empty() && says(folded(model)))) return true;
  // Providers count by model, unless they say otherwise; who may not do something may do nothing.
  return error.kind == ErrorKind::rate_limited && error.code != "insufficient_quota" &&
         std::none_of(kAccountWords.begin(), kAccountWords.end(), says);
}

}  // namespace llm_proxy
