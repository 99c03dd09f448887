#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "routing/backend.h"
#include "routing/breaker.h"
#include "routing/cool_downs.h"

namespace llm_proxy {

// What is known of one instance's health, for diagnostics. Keys by position, never by text.
struct InstanceHealth {
  struct Model {
    std::string model;
    ErrorKind why = ErrorKind::rate_limited;
    std::chrono::milliseconds left{0};
  };
  struct Key {
    std::uint64_t asked = 0;
    std::uint64_t failed = 0;
    std::optional<ErrorKind> why;  // set: the key rests
    std::chrono::milliseconds left{0};
    std::vector<Model> models;  // it rests for
  };
  std::string name;
  Breaker::State breaker = Breaker::State::closed;
  std::chrono::milliseconds open_for{0};
  std::chrono::milliseconds rests_for{0};  // by a Retry-After of its own
  std::vector<Key> keys;
};

// The keys of one instance and its breaker: says with which key a model may be asked now, and is
// told how it went.
//
// Part of a snapshot; what it knows is shared with the pools of earlier and later snapshots, by
// instance and key, so that a reload forgets nothing. Called on every worker: one short lock a
// call. An instance without keys of its own has one nameless key. The log says when a key begins to
// rest and when it is asked again.
class KeyPool {
 public:
  // May the model be asked? Who holds a ready one tells the pool how it went, exactly once.
  struct Pick {
    bool ready = false;
    bool probe = false;   // half-open breaker: this one finds out
    bool strict = false;  // not ready: the upstream named the time, nobody asks before it
    std::size_t key = 0;
    TimePoint until{};  // not ready: when it may be worth another look
    ErrorKind why = ErrorKind::unavailable;
  };

  // `sticky`: a number that stands for one key of them, as long as it serves.
  Pick pick(std::string_view model, TimePoint now,
            std::optional<std::uint64_t> sticky = std::nullopt);
  // Where nobody else can serve: an open breaker and a refused key are asked after all, a limited
  // key is not.
  Pick last_resort(std::string_view model, TimePoint now);
  // As pick(), but nothing begins.
  Pick look(std::string_view model, TimePoint now) const;

  // It answered, if only to say that the request is wrong.
  void answered(const Pick& pick, std::string_view model);
  // `model` empty: the key as a whole.
  void key_failed(const Pick& pick, std::string_view model, TimePoint until, ErrorKind why,
                  TimePoint now);
  // `rest_until`: the upstream's own Retry-After.
  void instance_failed(const Pick& pick, std::optional<TimePoint> rest_until, TimePoint now);
  // Nobody knows how it would have gone: the client left.
  void abandoned(const Pick& pick);

  // Forgets every cool-down and closes the breaker: the user knows better.
  void reactivate();
  InstanceHealth health(TimePoint now) const;
  std::size_t size() const { return keys_.size(); }

 private:
  friend class Availability;

  struct Key {
    std::uint64_t hash = 0;
    CoolDowns cool_downs;
    TimePoint last_limited{};
    std::uint64_t asked = 0;
    std::uint64_t failed = 0;
  };
  // What outlives a snapshot.
  struct Instance {
    std::string name;
    std::string base_url;
    mutable std::mutex mutex;
    Breaker breaker;
    TimePoint rests_until{};
    std::size_t turn = 0;
    std::vector<std::shared_ptr<Key>> keys;
  };

  KeyPool(std::shared_ptr<Instance> instance, std::vector<std::shared_ptr<Key>> keys,
          Backend::KeyPolicy policy)
      : instance_(std::move(instance)), keys_(std::move(keys)), policy_(policy) {}

  // With the lock held.
  Pick choose(std::string_view model, TimePoint now, std::optional<std::uint64_t> sticky) const;
  Pick begin(Pick pick, std::string_view model, TimePoint now);
  // "backend openai: key 2 of 3"
  std::string label(std::size_t key) const;

  std::shared_ptr<Instance> instance_;
  std::vector<std::shared_ptr<Key>> keys_;  // in the order of the configuration
  Backend::KeyPolicy policy_;
};

// The instances of all snapshots, by name. Owned by the snapshots; used where they are built, on
// one thread.
class Availability {
 public:
  // One pool a backend, in their order; what is known of an instance at the same address is kept,
  // key by key. What no backend has any more is forgotten.
  std::vector<std::shared_ptr<KeyPool>> pools(const std::vector<Backend>& backends,
                                              const Breaker::Limits& breaker = Breaker::Limits());

 private:
  std::map<std::string, std::shared_ptr<KeyPool::Instance>> instances_;
};

}  // namespace llm_proxy
