#include "upstream/attempts.h"

#include <algorithm>
#include <string>
#include <utility>

namespace llm_proxy {
namespace {

using std::chrono::milliseconds;

// A Retry-After of nothing is no leave to hammer; one of a year is no reason to forget a key.
constexpr milliseconds kShortestRest{250};
constexpr milliseconds kLongestKeyRest = std::chrono::hours(24);
constexpr milliseconds kLongestInstanceRest = std::chrono::minutes(10);

}  // namespace

Attempts::Step Attempts::next(TimePoint now) {
  if (over_ || total_ >= kMostAttempts ||
      (total_ > 0 && now - began_ > policy_.total_timeout_budget)) {
    return {};
  }
  std::optional<TimePoint> soonest;
  for (std::size_t i = 0; i < legs_.size(); ++i) {
    auto& state = legs_[i];
    if (state.done) continue;
    if (state.back_off > now) return wait(state.back_off);
    const auto pick = state.leg.pool->pick(state.leg.model, now, state.leg.sticky);
    if (pick.ready) return ask(i, pick);
    if (state.key_again > now) return wait(state.key_again);
    if (pick.strict && (!soonest || pick.until < *soonest)) soonest = pick.until;
  }
  if (!policy_.enabled && total_ > 0) return {};
  if (soonest && waits_ < kMostWaits && *soonest - now <= policy_.max_silent_wait) {
    ++waits_;
    return wait(*soonest + jitter(policy_.min_retry_wait));
  }
  return last_resort(now, soonest.has_value()).value_or(Step());
}

std::optional<Attempts::Step> Attempts::last_resort(TimePoint now, bool limited) {
  for (std::size_t i = 0; i < legs_.size(); ++i) {
    auto& state = legs_[i];
    if (state.done || state.asked) continue;
    // A refused key would only hide that the others are limited.
    const auto seen = state.leg.pool->look(state.leg.model, now);
    if (limited && seen.why != ErrorKind::unavailable) continue;
    const auto pick = state.leg.pool->last_resort(state.leg.model, now);
    if (!pick.ready) continue;
    auto step = ask(i, pick);
    state.failures = policy_.max_attempts;  // one attempt, whatever comes
    return step;
  }
  return std::nullopt;
}

Attempts::Step Attempts::ask(std::size_t leg, KeyPool::Pick pick) {
  current_ = leg;
  pick_ = pick;
  under_way_ = true;
  legs_[leg].asked = true;
  ++total_;
  return {Step::What::ask, leg, pick.key, {}};
}

void Attempts::answered() {
  if (!std::exchange(under_way_, false)) return;
  const auto& leg = legs_[current_].leg;
  leg.pool->answered(pick_, leg.model);
}

void Attempts::abandoned() {
  if (std::exchange(under_way_, false)) legs_[current_].leg.pool->abandoned(pick_);
}

void Attempts::broke(TimePoint now) {
  legs_[current_].leg.pool->instance_failed({}, std::nullopt, now);
}

void Attempts::failed(const Error& error, TimePoint now) {
  under_way_ = false;
  last_error_ = error;
  auto& state = legs_[current_];
  const auto& leg = state.leg;
  if (!policy_.enabled) {  // the client sees to it: nobody rests, nothing is tried again
    leg.pool->abandoned(pick_);
    over_ = true;
    return;
  }
  const auto rule = rule_of(error);

  milliseconds rest = error.retry_after.value_or(rule.cool_down);
  const bool named = error.retry_after.has_value();
  switch (rule.scope) {
    case FaultScope::nobody:
      leg.pool->answered(pick_, leg.model);
      break;
    case FaultScope::key:
      rest = std::clamp(rest, kShortestRest, kLongestKeyRest);
      if (leg.personal) {
        leg.pool->answered(pick_, leg.model);
      } else {
        leg.pool->key_failed(pick_, blames_model(error, leg.model) ? leg.model : std::string_view(),
                             now + rest, rule.kind, now);
      }
      break;
    case FaultScope::instance:
      rest = std::clamp(rest, kShortestRest, kLongestInstanceRest);
      leg.pool->instance_failed(pick_, named ? std::optional<TimePoint>(now + rest) : std::nullopt,
                                now);
      break;
  }

  switch (rule.step) {
    case NextStep::surface:
      over_ = true;
      return;
    case NextStep::next_leg:
      state.done = true;
      return;
    case NextStep::another_key:
      if (leg.personal) {
        state.done = true;
      } else if (named && rest <= kShortWait) {
        state.done = ++state.failures >= policy_.max_attempts;
        state.key_again = now + rest + jitter(policy_.min_retry_wait);
      }
      return;
    case NextStep::retry:
      state.done = ++state.failures >= policy_.max_attempts;
      if (named) {
        if (rest <= kShortWait) state.back_off = now + rest + jitter(policy_.min_retry_wait);
      } else {
        const auto longest = policy_.min_retry_wait * (1 << std::min(state.failures - 1, 4));
        state.back_off = now + longest / 2 + jitter(longest / 2);
      }
      return;
  }
}

Error Attempts::refusal(TimePoint now) const {
  std::optional<KeyPool::Pick> soonest;
  for (const auto& state : legs_) {
    const auto seen = state.leg.pool->look(state.leg.model, now);
    if (!seen.ready && seen.strict && (!soonest || seen.until < soonest->until)) soonest = seen;
  }
  const auto after = [&]() -> std::optional<milliseconds> {
    if (!soonest) return std::nullopt;
    return std::max(milliseconds(0), std::chrono::ceil<milliseconds>(soonest->until - now));
  };
  if (last_error_) {
    Error out = *last_error_;
    const bool passing = out.kind == ErrorKind::rate_limited ||
                         out.kind == ErrorKind::unavailable || out.kind == ErrorKind::overloaded;
    if (passing && soonest) out.retry_after = after();
    return out;
  }
  if (!soonest) return {ErrorKind::unavailable, "no backend of this route can be asked now"};
  const bool limited = soonest->why == ErrorKind::rate_limited;
  Error out{soonest->why,
            (limited ? "all keys for this model are rate limited; the soonest is free in "
                     : "the provider asked to be left alone for ") +
                std::to_string((after()->count() + 999) / 1000) + " s"};
  out.retry_after = after();
  return out;
}

milliseconds Attempts::jitter(milliseconds most) {
  random_ = random_ * 1664525u + 1013904223u;
  return milliseconds((random_ >> 8) % static_cast<std::uint32_t>(most.count() + 1));
}

}  // namespace llm_proxy
