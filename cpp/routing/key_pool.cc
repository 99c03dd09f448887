#include "routing/key_pool.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "base/log.h"

namespace llm_proxy {
namespace {

std::chrono::milliseconds left(TimePoint until, TimePoint now) {
  return std::max(std::chrono::milliseconds(0),
                  std::chrono::ceil<std::chrono::milliseconds>(until - now));
}

}  // namespace

KeyPool::Pick KeyPool::choose(std::string_view model, TimePoint now,
                              std::optional<std::uint64_t> sticky) const {
  Pick out;
  const auto& instance = *instance_;
  if (instance.rests_until > now) {
    out.strict = true;
    out.until = instance.rests_until;
    return out;
  }
  if (!instance.breaker.allows(now)) {
    out.until = instance.breaker.until();
    return out;
  }
  const std::size_t count = keys_.size();
  // The lower half has chosen the instance.
  const std::size_t first = sticky                                      ? (*sticky >> 32) % count
                            : policy_ == Backend::KeyPolicy::fill_first ? 0
                                                                        : instance.turn % count;
  for (std::size_t i = 0; i < count; ++i) {
    const auto index = first + i < count ? first + i : first + i - count;
    const auto& key = *keys_[index];
    const auto rest = key.cool_downs.empty() ? std::nullopt : key.cool_downs.rest(model, now);
    if (!rest) {
      const bool better = !out.ready || key.last_limited < keys_[out.key]->last_limited;
      if (better) out.key = index;
      out.ready = true;
      if (sticky || policy_ != Backend::KeyPolicy::least_recently_limited) return out;
      continue;
    }
    if (out.ready) continue;
    // Not ready so far: a limit says more than a refusal, and the soonest counts.
    const bool limit = rest->why == ErrorKind::rate_limited;
    if (i == 0 || (limit && !out.strict) || (limit == out.strict && rest->until < out.until)) {
      out.strict = limit;
      out.until = rest->until;
      out.why = rest->why;
      out.key = index;
    }
  }
  return out;
}

std::string KeyPool::label(std::size_t key) const {
  return "backend " + instance_->name + ": key " + std::to_string(key + 1) + " of " +
         std::to_string(keys_.size());
}

KeyPool::Pick KeyPool::begin(Pick pick, std::string_view model, TimePoint now) {
  if (auto& rests = keys_[pick.key]->cool_downs; !rests.empty() && rests.forget_ended(model, now)) {
    log(LogLevel::warning, label(pick.key), " is asked again, its rest is over");
  }
  pick.ready = true;
  pick.probe = instance_->breaker.begin(now);
  if (policy_ != Backend::KeyPolicy::fill_first) instance_->turn = pick.key + 1;
  ++keys_[pick.key]->asked;
  return pick;
}

KeyPool::Pick KeyPool::pick(std::string_view model, TimePoint now,
                            std::optional<std::uint64_t> sticky) {
  const std::lock_guard lock(instance_->mutex);
  const auto chosen = choose(model, now, sticky);
  return chosen.ready ? begin(chosen, model, now) : chosen;
}

KeyPool::Pick KeyPool::look(std::string_view model, TimePoint now) const {
  const std::lock_guard lock(instance_->mutex);
  return choose(model, now, std::nullopt);
}

KeyPool::Pick KeyPool::last_resort(std::string_view model, TimePoint now) {
  const std::lock_guard lock(instance_->mutex);
  Pick out;
  if (instance_->rests_until > now) return out;
  TimePoint longest = TimePoint::max();
  for (std::size_t i = 0; i < keys_.size(); ++i) {
    const auto rest = keys_[i]->cool_downs.rest(model, now);
    if (rest && rest->why == ErrorKind::rate_limited) continue;
    const auto until = rest ? rest->until : TimePoint();
    if (until >= longest) continue;
    longest = until;
    out.key = i;
    out.ready = true;
  }
  return out.ready ? begin(out, model, now) : out;
}

void KeyPool::answered(const Pick& pick, std::string_view model) {
  const std::lock_guard lock(instance_->mutex);
  instance_->breaker.on_success();
  if (auto& rests = keys_[pick.key]->cool_downs; !rests.empty() && rests.end_refusals(model)) {
    log(LogLevel::warning, label(pick.key), " works again");
  }
}

void KeyPool::key_failed(const Pick& pick, std::string_view model, TimePoint until, ErrorKind why,
                         TimePoint now) {
  const std::lock_guard lock(instance_->mutex);
  instance_->breaker.on_success();  // it is there, and answers
  auto& key = *keys_[pick.key];
  ++key.failed;
  if (why == ErrorKind::rate_limited) key.last_limited = now;
  if (key.cool_downs.start(model, {until, why}, now) && until > now) {
    log(LogLevel::warning, label(pick.key), " rests for ",
        std::chrono::ceil<std::chrono::seconds>(until - now).count(), " s",
        model.empty() ? std::string() : " for model " + std::string(model.substr(0, 100)), ": ",
        name(why));
  }
}

void KeyPool::instance_failed(const Pick& pick, std::optional<TimePoint> rest_until,
                              TimePoint now) {
  const std::lock_guard lock(instance_->mutex);
  instance_->breaker.on_failure(now, pick.probe);
  if (rest_until) instance_->rests_until = std::max(instance_->rests_until, *rest_until);
  ++keys_[pick.key]->failed;
}

void KeyPool::abandoned(const Pick& pick) {
  const std::lock_guard lock(instance_->mutex);
  instance_->breaker.on_abandoned(pick.probe);
}

void KeyPool::reactivate() {
  const std::lock_guard lock(instance_->mutex);
  instance_->breaker = {};
  instance_->rests_until = {};
  for (const auto& key : keys_) key->cool_downs = {};
}

InstanceHealth KeyPool::health(TimePoint now) const {
  const std::lock_guard lock(instance_->mutex);
  InstanceHealth out;
  out.name = instance_->name;
  out.breaker = instance_->breaker.state();
  out.open_for = left(instance_->breaker.until(), now);
  out.rests_for = left(instance_->rests_until, now);
  for (const auto& key : keys_) {
    auto& shown = out.keys.emplace_back();
    shown.asked = key->asked;
    shown.failed = key->failed;
    if (const auto& whole = key->cool_downs.whole(); whole && whole->until > now) {
      shown.why = whole->why;
      shown.left = left(whole->until, now);
    }
    for (const auto& [model, rest] : key->cool_downs.models()) {
      if (rest.until > now) shown.models.push_back({model, rest.why, left(rest.until, now)});
    }
  }
  return out;
}

std::vector<std::shared_ptr<KeyPool>> Availability::pools(const std::vector<Backend>& backends,
                                                          const Breaker::Limits& breaker) {
  std::map<std::string, std::shared_ptr<KeyPool::Instance>> instances;
  std::vector<std::shared_ptr<KeyPool>> out;
  for (const auto& backend : backends) {
    auto& instance = instances[backend.name];
    if (instance != nullptr) {
      // The same server under a second format.
    } else if (const auto known = instances_.find(backend.name);
               known != instances_.end() && known->second->base_url == backend.base_url) {
      instance = known->second;
    } else {
      instance = std::make_shared<KeyPool::Instance>();
      instance->name = backend.name;
      instance->base_url = backend.base_url;
    }
    std::vector<std::shared_ptr<KeyPool::Key>> keys;
    const std::lock_guard lock(instance->mutex);
    instance->breaker.limit(breaker);
    const auto add = [&](std::string_view text) {
      const auto hash = std::hash<std::string_view>()(text);
      for (const auto& key : instance->keys) {
        if (key->hash == hash) return keys.push_back(key);
      }
      keys.push_back(std::make_shared<KeyPool::Key>());
      keys.back()->hash = hash;
    };
    for (const auto& key : backend.keys) add(key);
    if (keys.empty()) add({});
    instance->keys = keys;
    out.push_back(
        std::shared_ptr<KeyPool>(new KeyPool(instance, std::move(keys), backend.key_policy)));
  }
  instances_ = std::move(instances);
  return out;
}

}  // namespace llm_proxy
