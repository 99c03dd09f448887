#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/error.h"

namespace llm_proxy {

// How long one key has to rest, as a whole and for single models.
//
// A plain value on the caller's clock; its owner guards it. At most kMaxModels models are
// remembered: beyond, the one that would be free first is forgotten.
class CoolDowns {
 public:
  static constexpr std::size_t kMaxModels = 16;

  struct Rest {
    TimePoint until;
    ErrorKind why = ErrorKind::rate_limited;
  };
  struct ModelRest {
    std::string model;
    Rest rest;
  };

  // `model` empty: the whole key. A later end replaces an earlier one, never the other way. True if
  // it was free until now.
  bool start(std::string_view model, Rest rest, TimePoint now) {
    if (model.empty()) {
      const bool was_free = !whole_ || whole_->until <= now;
      if (!whole_ || whole_->until < rest.until) whole_ = rest;
      return was_free;
    }
    std::erase_if(models_, [now](const ModelRest& entry) { return entry.rest.until <= now; });
    const auto known =
        std::find_if(models_.begin(), models_.end(),
                     [model](const ModelRest& entry) { return entry.model == model; });
    if (known != models_.end()) {
      if (known->rest.until < rest.until) known->rest = rest;
      return false;
    }
    if (models_.size() == kMaxModels) {
      models_.erase(std::min_element(
          models_.begin(), models_.end(),
          [](const ModelRest& a, const ModelRest& b) { return a.rest.until < b.rest.until; }));
    }
    models_.push_back({std::string(model), rest});
    return true;
  }

  // Forgets the rests of this model, and of the key as a whole, that are over. True if there were
  // any.
  bool forget_ended(std::string_view model, TimePoint now) {
    const bool whole = whole_ && whole_->until <= now;
    if (whole) whole_.reset();
    return std::erase_if(models_,
                         [&](const ModelRest& entry) {
                           return entry.model == model && entry.rest.until <= now;
                         }) > 0 ||
           whole;
  }

  // Nothing: free for this model.
  std::optional<Rest> rest(std::string_view model, TimePoint now) const {
    std::optional<Rest> out;
    if (whole_ && whole_->until > now) out = whole_;
    for (const auto& entry : models_) {
      if (entry.model == model && entry.rest.until > now &&
          (!out || out->until < entry.rest.until)) {
        out = entry.rest;
      }
    }
    return out;
  }

  // It has just worked: what refused it takes it again. A limit stays: others may still run into
  // it. True if a refusal ended.
  bool end_refusals(std::string_view model) {
    const auto refusal = [](const Rest& rest) { return rest.why != ErrorKind::rate_limited; };
    const bool whole = whole_ && refusal(*whole_);
    if (whole) whole_.reset();
    return std::erase_if(models_,
                         [&](const ModelRest& entry) {
                           return entry.model == model && refusal(entry.rest);
                         }) > 0 ||
           whole;
  }

  bool empty() const { return !whole_ && models_.empty(); }
  const std::optional<Rest>& whole() const { return whole_; }
  const std::vector<ModelRest>& models() const { return models_; }

 private:
  std::optional<Rest> whole_;
  std::vector<ModelRest> models_;
};

}  // namespace llm_proxy
